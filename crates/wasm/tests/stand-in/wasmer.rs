//! A stand-in for Wasmer's library, which no package has and whose build takes longer than all tests: its functions with its types, as far as the
//! handler calls them, with wasmi as the engine, so that programs do run. It holds the handler to the order and the ownership that the headers
//! demand: a call out of order is a panic, which ends the container. Not here: the handler (`src/c/wasmer.rs`), its tests (`tests/integration/wasm.rs`).
//!
//! Everything is one of its kind in a process, so that what the functions give out are addresses of a few cells.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use wasmi::{Caller, Engine, Error, ExternType, Linker, Module, Store, TypedFunc};
use wasmi_wasi::wasi_common::sync::Dir;
use wasmi_wasi::{WasiCtx, WasiCtxBuilder, ambient_authority};

type Handle = *mut c_void;
type Callback = unsafe extern "C" fn(Handle, *const List<Value>, *mut List<Value>) -> Handle;

#[repr(C)]
pub struct List<T> {
    size: usize,
    data: *mut T,
}

#[repr(C)]
pub struct Value {
    kind: u8,
    of: u64,
}

/// What an import is bound to.
#[derive(Clone, Copy)]
enum Import {
    Wasi,
    Own(Callback, Handle),
}

#[derive(Default)]
struct State {
    module: Option<Module>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dirs: Vec<(String, String)>,
    inherits: [bool; 3],
    environment: bool,
    /// In the order of the module.
    imports: Vec<Import>,
    instance: bool,
    /// Addresses of the lists that the handler got.
    given: Vec<usize>,
    initialized: bool,
    /// What the last call that failed says.
    error: Option<String>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(f)
}

/// Cells whose addresses stand for what there is one of.
static CELLS: [u8; 8] = [0; 8];
const ENGINE: usize = 0;
const STORE: usize = 1;
const MODULE: usize = 2;
const CONFIG: usize = 3;
const ENVIRONMENT: usize = 4;
const INSTANCE: usize = 5;
const START: usize = 6;
const KIND: usize = 7;

fn cell(number: usize) -> Handle {
    ptr::from_ref(&CELLS[number]).cast_mut().cast()
}

fn is(handle: Handle, number: usize) {
    assert_eq!(handle, cell(number), "the argument is not what that function takes");
}

fn text(at: *const c_char) -> String {
    // SAFETY: the handler gives strings of C.
    unsafe { CStr::from_ptr(at) }.to_str().expect("UTF-8").to_owned()
}

fn give<T>(list: *mut List<T>, items: Vec<T>) {
    let items = Box::leak(items.into_boxed_slice());
    with(|state| state.given.push(items.as_ptr().addr()));
    // SAFETY: the handler gives the address of a list.
    unsafe { *list = List { size: items.len(), data: items.as_mut_ptr() } };
}

fn fail<T>(error: impl ToString, answer: T) -> T {
    with(|state| state.error = Some(error.to_string()));
    answer
}

#[unsafe(no_mangle)]
extern "C" fn wasm_engine_new() -> Handle {
    cell(ENGINE)
}

#[unsafe(no_mangle)]
extern "C" fn wasm_store_new(engine: Handle) -> Handle {
    is(engine, ENGINE);
    cell(STORE)
}

#[unsafe(no_mangle)]
extern "C" fn wasm_module_new(store: Handle, bytes: *const List<u8>) -> Handle {
    is(store, STORE);
    // SAFETY: a list of the handler's.
    let bytes = unsafe { std::slice::from_raw_parts((*bytes).data, (*bytes).size) };
    match Module::new(&Engine::default(), bytes) {
        Ok(module) => with(|state| {
            state.module = Some(module);
            cell(MODULE)
        }),
        Err(e) => fail(e, ptr::null_mut()),
    }
}

/// A name of an import, as the functions below give it out.
struct ImportType {
    module: List<u8>,
    name: List<u8>,
}

#[unsafe(no_mangle)]
extern "C" fn wasm_module_imports(module: Handle, out: *mut List<Handle>) {
    is(module, MODULE);
    let name = |name: &str| {
        let bytes = Box::leak(name.as_bytes().to_vec().into_boxed_slice());
        List { size: bytes.len(), data: bytes.as_mut_ptr() }
    };
    let types = with(|state| {
        let imports = state.module.as_ref().expect("a module").imports();
        imports.map(|i| Box::into_raw(Box::new(ImportType { module: name(i.module()), name: name(i.name()) })).cast()).collect()
    });
    give(out, types);
}

#[unsafe(no_mangle)]
extern "C" fn wasm_importtype_module(import: Handle) -> *const List<u8> {
    // SAFETY: one of those above.
    unsafe { &raw const (*import.cast::<ImportType>()).module }
}

#[unsafe(no_mangle)]
extern "C" fn wasm_importtype_name(import: Handle) -> *const List<u8> {
    // SAFETY: one of those above.
    unsafe { &raw const (*import.cast::<ImportType>()).name }
}

#[unsafe(no_mangle)]
extern "C" fn wasm_valtype_new(kind: u8) -> Handle {
    assert_eq!(kind, 0, "only 32-bit numbers are asked for");
    cell(KIND)
}

#[unsafe(no_mangle)]
extern "C" fn wasm_valtype_vec_new(out: *mut List<Handle>, size: usize, items: *const Handle) {
    // SAFETY: the handler gives that many elements, or null for none.
    give(out, if size == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(items, size) }.to_vec() });
}

/// Takes both lists for itself: they must be this library's, whose allocator frees them.
#[unsafe(no_mangle)]
extern "C" fn wasm_functype_new(params: *mut List<Handle>, results: *mut List<Handle>) -> Handle {
    // SAFETY: lists of the handler's.
    let (params, results) = unsafe { (&*params, &*results) };
    assert_eq!((params.size, results.size), (1, 0), "the type of `proc_exit`");
    with(|state| assert!(state.given.contains(&params.data.addr()), "a list of somebody else's"));
    // SAFETY: it has that one element.
    is(unsafe { *params.data }, KIND);
    cell(KIND)
}

#[unsafe(no_mangle)]
extern "C" fn wasm_func_new_with_env(
    store: Handle,
    kind: Handle,
    callback: Callback,
    environment: Handle,
    _: Option<unsafe extern "C" fn(Handle)>,
) -> Handle {
    is(store, STORE);
    is(kind, KIND);
    assert!(!environment.is_null(), "the real library takes no function without an environment");
    Box::into_raw(Box::new(Import::Own(callback, environment))).cast()
}

#[unsafe(no_mangle)]
extern "C" fn wasm_func_as_extern(function: Handle) -> Handle {
    function
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_new(name: *const c_char) -> Handle {
    with(|state| state.args.push(text(name)));
    cell(CONFIG)
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_arg(config: Handle, arg: *const c_char) {
    is(config, CONFIG);
    with(|state| state.args.push(text(arg)));
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_env(config: Handle, name: *const c_char, value: *const c_char) {
    is(config, CONFIG);
    with(|state| state.env.push((text(name), text(value))));
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_mapdir(config: Handle, alias: *const c_char, dir: *const c_char) -> bool {
    is(config, CONFIG);
    with(|state| state.dirs.push((text(alias), text(dir))));
    true
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_inherit_stdin(_: Handle) {
    with(|state| state.inherits[0] = true);
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_inherit_stdout(_: Handle) {
    with(|state| state.inherits[1] = true);
}

#[unsafe(no_mangle)]
extern "C" fn wasi_config_inherit_stderr(_: Handle) {
    with(|state| state.inherits[2] = true);
}

#[unsafe(no_mangle)]
extern "C" fn wasi_env_new(store: Handle, config: Handle) -> Handle {
    is(store, STORE);
    is(config, CONFIG);
    with(|state| {
        assert!(!state.environment, "the configuration is the environment's already");
        assert_eq!(state.inherits, [true; 3], "standard streams");
        state.environment = true;
    });
    cell(ENVIRONMENT)
}

#[unsafe(no_mangle)]
extern "C" fn wasi_get_imports(store: Handle, environment: Handle, module: Handle, out: *mut List<Handle>) -> bool {
    is(store, STORE);
    is(environment, ENVIRONMENT);
    is(module, MODULE);
    let bare = with(|state| !state.module.as_ref().expect("a module").imports().any(|i| i.module().starts_with("wasi_")));
    if bare {
        return fail("The WASI version could not be determined", false);
    }
    let foreign = with(|state| {
        let imports = state.module.as_ref().expect("a module").imports();
        let foreign = imports.into_iter().find(|i| !i.module().starts_with("wasi_") || !matches!(i.ty(), ExternType::Func(_)));
        foreign.map(|i| format!("Failed to resolve import \"{}\" \"{}\"", i.module(), i.name()))
    });
    if let Some(error) = foreign {
        return fail(error, false);
    }
    let count = with(|state| state.module.as_ref().expect("a module").imports().count());
    give(out, (0..count).map(|_| Box::into_raw(Box::new(Import::Wasi)).cast()).collect());
    true
}

#[unsafe(no_mangle)]
extern "C" fn wasm_instance_new(store: Handle, module: Handle, imports: *const List<Handle>, _: *mut Handle) -> Handle {
    is(store, STORE);
    is(module, MODULE);
    // SAFETY: the list that was given out above, whose elements are imports.
    let imports = unsafe {
        let list = &*imports;
        let handles = if list.size == 0 { &[][..] } else { std::slice::from_raw_parts(list.data, list.size) };
        handles.iter().map(|handle| *handle.cast::<Import>()).collect()
    };
    with(|state| (state.imports, state.instance) = (imports, true));
    cell(INSTANCE)
}

#[unsafe(no_mangle)]
extern "C" fn wasi_env_initialize_instance(environment: Handle, store: Handle, instance: Handle) -> bool {
    is(environment, ENVIRONMENT);
    is(store, STORE);
    is(instance, INSTANCE);
    with(|state| state.initialized = state.instance);
    true
}

#[unsafe(no_mangle)]
extern "C" fn wasi_get_start_function(instance: Handle) -> Handle {
    is(instance, INSTANCE);
    cell(START)
}

/// Runs the program; a trap's message otherwise.
#[unsafe(no_mangle)]
extern "C" fn wasm_func_call(function: Handle, args: *const List<Value>, results: *mut List<Value>) -> Handle {
    is(function, START);
    // SAFETY: lists of the handler's.
    assert_eq!(unsafe { ((*args).size, (*results).size) }, (0, 0), "`_start` takes nothing and gives nothing");
    let state = STATE.take();
    assert!(state.initialized || state.imports.is_empty(), "the instance has no WASI");
    match run(&state) {
        Ok(()) => ptr::null_mut(),
        Err(e) => Box::into_raw(Box::new(e.to_string())).cast(),
    }
}

fn run(state: &State) -> Result<(), Error> {
    let module = state.module.as_ref().expect("a module");
    let mut builder = WasiCtxBuilder::new();
    builder.inherit_stdio().args(&state.args).and_then(|b| b.envs(&state.env)).expect("arguments and environment");
    for (alias, dir) in &state.dirs {
        let dir = Dir::open_ambient_dir(dir, ambient_authority()).expect("a directory");
        builder.preopened_dir(dir, alias).expect("a directory");
    }
    let mut store = Store::new(module.engine(), builder.build());
    let mut linker = <Linker<WasiCtx>>::new(module.engine());
    wasmi_wasi::add_to_linker(&mut linker, |context| context).expect("WASI");
    linker.allow_shadowing(true);
    for (import, bound) in module.imports().zip(&state.imports) {
        let Import::Own(callback, environment) = *bound else { continue };
        // An address is not to be sent to other threads, of which there are none.
        let environment = environment as usize;
        linker.func_wrap(import.module(), import.name(), move |_: Caller<'_, WasiCtx>, status: i32| {
            // What is above the number is anything.
            let mut value = Value { kind: 0, of: 0xdead_beef_0000_0000 | u64::from(status.cast_unsigned()) };
            let args = List { size: 1, data: &raw mut value };
            let mut none = List { size: 0, data: ptr::null_mut() };
            // SAFETY: the callback's type and its environment.
            let trap = unsafe { callback(environment as Handle, &raw const args, &raw mut none) };
            assert!(!trap.is_null(), "`proc_exit` comes back");
            // SAFETY: one that `wasm_trap_new` made.
            Err::<(), _>(Error::new(*unsafe { Box::from_raw(trap.cast::<String>()) }))
        })?;
    }
    let instance = linker.instantiate_and_start(&mut store, module)?;
    let start: TypedFunc<(), ()> = instance.get_typed_func(&store, "_start")?;
    start.call(&mut store, ())
}

#[unsafe(no_mangle)]
extern "C" fn wasm_trap_new(store: Handle, message: *const List<u8>) -> Handle {
    is(store, STORE);
    // SAFETY: a list of the handler's.
    let bytes = unsafe { std::slice::from_raw_parts((*message).data, (*message).size) };
    let text = CStr::from_bytes_with_nul(bytes).expect("a message ends in a zero").to_str().expect("UTF-8");
    Box::into_raw(Box::new(text.to_owned())).cast()
}

#[unsafe(no_mangle)]
extern "C" fn wasm_trap_message(trap: Handle, out: *mut List<u8>) {
    // SAFETY: one of those above.
    let text = unsafe { &*trap.cast::<String>() };
    give(out, [text.as_bytes(), b"\0"].concat());
}

#[unsafe(no_mangle)]
extern "C" fn wasmer_last_error_length() -> c_int {
    with(|state| state.error.as_ref().map_or(0, |e| c_int::try_from(e.len()).expect("a short message") + 1))
}

#[unsafe(no_mangle)]
extern "C" fn wasmer_last_error_message(buffer: *mut c_char, length: c_int) -> c_int {
    let Some(error) = with(|state| state.error.take()) else { return 0 };
    let length = usize::try_from(length).expect("a length");
    if error.len() >= length {
        return -1;
    }
    // SAFETY: the handler gives room for that much, which is more than the message.
    unsafe { ptr::copy_nonoverlapping([error.as_bytes(), b"\0"].concat().as_ptr().cast(), buffer, error.len() + 1) };
    c_int::try_from(error.len() + 1).expect("a short message")
}
