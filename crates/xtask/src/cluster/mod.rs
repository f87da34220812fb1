//! A real one-node Kubernetes on this machine, without a container engine or a registry.
//!
//! ```text
//! preflight ──► parts ──► pki ─┬─► node ──► network ──► control_plane ─┐
//! (look first)  (build)        │   (namespaces)         containerd ────┴─► kubelet ──► addons ──► ready
//!                              └─► simulated: control_plane ──► kwok ──► ready
//! ```
//!
//! Where this machine cannot run a node, the same control plane runs without one, and KWOK plays the node.
//!
//! [`Cluster::up`] goes that way and leaves alone what is already there, so that it also repairs. [`down::down`] ends
//! the node's first process; everything else lives in the node's namespaces and ends with it.

pub mod addons;
mod cgroups;
mod containerd;
mod control_plane;
pub mod down;
pub mod endpoints;
pub mod kind;
mod kubelet;
pub mod kwok;
mod machine;
pub mod network;
pub mod node;
pub(crate) mod packages;
pub mod parts;
mod pki;
pub mod preflight;
pub mod process;
mod simulated;
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
use endpoints::Endpoints;
use kind::{Kind, Wanted};
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
    /// What its node has; none where the node is simulated.
    real: Option<Real>,
}

/// What only a real node has.
#[derive(Debug, Clone)]
struct Real {
    network: Network,
    ctr: PathBuf,
}

/// How a cluster is to be brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What it is to have for a node.
    pub node: Wanted,
    /// How many simulated nodes it is to have that ordinary pods stay away from; none: as many as it has.
    pub simulated_nodes: Option<u32>,
    /// Whether system packages may be installed.
    pub install: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { node: Wanted::Auto, simulated_nodes: None, install: true }
    }
}

impl Cluster {
    /// Brings the cluster called `name` up, or what of it is missing, and waits until it is ready.
    pub fn up(name: &str, plan: &Plan) -> Result<Self> {
        let layout = Layout::new(name)?;
        let known = layout.dir.exists();
        let lock = layout.lock()?;
        let mut saved = Saved::load(&layout);
        let started = Instant::now();
        let outcome = Self::bring_up(&layout, &mut saved, plan);
        if outcome.is_err() && !known {
            // A first start that fails leaves nothing of a simulated cluster, and of one that was refused.
            if saved.kind == Kind::Simulated && layout.dir.exists() {
                node::stop(&layout, &saved)?;
                down::remove_folder(&layout.dir)?;
            }
            if !layout.dir.exists() {
                let _ = std::fs::remove_file(layout.lock_file());
            }
        }
        drop(lock);
        let cluster = outcome?;
        say(&format!("the cluster {name} is ready after {}", seconds(started.elapsed())));
        Ok(cluster)
    }

    /// What the cluster called `name` has for a node; none where there is no such cluster.
    pub fn kind(name: &str) -> Result<Option<Kind>> {
        let layout = Layout::new(name)?;
        Ok(kind_of(&layout, &Saved::load(&layout)))
    }

    fn bring_up(layout: &Layout, saved: &mut Saved, plan: &Plan) -> Result<Self> {
        saved.kind = preflight::choose(plan.node, kind_of(layout, saved), plan.install)?;
        if let Some(count) = plan.simulated_nodes {
            saved.simulated_nodes = kwok::check_count(count)?;
        }
        let programs = prepare(layout, saved)?;
        match saved.kind {
            Kind::Real => Self::up_real(layout, saved, &programs),
            Kind::Simulated => simulated::up(layout, saved, &programs),
        }
    }

    fn up_real(layout: &Layout, saved: &mut Saved, programs: &Programs) -> Result<Self> {
        let network = match saved.network {
            Some(network) => network,
            None => *saved.network.insert(Network::choose(&layout.id)?),
        };
        let at = (network, Endpoints::of_node(network));
        pki::ensure(layout, network)?;
        pki::kubeconfigs(layout, at.1)?;
        link_programs(layout, programs)?;

        let step = Step::start("starting the node");
        let node = node::ensure(layout, saved, programs.path("pause")?)?;
        network::ensure(layout, network, &node)?;
        // The API server takes longest, so the container runtime starts beside it.
        control_plane::start(layout, at, &node, saved, programs)?;
        step.note("the container runtime");
        containerd::start(layout, network, &node, saved, programs)?;
        step.note("the first images");
        addons::import_images(layout, programs)?;
        step.done();

        let step = Step::start("starting the control plane");
        let cluster = Self::real(layout, network, programs)?;
        control_plane::await_ready(&cluster, &node, saved)?;
        control_plane::start_controllers(layout, at, &node, saved, programs)?;
        kubelet::start(layout, network, &node, saved, programs)?;
        cluster.apply(&addons::manifest(network))?;
        step.done();

        let step = Step::start("waiting for the node and for DNS");
        std::thread::scope(|scope| {
            let metrics = scope.spawn(|| addons::add_metrics(&cluster, layout, programs));
            cluster.await_ready(layout, network, &node, saved, &step)?;
            step.note("metrics-server, Prometheus and Alertmanager");
            metrics.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        step.done();
        // Also where there are to be none any more.
        if programs.path("kwok").is_ok() {
            let step = Step::start(format!(
                "simulated nodes: {}, for pods that tolerate {}",
                saved.simulated_nodes,
                kwok::TAINT
            ));
            kwok::start(layout, network, &node, saved, programs)?;
            kwok::ensure_nodes(&cluster, layout, &node, saved, false)?;
            step.done();
        }
        saved.store(layout)?;
        Ok(cluster)
    }

    /// The cluster of ours called `name`, which has to be up.
    pub fn open(name: &str) -> Result<Self> {
        let layout = Layout::new(name)?;
        let saved = Saved::load(&layout);
        let (Some(network), Some(_)) = (saved.network, node::find(&layout, &saved)) else {
            return Err(Error::other(format!(
                "the cluster {name} is not up: run `cargo xtask cluster up{}`",
                state::name_option(name)
            )));
        };
        let kind = saved.kind;
        let programs = Programs { paths: saved.programs, versions: saved.versions };
        match kind {
            Kind::Real => Self::real(&layout, network, &programs),
            Kind::Simulated => Self::simulated(&layout, &programs),
        }
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

    fn real(layout: &Layout, network: Network, programs: &Programs) -> Result<Self> {
        let ctr = programs.path("ctr")?.to_owned();
        Self::ours(layout, Some(Real { network, ctr }), programs)
    }

    fn simulated(layout: &Layout, programs: &Programs) -> Result<Self> {
        Self::ours(layout, None, programs)
    }

    fn ours(layout: &Layout, real: Option<Real>, programs: &Programs) -> Result<Self> {
        Ok(Self {
            name: layout.name.clone(),
            kubeconfig: layout.kubeconfig(),
            context: None,
            kubectl: programs.path("kubectl")?.to_owned(),
            helm: programs.path("helm")?.to_owned(),
            ours: Some(Ours { layout: layout.clone(), real }),
        })
    }

    /// Whether the cluster was brought up by [`Cluster::up`].
    pub fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// Whether it has no node that runs anything: pods are played.
    pub fn is_simulated(&self) -> bool {
        self.ours.as_ref().is_some_and(|ours| ours.real.is_none())
    }

    fn real_node(&self) -> Option<&Real> {
        self.ours.as_ref()?.real.as_ref()
    }

    /// This machine's address as pods reach it; none for a cluster that was there, or whose pods reach nothing.
    pub fn host_address(&self) -> Option<Ipv4Addr> {
        self.real_node().map(|real| real.network.host())
    }

    /// Where everything of it is; none for a cluster that was there.
    pub fn folder(&self) -> Option<PathBuf> {
        self.ours.as_ref().map(|ours| ours.layout.dir.clone())
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
            command.env("NO_PROXY", no_proxy(ours)).env_remove("no_proxy");
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
        if let Some(Ours { layout, real }) = &self.ours {
            // A simulated node takes every image for its own.
            return real.as_ref().map_or(Ok(()), |real| containerd::import(layout, &real.ctr, archive));
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
        lines = format!("{lines}; export NO_PROXY='{}'; unset no_proxy", no_proxy(ours));
    }
    Ok(lines)
}

/// The user's exceptions from a proxy, and the cluster's addresses, which no proxy reaches.
fn no_proxy(ours: &Ours) -> String {
    let current = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")).unwrap_or_default();
    let ours = ours.real.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |real| real.network.all());
    if current.is_empty() || current.split(',').any(|part| part == ours) {
        return if current.is_empty() { ours } else { current };
    }
    format!("{current},{ours}")
}

/// What the cluster has for a node; none where it was never brought up.
fn kind_of(layout: &Layout, saved: &Saved) -> Option<Kind> {
    (saved.network.is_some() || node::find(layout, saved).is_some()).then_some(saved.kind)
}

/// Builds the parts. A cluster that runs keeps the programs that it was started with, and gets those of parts that it
/// does not have yet.
fn prepare(layout: &Layout, saved: &mut Saved) -> Result<Programs> {
    let running = node::find(layout, saved).is_some();
    let intact = !saved.programs.is_empty() && saved.programs.values().all(|path| path.exists());
    if !(running && intact) {
        saved.programs.clear();
        saved.versions.clear();
    }
    let has = |part: &parts::Part| part.programs().all(|name| saved.programs.contains_key(name));
    let mut wanted: Vec<&'static parts::Part> =
        parts::of(saved.kind).iter().copied().filter(|part| !has(part)).collect();
    if saved.simulated_nodes > 0 && !saved.programs.contains_key("kwok") && saved.kind == Kind::Real {
        wanted.push(&parts::KWOK);
    }
    preflight::check_parts(&wanted)?;
    let programs = parts::ensure(&wanted)?;
    saved.programs.extend(programs.paths);
    saved.versions.extend(programs.versions);
    Ok(Programs { paths: saved.programs.clone(), versions: saved.versions.clone() })
}

/// Links the programs that a person may want into one folder.
fn link_programs(layout: &Layout, programs: &Programs) -> Result<()> {
    let bin = layout.bin();
    state::write_folder(&bin)?;
    for name in ["kubectl", "helm", "ctr"] {
        let link = bin.join(name);
        let Ok(target) = programs.path(name) else { continue };
        if std::fs::read_link(&link).is_ok_and(|old| old == target) {
            continue;
        }
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).map_err(Error::file("link", &link))?;
    }
    Ok(())
}
