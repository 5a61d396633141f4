//! WasmEdge, by libwasmedge.so.0: an interpreter that also runs what its own compiler has put into a module. Not here: plug-ins, none of which
//! is loaded.
//!
//! The types are those of wasmedge/wasmedge.h 0.14.1, the version that was tried. One that lacks a function used here is refused.

use super::strings::Strings;
use super::{api, said};
use crate::handler::{Command, Engine, PREOPENED};
use crate::module;
use runtime_core::api::handler::HandlerRequest;
use runtime_core::{Error, Result};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// `WasmEdge_HostRegistration_Wasi`.
const WASI: c_int = 0;
/// The code of `WasmEdge_Result_Terminate`: the program has called `proc_exit`.
const TERMINATED: u32 = 1;

/// `WasmEdge_Result`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Outcome {
    code: u32,
}

/// `WasmEdge_String`.
#[repr(C)]
struct Text {
    length: u32,
    buffer: *const c_char,
}

/// `WasmEdge_ConfigureContext`, `WasmEdge_VMContext` and others, of which only the address is known.
type Handle = *mut c_void;

api! { "libwasmedge.so.0":
    WasmEdge_ConfigureCreate: fn() -> Handle;
    WasmEdge_ConfigureAddHostRegistration: fn(Handle, c_int);
    WasmEdge_VMCreate: fn(Handle, Handle) -> Handle;
    WasmEdge_VMLoadWasmFromBuffer: fn(Handle, *const u8, u32) -> Outcome;
    WasmEdge_VMValidate: fn(Handle) -> Outcome;
    WasmEdge_VMInstantiate: fn(Handle) -> Outcome;
    WasmEdge_VMExecute: fn(Handle, Text, *const c_void, u32, *mut c_void, u32) -> Outcome;
    WasmEdge_VMGetImportModuleContext: fn(Handle, c_int) -> Handle;
    WasmEdge_ModuleInstanceInitWASI: fn(Handle, *const *const c_char, u32, *const *const c_char, u32, *const *const c_char, u32);
    WasmEdge_ModuleInstanceWASIGetExitCode: fn(Handle) -> u32;
    WasmEdge_ResultOK: fn(Outcome) -> bool;
    WasmEdge_ResultGetMessage: fn(Outcome) -> *const c_char;
    WasmEdge_LogOff: fn();
}

/// The library and, once it is loaded, the virtual machine with the program.
pub(crate) struct WasmEdge {
    api: Api,
    vm: Handle,
}

// SAFETY: the machine is made in the child, which has one thread; before, the address is null.
unsafe impl Send for WasmEdge {}
// SAFETY: as above.
unsafe impl Sync for WasmEdge {}

impl WasmEdge {
    fn done(&self, outcome: Outcome) -> std::result::Result<(), String> {
        // SAFETY: takes a number.
        if unsafe { (self.api.WasmEdge_ResultOK)(outcome) } {
            return Ok(());
        }
        // SAFETY: takes a number; the message is a constant of the library's.
        Err(unsafe { said((self.api.WasmEdge_ResultGetMessage)(outcome)) }.unwrap_or_else(|| format!("error {}", outcome.code)))
    }
}

impl Engine for WasmEdge {
    const NAME: &'static str = "wasmedge";
    const TAG: &'static str = "WASM:wasmedge";

    fn usable() -> Result<()> {
        Api::load().map(drop)
    }

    fn prepare(_: &HandlerRequest<'_>) -> Result<Self> {
        Ok(Self { api: Api::load()?, vm: ptr::null_mut() })
    }

    fn load(&mut self, program: &[u8], _: &Command) -> Result<()> {
        let module = module::command(program)?;
        let length = u32::try_from(module.len()).map_err(|_| Error::invalid("the module is larger than 4 GiB"))?;
        // SAFETY: none takes anything but what the one before made; a null store makes the machine have its own.
        let (vm, loaded) = unsafe {
            // It would tell on standard output, beside what is told here.
            (self.api.WasmEdge_LogOff)();
            let configuration = (self.api.WasmEdge_ConfigureCreate)();
            (self.api.WasmEdge_ConfigureAddHostRegistration)(configuration, WASI);
            let vm = (self.api.WasmEdge_VMCreate)(configuration, ptr::null_mut());
            if vm.is_null() {
                return Err(Error::other("WasmEdge makes no virtual machine"));
            }
            // The bytes live through the call, which parses them.
            (vm, (self.api.WasmEdge_VMLoadWasmFromBuffer)(vm, module.as_ptr(), length))
        };
        self.vm = vm;
        self.done(loaded).map_err(Error::invalid)?;
        // SAFETY: takes the machine.
        self.done(unsafe { (self.api.WasmEdge_VMValidate)(vm) }).map_err(Error::invalid)
    }

    fn run(&mut self, command: &Command) -> std::result::Result<i32, String> {
        let (args, env) = (Strings::of(command.args.iter().map(String::as_str))?, Strings::of(command.pairs())?);
        let preopened = Strings::of(PREOPENED.map(|path| format!("{path}:{path}")))?;
        // SAFETY: takes the machine, null before `load`, which the library answers with null.
        let wasi = unsafe { (self.api.WasmEdge_VMGetImportModuleContext)(self.vm, WASI) };
        if wasi.is_null() {
            return Err("WasmEdge has no WASI".to_owned());
        }
        // SAFETY: arrays of strings and how many they are, which live through the call; it copies them.
        unsafe {
            (self.api.WasmEdge_ModuleInstanceInitWASI)(
                wasi,
                args.as_ptr(),
                args.len(),
                env.as_ptr(),
                env.len(),
                preopened.as_ptr(),
                preopened.len(),
            );
        }
        // SAFETY: takes the machine, in which a module was validated.
        let mut outcome = unsafe { (self.api.WasmEdge_VMInstantiate)(self.vm) };
        self.done(outcome)?;
        if outcome.code != TERMINATED {
            let start = Text { length: 6, buffer: c"_start".as_ptr() };
            // SAFETY: the name has that length; no parameters and no results, whose arrays may be null then.
            outcome = unsafe { (self.api.WasmEdge_VMExecute)(self.vm, start, ptr::null(), 0, ptr::null_mut(), 0) };
            self.done(outcome)?;
        }
        // SAFETY: takes the module that the machine has, which lives as long.
        Ok((unsafe { (self.api.WasmEdge_ModuleInstanceWASIGetExitCode)(wasi) } & 0xff).cast_signed())
    }
}
