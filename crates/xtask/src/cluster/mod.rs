//! A real one-node Kubernetes on this machine, without a container engine or a registry.
//!
//! ```text
//! preflight ──► parts ──► pki ──► node ──► network ──► control_plane ─┐
//! (look first)  (build)           (namespaces)         containerd ────┴─► kubelet ──► addons ──► ready
//! ```
//!
//! [`Cluster::up`] goes that way and leaves alone what is already there, so that it also repairs. [`down::down`] ends
//! the node's first process; everything else lives in the node's namespaces and ends with it.

pub mod addons;
mod cgroups;
mod containerd;
mod control_plane;
pub mod down;
mod kubelet;
mod machine;
pub mod network;
mod node;
pub(crate) mod packages;
pub mod parts;
mod pki;
mod preflight;
pub mod process;
pub mod state;
pub mod status;

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::command::{run, run_with_input, succeeds, which};
use crate::error::{Error, Result};
use crate::images::Archive;
use crate::progress::{Step, say, seconds};
use network::Network;
use parts::Programs;
use process::wait_until;
use state::{Layout, Saved, write_file};

/// A cluster to work with: one of ours, or one that was there.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name; for one that was there, the name of its context.
    pub name: String,
    /// A kubeconfig whose current context is this cluster.
    pub kubeconfig: PathBuf,
    /// The context that was asked for; none for a cluster of ours.
    pub context: Option<String>,
    /// kubectl.
    pub kubectl: PathBuf,
    /// Helm.
    pub helm: PathBuf,
    ours: Option<Ours>,
}

/// What only a cluster of ours has.
#[derive(Debug, Clone)]
struct Ours {
    layout: Layout,
    network: Network,
    ctr: PathBuf,
}

impl Cluster {
    /// Brings the cluster called `name` up, or what of it is missing, and waits until it is ready. `install` allows
    /// to install system packages.
    pub fn up(name: &str, install: bool) -> Result<Self> {
        let layout = Layout::new(name)?;
        let _lock = layout.lock()?;
        let mut saved = Saved::load(&layout);
        let programs = prepare(&layout, &mut saved, install)?;
        let started = Instant::now();

        let network = match saved.network {
            Some(network) => network,
            None => *saved.network.insert(Network::choose(&layout.id)?),
        };
        pki::ensure(&layout, network)?;
        link_programs(&layout, &programs)?;

        let step = Step::start("starting the node");
        let node = node::ensure(&layout, &mut saved, programs.path("pause")?)?;
        network::ensure(&layout, network, &node)?;
        // The API server takes longest, so the container runtime starts beside it.
        control_plane::start(&layout, network, &node, &mut saved, &programs)?;
        step.note("the container runtime");
        containerd::start(&layout, network, &node, &mut saved, &programs)?;
        step.note("the first images");
        addons::import_images(&layout, &programs)?;
        step.done();

        let step = Step::start("starting the control plane");
        let cluster = Self::ours(layout.clone(), network, &programs)?;
        control_plane::await_ready(&cluster, &node, &saved)?;
        control_plane::start_controllers(&layout, network, &node, &mut saved, &programs)?;
        kubelet::start(&layout, network, &node, &mut saved, &programs)?;
        cluster.apply(&addons::manifest(network))?;
        step.done();

        let step = Step::start("waiting for the node and for DNS");
        std::thread::scope(|scope| {
            let metrics = scope.spawn(|| addons::add_metrics(&cluster, &layout, &programs));
            cluster.await_ready(&layout, network, &node, &saved, &step)?;
            step.note("metrics-server");
            metrics.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        step.done();
        saved.store(&layout)?;
        say(&format!("the cluster {name} is ready after {}", seconds(started.elapsed())));
        Ok(cluster)
    }

    /// The cluster of ours called `name`, which has to be up.
    pub fn open(name: &str) -> Result<Self> {
        let layout = Layout::new(name)?;
        let saved = Saved::load(&layout);
        let (Some(network), Some(_)) = (saved.network, node::find(&layout, &saved)) else {
            return Err(Error::other(format!(
                "the cluster {name} is not up: run `cargo xtask cluster up{}`",
                if name == state::DEFAULT_NAME { String::new() } else { format!(" --name {name}") }
            )));
        };
        Self::ours(layout, network, &Programs { paths: saved.programs, versions: saved.versions })
    }

    /// A cluster that is there, by the name of its context in the user's kubeconfig. Nothing is built for it but
    /// kubectl and Helm where `PATH` has none.
    pub fn existing(context: &str) -> Result<Self> {
        let program = |name: &str, part: &'static parts::Part| match which(name) {
            Some(path) => Ok(path),
            None => parts::ensure(&[part])?.path(name).map(Path::to_owned),
        };
        let kubectl = program("kubectl", &parts::KUBERNETES)?;
        let helm = program("helm", &parts::HELM)?;
        // A file of its own: whatever the user switches to meanwhile, this stays with the cluster that was named.
        let config = run(
            &format!("reading the context {context}"),
            Command::new(&kubectl).args(["config", "view", "--minify", "--flatten", "--context", context]),
        )?;
        let file: String =
            context.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let kubeconfig = crate::cache::root()?.join("contexts").join(format!("{file}.kubeconfig"));
        write_file(&kubeconfig, &config)?;
        let cluster = Self {
            name: context.to_owned(),
            kubeconfig,
            context: Some(context.to_owned()),
            kubectl,
            helm,
            ours: None,
        };
        run(
            &format!("reaching the cluster of the context {context}"),
            cluster.kubectl().args(["--request-timeout=10s", "get", "--raw", "/version"]),
        )?;
        Ok(cluster)
    }

    fn ours(layout: Layout, network: Network, programs: &Programs) -> Result<Self> {
        Ok(Self {
            name: layout.name.clone(),
            kubeconfig: layout.kubeconfig(),
            context: None,
            kubectl: programs.path("kubectl")?.to_owned(),
            helm: programs.path("helm")?.to_owned(),
            ours: Some(Ours { network, ctr: programs.path("ctr")?.to_owned(), layout }),
        })
    }

    /// Whether the cluster was brought up by [`Cluster::up`].
    pub fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// This machine's address as pods reach it; none for a cluster that was there.
    pub fn host_address(&self) -> Option<Ipv4Addr> {
        self.ours.as_ref().map(|ours| ours.network.host())
    }

    /// Where the logs of the cluster's own parts are; none for a cluster that was there.
    pub fn logs(&self) -> Option<PathBuf> {
        self.ours.as_ref().map(|ours| ours.layout.dir.join("logs"))
    }

    /// A kubectl that talks to this cluster; arguments are to be added.
    pub fn kubectl(&self) -> Command {
        self.client(&self.kubectl)
    }

    /// A Helm that talks to this cluster; arguments are to be added.
    pub fn helm(&self) -> Command {
        self.client(&self.helm)
    }

    fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_remove("HELM_KUBECONTEXT").arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(ours) = &self.ours {
            command.env("NO_PROXY", no_proxy(ours.network)).env_remove("no_proxy");
        }
        command
    }

    /// Runs kubectl to its end and gives what it wrote.
    pub fn kubectl_run<I, S>(&self, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        run("kubectl", self.kubectl().args(arguments))
    }

    /// Applies a manifest on the server's side.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut command = self.kubectl();
        command.args(["apply", "--server-side", "--force-conflicts", "--filename=-"]);
        run_with_input("applying a manifest", &mut command, manifest).map(drop)
    }

    /// Brings an image into the cluster; the same image twice is brought once.
    pub fn load_image(&self, archive: &Archive) -> Result<()> {
        if let Some(ours) = &self.ours {
            return containerd::import(&ours.layout, &ours.ctr, archive);
        }
        let context = self.context.as_deref().unwrap_or_default();
        if let (Some(name), Some(kind)) = (context.strip_prefix("kind-"), which("kind")) {
            let mut command = Command::new(kind);
            command.args(["load", "image-archive", "--name", name]).arg(&archive.path);
            return run(&format!("loading {}", archive.name), &mut command).map(drop);
        }
        if let Some(minikube) = which("minikube")
            && succeeds(Command::new(&minikube).args(["--profile", context, "status"]))
        {
            let mut command = Command::new(minikube);
            command.args(["--profile", context, "image", "load"]).arg(&archive.path);
            return run(&format!("loading {}", archive.name), &mut command).map(drop);
        }
        Err(Error::other(format!(
            "cannot bring images into the cluster of the context {context}: it is neither kind nor minikube. Its nodes \
             need {name} under exactly that name; the image is the OCI archive {path}",
            name = archive.name,
            path = archive.path.display(),
        )))
    }

    /// Waits until pods can run and names resolve.
    fn await_ready(
        &self,
        layout: &Layout,
        network: Network,
        node: &node::Node,
        saved: &Saved,
        step: &Step,
    ) -> Result<()> {
        let limit = Duration::from_mins(2);
        let node_name = layout.node_name();
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        step.note("the kubelet");
        node.await_daemon(saved, "kubelet", limit, || {
            self.kubectl_run(["get", "node", &node_name, "-o", ready]).is_ok_and(|status| status == "True")
        })?;
        step.note("the default service account");
        node.await_daemon(saved, "kube-controller-manager", limit, || {
            self.kubectl_run(["get", "serviceaccount", "default"]).is_ok()
        })?;
        for daemon in ["kube-scheduler", "containerd"] {
            node.await_daemon(saved, daemon, Duration::from_secs(1), || true)?;
        }
        step.note("DNS");
        // From here through kube-proxy to a pod: if that answers, so will everything else.
        let dns = SocketAddr::from((network.dns_service(), 53));
        let answered =
            wait_until(limit, || TcpStream::connect_timeout(&dns, Duration::from_millis(500)).is_ok());
        node.await_daemon(saved, "kube-proxy", Duration::from_secs(1), || true)?;
        if answered {
            return Ok(());
        }
        let pods = self
            .kubectl_run(["--namespace=kube-system", "describe", "pods", "--selector=k8s-app=kube-dns"])
            .unwrap_or_else(|error| error.to_string());
        Err(Error::Part {
            part: "CoreDNS".to_owned(),
            problem: format!("did not answer on {dns} within {} s", limit.as_secs()),
            log: crate::command::last_lines(&pods, 20),
        })
    }
}

/// The shell lines that point a terminal at the cluster called `name`.
pub fn shell_environment(name: &str) -> Result<String> {
    let layout = Layout::new(name)?;
    let cluster = Cluster::open(name)?;
    let mut lines = format!(
        "export KUBECONFIG='{}'; export PATH='{}':\"$PATH\"",
        layout.kubeconfig().display(),
        layout.bin().display()
    );
    let proxied = ["HTTPS_PROXY", "https_proxy"].iter().any(|name| std::env::var_os(name).is_some());
    if let (true, Some(ours)) = (proxied, &cluster.ours) {
        lines = format!("{lines}; export NO_PROXY='{}'; unset no_proxy", no_proxy(ours.network));
    }
    Ok(lines)
}

/// The user's exceptions from a proxy, and the cluster's addresses, which no proxy reaches.
fn no_proxy(network: Network) -> String {
    let current = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")).unwrap_or_default();
    let ours = network.all();
    if current.is_empty() || current.split(',').any(|part| part == ours) {
        return if current.is_empty() { ours } else { current };
    }
    format!("{current},{ours}")
}

/// Checks the machine and builds the parts. A cluster that runs keeps the programs that it was started with.
fn prepare(layout: &Layout, saved: &mut Saved, install: bool) -> Result<Programs> {
    let running = node::find(layout, saved).is_some();
    let intact = !saved.programs.is_empty() && saved.programs.values().all(|path| path.exists());
    if running && intact {
        return Ok(Programs { paths: saved.programs.clone(), versions: saved.versions.clone() });
    }
    preflight::check(&parts::ALL, install)?;
    let programs = parts::ensure(&parts::ALL)?;
    saved.programs.clone_from(&programs.paths);
    saved.versions.clone_from(&programs.versions);
    Ok(programs)
}

/// Links the programs that a person may want into one folder.
fn link_programs(layout: &Layout, programs: &Programs) -> Result<()> {
    let bin = layout.bin();
    state::write_folder(&bin)?;
    for name in ["kubectl", "helm", "ctr"] {
        let link = bin.join(name);
        let target = programs.path(name)?;
        if std::fs::read_link(&link).is_ok_and(|old| old == target) {
            continue;
        }
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).map_err(Error::file("link", &link))?;
    }
    Ok(())
}
