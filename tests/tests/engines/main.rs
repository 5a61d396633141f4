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
    ($($name:ident $(($($need:expr),+))?),+ $(,)?) => { $(
        mod $name {
            #[allow(unused_imports)]
            use harness::{Need, behaviour, image, podman::{Manager, Podman}};

            #[test]
            fn by_systemd() {
                let t = behaviour!(Need::Tool("podman"), Need::Tool(image::SHELL), Need::Systemd $($(, $need)+)?);
                super::$name(&Podman::new(t, Manager::Systemd));
            }

            #[test]
            fn by_files() {
                let t = behaviour!(Need::Tool("podman"), Need::Tool(image::SHELL), Need::V2 $($(, $need)+)?);
                super::$name(&Podman::new(t, Manager::Files));
            }
        }
    )+ };
}

/// The same for functions of a [`harness::daemon::Containerd`].
#[macro_export]
macro_rules! with_containerd {
    ($name:ident) => {
        mod $name {
            use harness::{Need, behaviour, daemon::Containerd, image, podman::Manager};

            #[test]
            fn by_systemd() {
                let t = behaviour!(
                    Need::Root,
                    Need::V2,
                    Need::Systemd,
                    Need::Controller("memory"),
                    Need::Tool("containerd"),
                    Need::Tool("ctr"),
                    Need::Tool(image::SHELL)
                );
                super::$name(&Containerd::new(t, Manager::Systemd));
            }

            #[test]
            fn by_files() {
                let t = behaviour!(
                    Need::Root,
                    Need::V2,
                    Need::Controller("memory"),
                    Need::Tool("containerd"),
                    Need::Tool("ctr"),
                    Need::Tool(image::SHELL)
                );
                super::$name(&Containerd::new(t, Manager::Files));
            }
        }
    };
}
