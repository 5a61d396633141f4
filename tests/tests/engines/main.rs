//! Tests of engines with the runtime under test, for the test machines (`cargo xtask vm engines`). One file an engine or an area of podman's.

mod buildah;
mod containerd;
mod cri;
mod cri_client;
mod docker;
mod packages;
mod podman_files;
mod podman_life;
mod podman_limits;
mod podman_pods;
mod podman_run;
mod podman_wasm;

/// Tests that are run with each manager of cgroups: `NAME::by_systemd`, `NAME::by_files`. Each is a function of a [`harness::podman::Podman`];
/// after its name may come what else it needs.
#[macro_export]
macro_rules! with_each_manager {
    ($($name:ident $(($($need:expr),+))?),+ $(,)?) => {
        $( $crate::with_each_manager!(@ $name, Podman: Need::Tool("podman"), Need::Tool(image::SHELL); $($($need),+)?); )+
    };
    // With the engine; the need of the manager comes between the others.
    (@ $name:ident, $engine:ident: $($first:expr),+; $($need:expr),*) => {
        mod $name {
            #[allow(unused_imports)]
            use harness::{Need, behaviour, daemon::Containerd, image, podman::{Manager, Podman}};

            #[test]
            fn by_systemd() {
                let t = behaviour!($($first),+, Need::Systemd $(, $need)*);
                super::$name(&$engine::new(t, Manager::Systemd));
            }

            #[test]
            fn by_files() {
                let t = behaviour!($($first),+, Need::V2 $(, $need)*);
                super::$name(&$engine::new(t, Manager::Files));
            }
        }
    };
}

/// The same for functions of a [`harness::daemon::Containerd`], which wants cgroup v2 with either.
#[macro_export]
macro_rules! with_containerd {
    ($name:ident) => {
        $crate::with_each_manager!(@ $name, Containerd: Need::Root, Need::V2;
            Need::Controller("memory"), Need::Tool("containerd"), Need::Tool("ctr"), Need::Tool(image::SHELL));
    };
}
