//! wasmi: an interpreter in Rust, small and quick to start. Modules of WASI preview 1, as bytes or as text; no components.

use crate::handler::{Command, Engine, PREOPENED, no_start, one_line};
use runtime_core::api::handler::HandlerRequest;
use runtime_core::{Error, Result};
use wasmi::{Linker, Module, Store, TypedFunc};
use wasmi_wasi::wasi_common::sync::Dir;
use wasmi_wasi::{WasiCtx, WasiCtxBuilder, ambient_authority};

/// The engine and, once it is loaded, the program.
pub(crate) struct Wasmi {
    module: Option<Module>,
}

impl Engine for Wasmi {
    const NAME: &'static str = "wasmi";
    const TAG: &'static str = "WASM:wasmi";

    fn prepare(_: &HandlerRequest<'_>) -> Result<Self> {
        Ok(Self { module: None })
    }

    fn load(&mut self, program: &[u8], _: &Command) -> Result<()> {
        let engine = wasmi::Engine::default();
        let module = Module::new(&engine, program).map_err(|e| Error::invalid(one_line(&e.to_string())))?;
        let command = module.exports().any(|export| export.name() == "_start" && export.ty().func().is_some());
        if !command {
            return Err(no_start());
        }
        self.module = Some(module);
        Ok(())
    }

    fn run(&mut self, command: &Command) -> std::result::Result<i32, String> {
        let module = self.module.take().ok_or("nothing is loaded")?;
        let context = context(command)?;
        let mut linker = <Linker<WasiCtx>>::new(module.engine());
        let mut store = Store::new(module.engine(), context);
        wasmi_wasi::add_to_linker(&mut linker, |context| context).map_err(|e| e.to_string())?;
        let done = linker.instantiate_and_start(&mut store, &module).and_then(|instance| {
            let start: TypedFunc<(), ()> = instance.get_typed_func(&store, "_start")?;
            start.call(&mut store, ())
        });
        match done {
            Ok(()) => Ok(0),
            Err(e) => e.i32_exit_status().map(|status| status & 0xff).ok_or_else(|| e.to_string()),
        }
    }
}

fn context(command: &Command) -> std::result::Result<WasiCtx, String> {
    let mut builder = WasiCtxBuilder::new();
    let filled = builder.inherit_stdio().args(&command.args).and_then(|b| b.envs(&command.env));
    filled.map_err(|e| e.to_string())?;
    for path in PREOPENED {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| format!("open `{path}`: {e}"))?;
        builder.preopened_dir(dir, path).map_err(|e| format!("{e:#}"))?;
    }
    Ok(builder.build())
}
