//! The container runtime inside the node, and bringing images into it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::command::{run, succeeds, which};
use crate::error::{Error, Result};
use crate::images::Archive;
use crate::network::Network;
use crate::node::Node;
use crate::parts::Programs;
use crate::preflight;
use crate::state::{Layout, Saved, write_file};

/// The image that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "mcp-health.local/pause:1";

/// The runtime's socket inside the node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Starts the runtime and waits until it answers.
pub fn start(
    layout: &Layout,
    network: Network,
    node: &Node,
    saved: &mut Saved,
    programs: &Programs,
) -> Result<()> {
    let plugins = programs.path("bridge")?.parent().unwrap_or(Path::new("/")).to_owned();
    let networks = layout.dir.join("config/cni");
    write_file(&networks.join("10-pods.conflist"), &pod_network(network))?;
    let config = layout.config("containerd.toml");
    write_file(&config, &configuration(&plugins, &networks)?)?;

    let daemon = programs.path("containerd")?;
    node.daemon(saved, "containerd", daemon, &["--config".to_owned(), config.display().to_string()])?;
    let ctr = programs.path("ctr")?;
    node.await_daemon(saved, "containerd", Duration::from_mins(1), || {
        layout.containerd_socket().exists() && succeeds(client(layout, ctr).arg("version"))
    })
}

/// Imports an image, unless the very same one is there.
pub fn import(layout: &Layout, ctr: &Path, archive: &Archive) -> Result<()> {
    let filter = format!("name=={}", archive.name);
    let listed = run("listing images", client(layout, ctr).args(["images", "list", &filter]))?;
    if listed.contains(&archive.digest) {
        return Ok(());
    }
    run(
        &format!("importing {}", archive.name),
        client(layout, ctr).args(["images", "import", "--snapshotter", snapshotter()]).arg(&archive.path),
    )
    .map(drop)
}

fn client(layout: &Layout, ctr: &Path) -> Command {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(layout.containerd_socket()).args(["--namespace", "k8s.io"]);
    command
}

fn snapshotter() -> &'static str {
    if preflight::has_overlay() { "overlayfs" } else { "native" }
}

fn configuration(plugins: &Path, networks: &Path) -> Result<String> {
    let runc = which("runc").ok_or_else(|| Error::other("runc is not installed"))?;
    Ok(format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
# Sandboxes ask for a low out-of-memory score; not everyone may grant it.
restrict_oom_score_adj = {restrict}

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{networks}"
"#,
        snapshotter = snapshotter(),
        restrict = !preflight::may_lower_oom_score(),
        runc = runc.display(),
        plugins = plugins.display(),
        networks = networks.display(),
    ))
}

/// One bridge for all pods. A pod reaches itself through its Service by the bridge's hairpin mode.
fn pod_network(network: Network) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}
