# Lets jobs of Nomad's docker driver ask for pinnace: config { runtime = "pinnace" } in a task. To be copied to /etc/nomad.d of the clients,
# whose Docker knows the runtime of that name (docker/daemon.json). Where a file there has a plugin "docker" already, allow_runtimes belongs into it.
plugin "docker" {
  config {
    allow_runtimes = ["runc", "nvidia", "pinnace"]
  }
}
