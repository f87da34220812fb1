//! A cluster to work with: what talks to it, and what brings images into it.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, run_with_input, succeeds, which};
use crate::containerd;
use crate::error::{Error, Result};
use crate::images::Archive;
use crate::kind::Kind;
use crate::network::Network;
use crate::node;
use crate::parts::{self, Programs};
use crate::state::{self, Layout, Saved, write_file};

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

impl Cluster {
    /// What the cluster called `name` has for a node; none where there is no such cluster.
    pub fn kind(name: &str) -> Result<Option<Kind>> {
        let layout = Layout::new(name)?;
        Ok(kind_of(&layout, &Saved::load(&layout)))
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

    /// A cluster that is there, by the name of its context in the user's kubeconfig. Nothing is built for it
    /// but kubectl and Helm where `PATH` has none.
    pub fn existing(context: &str) -> Result<Self> {
        let program = |name: &str, part: &'static parts::Part| match which(name) {
            Some(path) => Ok(path),
            None => parts::ensure(&[part])?.path(name).map(Path::to_owned),
        };
        let kubectl = program("kubectl", &parts::KUBERNETES)?;
        let helm = program("helm", &parts::HELM)?;
        // A file of its own: whatever the user switches to meanwhile, this stays with the cluster that was
        // named.
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

    pub(crate) fn real(layout: &Layout, network: Network, programs: &Programs) -> Result<Self> {
        let ctr = programs.path("ctr")?.to_owned();
        Self::ours(layout, Some(Real { network, ctr }), programs)
    }

    pub(crate) fn simulated(layout: &Layout, programs: &Programs) -> Result<Self> {
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

    /// This machine's address as pods reach it; none for a cluster that was there, or whose pods reach
    /// nothing.
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
pub(crate) fn kind_of(layout: &Layout, saved: &Saved) -> Option<Kind> {
    (saved.network.is_some() || node::find(layout, saved).is_some()).then_some(saved.kind)
}
