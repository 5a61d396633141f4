//! containerd through Kubernetes' interface: a pod. Not here: containerd's own client (`containerd`), the calls (`cri_client`).

use std::fs;

use harness::daemon::{Containerd, IMAGE};
use harness::podman::Manager;
use harness::{Place, eventually};

use crate::cri_client::{
    Client, ContainerConfig, ContainerMetadata, ContainerSecurity, CreateContainerRequest, DnsConfig, ExecSyncRequest, ExecSyncResponse,
    Id, ImageSpec, Int64Value, KeyValue, LinuxContainer, LinuxPod, Mode, Mount, NamespaceOption, Nothing, PodMetadata, PodSandboxConfig,
    Resources, RunPodSandboxRequest, SandboxSecurity, State, StatsResponse, StatusResponse, StopContainerRequest, UpdateRequest,
};

use crate::with_containerd;

with_containerd!(a_pod);

/// Without a network of its own, for which containerd needs plugins; its processes see each other.
fn namespaces() -> NamespaceOption {
    NamespaceOption { network: Mode::Node.into(), pid: Mode::Pod.into(), ipc: Mode::Pod.into() }
}

struct Pod<'a> {
    client: &'a Client,
    config: PodSandboxConfig,
    id: String,
}

impl Pod<'_> {
    fn container(&self, name: &str, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> Result<String, tonic::Status> {
        let security = ContainerSecurity { namespace_options: Some(namespaces()), no_new_privs: true, ..ContainerSecurity::default() };
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into() }),
            image: Some(ImageSpec { image: IMAGE.into() }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainer { resources: None, security_context: Some(security) }),
            ..ContainerConfig::default()
        };
        change(&mut config);
        let asked =
            CreateContainerRequest { pod_sandbox_id: self.id.clone(), config: Some(config), sandbox_config: Some(self.config.clone()) };
        let made: Id = self.client.call("CreateContainer", asked)?;
        self.client.call::<_, Nothing>("StartContainer", Id { id: made.id.clone() })?;
        Ok(made.id)
    }

    fn exec(&self, container: &str, script: &str) -> (i32, String) {
        let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        let asked = ExecSyncRequest { container_id: container.into(), cmd, timeout: 60 };
        let told: ExecSyncResponse = self.client.call("ExecSync", asked).unwrap_or_else(|e| panic!("{script}: {e}"));
        (told.exit_code, String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).trim().to_owned())
    }

    fn status(&self, container: &str) -> (State, i32) {
        let told: StatusResponse = self.client.call("ContainerStatus", Id { id: container.into() }).expect("a status");
        let status = told.status.expect("a status");
        (status.state(), status.exit_code)
    }
}

fn a_pod(containerd: &Containerd) {
    let client = Client::new(&containerd.socket());
    let dir = containerd.test.dir().join("given");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("word"), "given").unwrap();
    let parent = match containerd.manager {
        Manager::Systemd => "pinnacetest.slice",
        Manager::Files => "/pinnacetest",
    };
    let config = PodSandboxConfig {
        metadata: Some(PodMetadata { name: "pod".into(), uid: "uid".into(), namespace: "default".into(), attempt: 0 }),
        log_directory: dir.to_str().unwrap().into(),
        // Without it containerd wants the host's file, which the test machines lack.
        dns_config: Some(DnsConfig { servers: vec!["127.0.0.1".into()] }),
        linux: Some(LinuxPod {
            cgroup_parent: parent.into(),
            security_context: Some(SandboxSecurity { namespace_options: Some(namespaces()) }),
        }),
        ..PodSandboxConfig::default()
    };
    let mut id = String::new();
    // The image is known to the service a moment after it was brought in.
    eventually("the pod", || {
        let asked = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: "tested".into() };
        match client.call::<_, Id>("RunPodSandbox", asked) {
            Ok(told) => id = told.id,
            Err(e) => eprintln!("RunPodSandbox: {e}"),
        }
        !id.is_empty()
    });
    let pod = Pod { client: &client, config, id };

    let wait = "trap 'exit 4' TERM; while :; do sleep 0.1; done";
    let first = pod
        .container("first", wait, |c| {
            c.envs = vec![KeyValue { key: "A".into(), value: "1".into() }];
            c.mounts = vec![Mount { container_path: "/mnt/given".into(), host_path: dir.to_str().unwrap().into(), readonly: true }];
            let linux = c.linux.as_mut().unwrap();
            linux.resources =
                Some(Resources { memory_limit_in_bytes: 64 << 20, cpu_period: 100_000, cpu_quota: 50_000, ..Resources::default() });
            linux.security_context.as_mut().unwrap().readonly_rootfs = true;
        })
        .unwrap();
    let second = pod
        .container("second", "echo said; sleep 1000", |c| {
            c.linux.as_mut().unwrap().security_context.as_mut().unwrap().run_as_user = Some(Int64Value { value: 1000 });
        })
        .unwrap();

    let links = |id: &str| pod.exec(id, "for n in ipc pid net mnt; do readlink /proc/self/ns/$n; done").1;
    let (a, b) = (links(&first), links(&second));
    let same: Vec<bool> = a.lines().zip(b.lines()).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, true, false], "{a}\n{b}");
    assert_eq!(
        pod.exec(&first, "echo $A; cat /mnt/given/word; (echo x >/x) 2>/dev/null || echo read-only"),
        (0, "1\ngivenread-only".into())
    );
    assert_eq!(pod.exec(&first, "cd /sys/fs/cgroup; cat memory.max cpu.max"), (0, "67108864\n50000 100000".into()));
    assert_eq!(pod.exec(&second, "id -u; exit 9"), (9, "1000".into()));
    assert_eq!(pod.exec(&second, "grep NoNewPrivs /proc/self/status | cut -f2"), (0, "1".into()));
    let seen = pod.exec(&second, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").1;
    assert!(seen.contains("trap"), "processes of the other container: {seen}");
    eventually("its log", || fs::read_to_string(dir.join("second.log")).is_ok_and(|text| text.ends_with("stdout F said\n")));

    let resources = Resources { memory_limit_in_bytes: 128 << 20, cpu_period: 100_000, cpu_quota: 25_000, ..Resources::default() };
    let asked = UpdateRequest { container_id: first.clone(), linux: Some(resources) };
    client.call::<_, Nothing>("UpdateContainerResources", asked).unwrap();
    assert_eq!(pod.exec(&first, "cd /sys/fs/cgroup; cat memory.max cpu.max"), (0, "134217728\n25000 100000".into()));
    let stats: StatsResponse = client.call("ContainerStats", Id { id: first.clone() }).unwrap();
    let used = stats.stats.and_then(|s| s.memory).and_then(|m| m.working_set_bytes).map_or(0, |bytes| bytes.value);
    assert!((1..=128 << 20).contains(&used), "{used}");

    // What can't be executed is named.
    let refused = pod.container("third", "", |c| c.command = vec!["/no/such/program".into()]).unwrap_err();
    assert!(refused.message().contains("/no/such/program"), "{refused}");
    assert!(refused.message().contains("No such file or directory"), "{refused}");
    let gone: Result<StatusResponse, _> = client.call("ContainerStatus", Id { id: "no-such-container".into() });
    assert_eq!(gone.unwrap_err().code(), tonic::Code::NotFound);

    assert_eq!(pod.status(&first), (State::Running, 0));
    client.call::<_, Nothing>("StopContainer", StopContainerRequest { container_id: first.clone(), timeout: 30 }).unwrap();
    assert_eq!(pod.status(&first), (State::Exited, 4));
    // A second stop, and one that has to kill.
    client.call::<_, Nothing>("StopContainer", StopContainerRequest { container_id: first.clone(), timeout: 30 }).unwrap();
    client.call::<_, Nothing>("StopContainer", StopContainerRequest { container_id: second.clone(), timeout: 0 }).unwrap();
    assert_eq!(pod.status(&second), (State::Exited, 137));
    for container in [first, second] {
        client.call::<_, Nothing>("RemoveContainer", Id { id: container }).unwrap();
    }
    client.call::<_, Nothing>("StopPodSandbox", Id { id: pod.id.clone() }).unwrap();
    client.call::<_, Nothing>("RemovePodSandbox", Id { id: pod.id.clone() }).unwrap();
    match containerd.manager {
        Manager::Systemd => _ = std::process::Command::new("systemctl").args(["stop", parent]).status(),
        Manager::Files => _ = Place::get().unified.as_ref().map(|root| fs::remove_dir(root.join(&parent[1..]))),
    }
}
