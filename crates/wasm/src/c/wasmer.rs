//! Wasmer, by libwasmer.so: a compiler. Not here: its own packages and the rest of WASIX beyond what a module imports.
//!
//! The types are those of wasm.h (the common C API of WebAssembly engines) and wasmer.h 7.4.2, the version that was
//! tried. One that lacks a function used here is refused.
//!
//! The library compiles with threads of its own and makes threads for WASI. Threads that exist before the filter and the labels of the container
//! are set would not have them: all it does here it does in `run`.

use super::{api, said, text};
use crate::handler::{Command, Engine, PREOPENED};
use crate::module;
use runtime_core::Result;
use runtime_core::api::handler::HandlerRequest;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// The status that the program gave to `proc_exit`, or [`NONE`].
static STATUS: AtomicI32 = AtomicI32::new(NONE);
const NONE: i32 = -1;
/// `WASM_I32`.
const I32: u8 = 0;

/// `wasm_engine_t`, `wasm_store_t` and others, of which only the address is known.
type Handle = *mut c_void;

/// `wasm_byte_vec_t`, `wasm_extern_vec_t`, `wasm_valtype_vec_t` and others: a number of elements and their array.
#[repr(C)]
struct List<T> {
    size: usize,
    data: *mut T,
}

impl<T> List<T> {
    const EMPTY: Self = Self { size: 0, data: ptr::null_mut() };
}

/// `wasm_val_t`, in which `proc_exit` gets its argument.
#[repr(C)]
struct Value {
    kind: u8,
    /// A union, whose members are at most that wide.
    of: u64,
}

type Callback = unsafe extern "C" fn(*mut c_void, *const List<Value>, *mut List<Value>) -> Handle;

api! { "libwasmer.so":
    wasm_engine_new: fn() -> Handle;
    wasm_store_new: fn(Handle) -> Handle;
    wasm_module_new: fn(Handle, *const List<u8>) -> Handle;
    wasm_module_imports: fn(Handle, *mut List<Handle>);
    wasm_importtype_module: fn(Handle) -> *const List<u8>;
    wasm_importtype_name: fn(Handle) -> *const List<u8>;
    wasm_valtype_new: fn(u8) -> Handle;
    wasm_valtype_vec_new: fn(*mut List<Handle>, usize, *const Handle);
    wasm_functype_new: fn(*mut List<Handle>, *mut List<Handle>) -> Handle;
    wasm_func_new_with_env: fn(Handle, Handle, Callback, *mut c_void, Option<unsafe extern "C" fn(*mut c_void)>) -> Handle;
    wasm_func_as_extern: fn(Handle) -> Handle;
    wasm_func_call: fn(Handle, *const List<Value>, *mut List<Value>) -> Handle;
    wasm_instance_new: fn(Handle, Handle, *const List<Handle>, *mut Handle) -> Handle;
    wasm_trap_new: fn(Handle, *const List<u8>) -> Handle;
    wasm_trap_message: fn(Handle, *mut List<u8>);
    wasi_config_new: fn(*const c_char) -> Handle;
    wasi_config_arg: fn(Handle, *const c_char);
    wasi_config_env: fn(Handle, *const c_char, *const c_char);
    wasi_config_mapdir: fn(Handle, *const c_char, *const c_char) -> bool;
    wasi_config_inherit_stdin: fn(Handle);
    wasi_config_inherit_stdout: fn(Handle);
    wasi_config_inherit_stderr: fn(Handle);
    wasi_env_new: fn(Handle, Handle) -> Handle;
    wasi_get_imports: fn(Handle, Handle, Handle, *mut List<Handle>) -> bool;
    wasi_env_initialize_instance: fn(Handle, Handle, Handle) -> bool;
    wasi_get_start_function: fn(Handle) -> Handle;
    wasmer_last_error_length: fn() -> c_int;
    wasmer_last_error_message: fn(*mut c_char, c_int) -> c_int;
}

/// The library and, once it is checked, the program.
pub(crate) struct Wasmer {
    api: Api,
    module: Vec<u8>,
}

impl Engine for Wasmer {
    const NAME: &'static str = "wasmer";
    const TAG: &'static str = "WASM:wasmer";

    fn usable() -> Result<()> {
        Api::load().map(drop)
    }

    fn prepare(_: &HandlerRequest<'_>) -> Result<Self> {
        Ok(Self { api: Api::load()?, module: Vec::new() })
    }

    fn load(&mut self, program: &[u8], _: &Command) -> Result<()> {
        self.module = module::command(program)?.into_owned();
        Ok(())
    }

    fn run(&mut self, command: &Command) -> std::result::Result<i32, String> {
        let api = self.api;
        let bytes = List { size: self.module.len(), data: self.module.as_mut_ptr() };
        // SAFETY: each takes what the one before made; the bytes live through the call, which reads them.
        let (store, module) = unsafe {
            let store = (api.wasm_store_new)(api.some((api.wasm_engine_new)(), "start the engine")?);
            (api.some(store, "start the engine")?, api.some((api.wasm_module_new)(store, &raw const bytes), "compile the module")?)
        };
        let mut types = List::EMPTY;
        // SAFETY: takes the module and a list to fill in.
        unsafe { (api.wasm_module_imports)(module, &raw mut types) };
        let (mut imports, mut environment) = (List::EMPTY, ptr::null_mut());
        // Of a module that imports nothing the library does not know the version of WASI.
        if types.size != 0 {
            let config = api.config(command)?;
            // SAFETY: each takes what was made before, the environment the configuration for itself. The list is filled in by the library.
            environment = unsafe {
                let environment = api.some((api.wasi_env_new)(store, config), "prepare WASI")?;
                if !(api.wasi_get_imports)(store, environment, module, &raw mut imports) {
                    return Err(api.last_error("find what the module imports"));
                }
                environment
            };
            Exit { api, store }.replace(&types, &imports)?;
        }
        let mut trap = ptr::null_mut();
        // SAFETY: all was made before, and the imports are as many as the module has; a trap is written down if its start function traps.
        let instance = unsafe { (api.wasm_instance_new)(store, module, &raw const imports, &raw mut trap) };
        if instance.is_null() && trap.is_null() {
            return Err(api.last_error("instantiate the module"));
        }
        if trap.is_null() {
            // SAFETY: all was made before. The function takes nothing and gives nothing, for which the lists are empty.
            trap = unsafe {
                if !environment.is_null() && !(api.wasi_env_initialize_instance)(environment, store, instance) {
                    return Err(api.last_error("prepare WASI"));
                }
                let start = api.some((api.wasi_get_start_function)(instance), "find the function `_start`")?;
                let (none, mut nothing) = (List::EMPTY, List::EMPTY);
                (api.wasm_func_call)(start, &raw const none, &raw mut nothing)
            };
        }
        match (STATUS.load(Ordering::Relaxed), trap.is_null()) {
            (NONE, true) => Ok(0),
            (NONE, false) => Err(api.message(trap)),
            (status, _) => Ok(status),
        }
    }
}

impl Api {
    fn some(&self, handle: Handle, what: &str) -> std::result::Result<Handle, String> {
        if handle.is_null() { Err(self.last_error(what)) } else { Ok(handle) }
    }

    /// What the library says about the call that has just failed.
    fn last_error(&self, what: &str) -> String {
        // SAFETY: takes nothing.
        let length = unsafe { (self.wasmer_last_error_length)() };
        // The library wants a byte more than it says.
        let mut room = vec![0_u8; usize::try_from(length).unwrap_or_default() + 2];
        // SAFETY: there is room for that much, and for a zero behind it.
        let why = unsafe {
            (self.wasmer_last_error_message)(room.as_mut_ptr().cast(), length + 1);
            said(room.as_ptr().cast())
        };
        format!("{what}: {}", why.filter(|w| !w.is_empty()).unwrap_or_else(|| "the library does not say why".to_owned()))
    }

    fn message(&self, trap: Handle) -> String {
        let mut message = List::<u8>::EMPTY;
        // SAFETY: takes a trap and a list to fill in.
        unsafe { (self.wasm_trap_message)(trap, &raw mut message) };
        // SAFETY: the library filled it in.
        let bytes = unsafe { bytes(&message) };
        let text = String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        crate::handler::one_line(&text)
    }

    /// What WASI is to give the program.
    fn config(&self, command: &Command) -> std::result::Result<Handle, String> {
        let name = text(command.args.first().map(String::as_str).unwrap_or_default())?;
        // SAFETY: takes a string, which it copies.
        let config = self.some(unsafe { (self.wasi_config_new)(name.as_ptr()) }, "prepare WASI")?;
        for arg in command.args.iter().skip(1) {
            let arg = text(arg.as_str())?;
            // SAFETY: takes the configuration and a string, which it copies.
            unsafe { (self.wasi_config_arg)(config, arg.as_ptr()) };
        }
        for (name, value) in &command.env {
            let (name, value) = (text(name.as_str())?, text(value.as_str())?);
            // SAFETY: as above, two strings.
            unsafe { (self.wasi_config_env)(config, name.as_ptr(), value.as_ptr()) };
        }
        for path in PREOPENED {
            let name = text(path)?;
            // SAFETY: as above, two strings.
            if !unsafe { (self.wasi_config_mapdir)(config, name.as_ptr(), name.as_ptr()) } {
                return Err(self.last_error(&format!("open `{path}`")));
            }
        }
        // SAFETY: takes the configuration.
        unsafe {
            (self.wasi_config_inherit_stdin)(config);
            (self.wasi_config_inherit_stdout)(config);
            (self.wasi_config_inherit_stderr)(config);
        }
        Ok(config)
    }
}

/// A `proc_exit` of our own. Of the library's the caller learns no more than that it was called: a trap with words of its own.
struct Exit {
    api: Api,
    store: Handle,
}

impl Exit {
    /// Puts it into `imports`, which are in the order in which the module names them by `types`.
    fn replace(self, types: &List<Handle>, imports: &List<Handle>) -> std::result::Result<(), String> {
        let api = self.api;
        if types.size != imports.size {
            return Err(format!("the library has {} imports for the {} of the module", imports.size, types.size));
        }
        let store = self.store;
        // The function lives as long as the process, and so does this.
        let kept: *mut Self = Box::into_raw(Box::new(self));
        for at in 0..types.size {
            // SAFETY: the lists have that many elements; names live as long as the types.
            let (module, name) = unsafe {
                let import = *types.data.add(at);
                (bytes(&*(api.wasm_importtype_module)(import)), bytes(&*(api.wasm_importtype_name)(import)))
            };
            if name != b"proc_exit" || !module.starts_with(b"wasi_") {
                continue;
            }
            // SAFETY: takes a number.
            let number = unsafe { (api.wasm_valtype_new)(I32) };
            // SAFETY: the type takes the lists and what is in them for itself, all of which the library has allocated: it frees them. The callback
            // has the type of its kind. What stood in the list of imports is not freed, nor ever the list.
            unsafe {
                let (mut params, mut nothing) = (List::EMPTY, List::EMPTY);
                (api.wasm_valtype_vec_new)(&raw mut params, 1, &raw const number);
                (api.wasm_valtype_vec_new)(&raw mut nothing, 0, ptr::null());
                let kind = (api.wasm_functype_new)(&raw mut params, &raw mut nothing);
                let function = api.some((api.wasm_func_new_with_env)(store, kind, exit, kept.cast(), None), "make `proc_exit`")?;
                *imports.data.add(at) = (api.wasm_func_as_extern)(function);
            }
        }
        Ok(())
    }
}

/// Writes the status down and ends the program by a trap.
unsafe extern "C" fn exit(own: *mut c_void, args: *const List<Value>, _: *mut List<Value>) -> Handle {
    // SAFETY: the environment that the function was made with, and the one argument of its type, a number of 32 bits.
    let (own, status) = unsafe { (&*own.cast::<Exit>(), (*(*args).data).of) };
    STATUS.store((status & 0xff) as i32, Ordering::Relaxed);
    let mut words = *b"the program has ended\0";
    let message = List { size: words.len(), data: words.as_mut_ptr() };
    // SAFETY: takes the store and a message, which ends in a zero and which it copies.
    unsafe { (own.api.wasm_trap_new)(own.store, &raw const message) }
}

/// # Safety
/// A list that the library made, or the empty one, and that lives as long as what is returned.
unsafe fn bytes(list: &List<u8>) -> &[u8] {
    if list.data.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(list.data, list.size) }
}
