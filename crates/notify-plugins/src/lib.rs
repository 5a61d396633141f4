//! Seccomp notify plugins: shared objects of the host that answer the notifications of a container's seccomp filter, by crun's interface
//! (`seccomp_notify_plugin.h`, API version 1), named by the annotation `run.oci.seccomp.plugins`. Only a dynamic program can load them.
//!
//! A process of its own loads them, and answers as long as some process has the filter; the runtime ends, and other programs that embed it are
//! not changed by what a plugin does. Not here: who asks (`runtime_core::engine`), the filter.

mod loaded;
mod serve;
mod trust;

use runtime_core::api::{PluginsRequest, SeccompPlugins};
use runtime_core::{Error, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

#[cfg(target_feature = "crt-static")]
compile_error!("a static program cannot load shared objects: build without `-C target-feature=+crt-static`");

/// Loads plugins. Making one costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NotifyPlugins;

impl SeccompPlugins for NotifyPlugins {
    fn check(&self, list: &str) -> Result<()> {
        paths(list).map(drop)
    }

    fn serve(&self, request: &PluginsRequest<'_>, notify: OwnedFd) -> Result<()> {
        serve::in_background(&paths(request.plugins)?, request, &notify)
    }
}

/// The files of a list `A:B`, which others than root and the caller cannot have written.
fn paths(list: &str) -> Result<Vec<PathBuf>> {
    let one = |path: &str| {
        // Where a name without a slash would be looked for is up to the environment.
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("invalid relative plugin path: `{path}`")));
        }
        trust::resolve(Path::new(path))
    };
    list.split(':').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_exist() {
        for (list, text) in [
            ("x.so", "invalid relative plugin path: `x.so`"),
            ("", "invalid relative plugin path: ``"),
            ("/nonexistent/x.so", "seccomp notify plugin `/nonexistent/x.so`: No such file or directory"),
            ("/proc/self/exe:", "invalid relative plugin path: ``"),
        ] {
            let e = NotifyPlugins.check(list).unwrap_err();
            assert!(e.to_string().contains(text), "{list}: {e}");
        }
    }
}
