//! WAMR, the WebAssembly Micro Runtime, by libiwasm.so: an interpreter that also runs what `wamrc` has compiled. Not here: its sockets, which are no
//! part of WASI preview 1.
//!
//! The types are those of wasm_export.h as the package `wamr-sys` 0.1.1 carries it, of 2020, but for the function for the exit code, which came later
//! and takes an instance, too. No other version was tried.

use super::strings::Strings;
use super::{api, said};
use crate::handler::{Command, Engine, PREOPENED};
use crate::module;
use runtime_core::api::handler::HandlerRequest;
use runtime_core::{Error, Result};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// The stack of the interpreter's values, in bytes. Its own program has 64 KiB, which is little for programs that recurse.
const STACK: u32 = 1 << 20;
/// The heap that the host may allocate from in the program's memory, in bytes; nothing of WASI does.
const HEAP: u32 = 16 << 10;
/// What a module that is compiled ahead of time begins with. It is native code, about which the library is asked only.
const COMPILED: &[u8] = b"\0aot";

/// The exception that `proc_exit` throws.
const EXITED: &str = "wasi proc exit";

/// `wasm_module_t`, `wasm_module_inst_t` and others, of which only the address is known.
type Handle = *mut c_void;
type Texts = *const *const c_char;

api! { "libiwasm.so":
    wasm_runtime_init: fn() -> bool;
    wasm_runtime_load: fn(*mut u8, u32, *mut c_char, u32) -> Handle;
    wasm_runtime_set_wasi_args: fn(Handle, Texts, u32, Texts, u32, Texts, u32, Texts, c_int);
    wasm_runtime_instantiate: fn(Handle, u32, u32, *mut c_char, u32) -> Handle;
    wasm_runtime_is_wasi_mode: fn(Handle) -> bool;
    wasm_runtime_lookup_function: fn(Handle, *const c_char, *const c_char) -> Handle;
    wasm_runtime_create_exec_env: fn(Handle, u32) -> Handle;
    wasm_runtime_call_wasm: fn(Handle, Handle, u32, *mut u32) -> bool;
    wasm_runtime_get_exception: fn(Handle) -> *const c_char;
    wasm_runtime_get_wasi_exit_code: fn(Handle) -> u32;
}

/// The library and, once it is loaded, the program.
pub(crate) struct Wamr {
    api: Api,
    module: Handle,
    /// The program's bytes, which the library changes and refers to.
    bytes: Vec<u8>,
}

// SAFETY: the module is made in the child, which has one thread; before, the address is null.
unsafe impl Send for Wamr {}
// SAFETY: as above.
unsafe impl Sync for Wamr {}

impl Engine for Wamr {
    const NAME: &'static str = "wamr";
    const TAG: &'static str = "WASM:wamr";

    fn usable() -> Result<()> {
        Api::load().map(drop)
    }

    fn prepare(_: &HandlerRequest<'_>) -> Result<Self> {
        Ok(Self { api: Api::load()?, module: ptr::null_mut(), bytes: Vec::new() })
    }

    fn load(&mut self, program: &[u8], _: &Command) -> Result<()> {
        self.bytes = if program.starts_with(COMPILED) { program.to_vec() } else { module::command(program)?.into_owned() };
        let length = u32::try_from(self.bytes.len()).map_err(|_| Error::invalid("the module is larger than 4 GiB"))?;
        // SAFETY: takes nothing, and this is the only call of it.
        if !unsafe { (self.api.wasm_runtime_init)() } {
            return Err(Error::other("WAMR does not start"));
        }
        let mut told = Told::new();
        // SAFETY: the bytes are this object's alone and live as long as the module; there is room for that much of a message.
        let module = unsafe { (self.api.wasm_runtime_load)(self.bytes.as_mut_ptr(), length, told.as_mut_ptr(), Told::LEN) };
        if module.is_null() {
            return Err(Error::invalid(told.text()));
        }
        self.module = module;
        Ok(())
    }

    fn run(&mut self, command: &Command) -> std::result::Result<i32, String> {
        if self.module.is_null() {
            return Err("nothing is loaded".to_owned());
        }
        let (args, env) = (Strings::of(command.args.iter().map(String::as_str))?, Strings::of(command.pairs())?);
        let preopened = Strings::of(PREOPENED)?;
        let mut told = Told::new();
        // SAFETY: arrays of strings and how many they are; the library refers to them until the program has ended, and they live here until
        // then. No directory has another name in the program.
        let instance = unsafe {
            (self.api.wasm_runtime_set_wasi_args)(
                self.module,
                preopened.as_ptr(),
                preopened.len(),
                ptr::null(),
                0,
                env.as_ptr(),
                env.len(),
                args.as_ptr(),
                args.len().cast_signed(),
            );
            (self.api.wasm_runtime_instantiate)(self.module, STACK, HEAP, told.as_mut_ptr(), Told::LEN)
        };
        if instance.is_null() {
            return Err(told.text());
        }
        // SAFETY: takes the instance and a name. The third argument, a signature, older versions ignore, and newer ones do not have.
        let start = unsafe { (self.api.wasm_runtime_lookup_function)(instance, c"_start".as_ptr(), ptr::null()) };
        if start.is_null() {
            return Err("there is no function `_start`".to_owned());
        }
        // SAFETY: takes the instance, and the function found in it, which takes nothing and gives nothing.
        let ended = unsafe {
            let environment = (self.api.wasm_runtime_create_exec_env)(instance, STACK);
            if environment.is_null() {
                return Err("WAMR makes no stack for the program".to_owned());
            }
            (self.api.wasm_runtime_call_wasm)(environment, start, 0, ptr::null_mut())
        };
        // SAFETY: takes the instance; an exception's text lives as long.
        let exception = unsafe { said((self.api.wasm_runtime_get_exception)(instance)) }.unwrap_or_default();
        let exception = exception.strip_prefix("Exception: ").unwrap_or(&exception);
        // `proc_exit` ends a program by an exception, which some versions take away again.
        if !ended && !exception.is_empty() && exception != EXITED {
            return Err(exception.to_owned());
        }
        // SAFETY: takes the instance, which has an exit code where the module imports WASI.
        let status = unsafe {
            if (self.api.wasm_runtime_is_wasi_mode)(instance) { (self.api.wasm_runtime_get_wasi_exit_code)(instance) } else { 0 }
        };
        Ok((status & 0xff).cast_signed())
    }
}

/// Room for the message of a function that fails.
struct Told([c_char; 256]);

impl Told {
    fn new() -> Self {
        Self([0; 256])
    }

    fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    const LEN: u32 = 256;

    fn text(mut self) -> String {
        self.0[255] = 0;
        // SAFETY: it ends in a zero, at the latest in the one above.
        unsafe { said(ptr::addr_of!(self.0).cast()) }.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_up_to_their_end() {
        let mut told = Told::new();
        assert_eq!(Told::new().text(), "");
        // Without an end.
        told.0.fill(b'x'.cast_signed());
        assert_eq!(told.text(), "x".repeat(255));
        // SAFETY: null.
        assert_eq!(unsafe { said(ptr::null()) }, None);
    }
}
