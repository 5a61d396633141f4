//! Wasmtime: a compiler. Modules of WASI preview 1 and components of preview 2 (`wasi:cli/run`), as bytes or as text. Not here: where
//! compiled code is kept (`cache`).
//!
//! WASI is asynchronous in this engine, by tokio. Its executor has one thread, the process's own, and exists only while the program runs: in
//! the child, when nothing else of the runtime does.

use crate::cache::{Cache, Slot};
use crate::handler::{Command, Engine, PREOPENED, is_component, no_start, one_line};
use runtime_core::api::handler::HandlerRequest;
use runtime_core::{Error, Result};
use wasmtime::component::{Component, ResourceTable};
use wasmtime::{Config, Linker, Module, Store, Trap, component};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::{self, bindings};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The engine and, once it is loaded, the program.
pub(crate) struct Wasmtime {
    slot: Option<Slot>,
    program: Option<Loaded>,
}

enum Loaded {
    Module(Module),
    Component(Component),
}

impl Engine for Wasmtime {
    const NAME: &'static str = "wasmtime";
    const TAG: &'static str = "WASM:wasmtime";

    fn prepare(request: &HandlerRequest<'_>) -> Result<Self> {
        let asking = asking(config()).map_err(|e| refused(&e))?;
        let slot = Cache::open(request.cache).and_then(|cache| cache.slot(request, asking.precompile_compatibility_hash()));
        let slot = slot.inspect_err(|e| tracing::debug!("no compiled code is kept: {e}")).ok().flatten();
        Ok(Self { slot, program: None })
    }

    fn load(&mut self, program: &[u8], _: &Command) -> Result<()> {
        let engine = wasmtime::Engine::new(&config()).map_err(|e| refused(&e))?;
        let binary = wat::parse_bytes(program).map_err(|e| Error::invalid(one_line(&e.to_string())))?;
        let mut slot = self.slot.as_mut().filter(|slot| slot.is_of(program));
        let is_component = is_component(&binary);
        let kept = slot.as_mut().and_then(|slot| slot.code()).and_then(|code| deserialized(&engine, &code, is_component));
        let loaded = match kept {
            Some(loaded) => loaded,
            None => {
                let loaded = compiled(&engine, &binary, is_component).map_err(|e| refused(&e))?;
                if let Some(slot) = slot {
                    let code = match &loaded {
                        Loaded::Module(module) => module.serialize(),
                        Loaded::Component(component) => component.serialize(),
                    };
                    // The program runs without it, too.
                    let _ = code.map(|code| slot.write(&code));
                }
                loaded
            }
        };
        if let Loaded::Module(module) = &loaded
            && module.get_export("_start").is_none_or(|export| export.func().is_none())
        {
            return Err(no_start());
        }
        self.program = Some(loaded);
        Ok(())
    }

    fn loaded(&mut self) -> Result<()> {
        self.slot.take().map_or(Ok(()), Slot::keep)
    }

    fn run(&mut self, command: &Command) -> std::result::Result<i32, String> {
        let program = self.program.take().ok_or("nothing is loaded")?;
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("start the executor: {e}"))?;
        let done = executor.block_on(async {
            match &program {
                Loaded::Module(module) => run_module(module, command).await,
                Loaded::Component(component) => run_component(component, command).await,
            }
        });
        done.or_else(|e| match e.downcast_ref::<I32Exit>() {
            Some(I32Exit(status)) => Ok(status & 0xff),
            None => Err(told(&e)),
        })
    }
}

/// What ended a program: the trap and where it was, innermost first.
fn told(e: &wasmtime::Error) -> String {
    match e.downcast_ref::<Trap>() {
        Some(trap) => one_line(&format!("{trap}: {e}")),
        None => one_line(&format!("{e:#}")),
    }
}

fn refused(e: &wasmtime::Error) -> Error {
    Error::invalid(one_line(&format!("{e:#}")))
}

fn config() -> Config {
    let mut config = Config::new();
    // Without images of memory there is no descriptor that would have to outlive the gate.
    config.memory_init_cow(false);
    config
}

/// An engine that only says what compiled code depends on: version, settings, processor. One that could run code would make its handlers of signals
/// those of the runtime, once and for all, and the child, which starts without any, would never have them.
fn asking(mut config: Config) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(config.signals_based_traps(false))
}

fn compiled(engine: &wasmtime::Engine, binary: &[u8], is_component: bool) -> wasmtime::Result<Loaded> {
    Ok(if is_component { Loaded::Component(Component::new(engine, binary)?) } else { Loaded::Module(Module::new(engine, binary)?) })
}

/// Code from the cache; `None` where it is of another version or processor, which its key should have said.
#[allow(unsafe_code)]
fn deserialized(engine: &wasmtime::Engine, code: &[u8], is_component: bool) -> Option<Loaded> {
    // SAFETY: the code comes from a file that only this user can have written, in a directory of this user's that nobody else can enter
    // (`cache`), where `Module::serialize` of a process like this put it before its program ran.
    let loaded = unsafe {
        if is_component {
            Component::deserialize(engine, code).map(Loaded::Component)
        } else {
            Module::deserialize(engine, code).map(Loaded::Module)
        }
    };
    loaded.ok()
}

fn context(command: &Command) -> wasmtime::Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    // What blocks, blocks the program: there is nothing else this thread could do.
    builder.inherit_stdio().allow_blocking_current_thread(true).args(&command.args).envs(&command.env);
    // The container's network is the program's.
    builder.inherit_network().allow_ip_name_lookup(true);
    for path in PREOPENED {
        builder.preopened_dir(path, path, FsPerms::ReadWrite)?;
    }
    Ok(builder)
}

async fn run_module(module: &Module, command: &Command) -> wasmtime::Result<i32> {
    let mut linker: Linker<WasiP1Ctx> = Linker::new(module.engine());
    p1::add_to_linker_async(&mut linker, |context| context)?;
    let mut store = Store::new(module.engine(), context(command)?.build_p1());
    let instance = linker.instantiate_async(&mut store, module).await?;
    instance.get_typed_func::<(), ()>(&mut store, "_start")?.call_async(&mut store, ()).await?;
    Ok(0)
}

struct Host {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

async fn run_component(component: &Component, command: &Command) -> wasmtime::Result<i32> {
    let mut linker: component::Linker<Host> = component::Linker::new(component.engine());
    p2::add_to_linker_async(&mut linker)?;
    let mut store = Store::new(component.engine(), Host { context: context(command)?.build(), table: ResourceTable::new() });
    let program = bindings::Command::instantiate_async(&mut store, component, &linker).await?;
    let result = program.wasi_cli_run().call_run(&mut store).await?;
    Ok(i32::from(result.is_err()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use wasmtime::ModuleVersionStrategy;

    fn version(config: Config) -> u64 {
        let mut hasher = DefaultHasher::new();
        asking(config).unwrap().precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn the_key_knows_the_version_and_the_settings() {
        let own = version(config());
        assert_eq!(own, version(config()));
        let mut other = config();
        other.module_version(ModuleVersionStrategy::Custom("47.0.0".into())).unwrap();
        assert_ne!(own, version(other), "another version of the engine");
        let mut other = config();
        other.cranelift_opt_level(wasmtime::OptLevel::None);
        assert_ne!(own, version(other), "another setting");
    }
}
