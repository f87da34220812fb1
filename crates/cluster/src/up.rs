//! Brings a cluster up, or what of it is missing.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::command::last_lines;
use crate::endpoints::Endpoints;
use crate::error::{Error, Result};
use crate::handle::{Cluster, kind_of};
use crate::kind::{Kind, Wanted};
use crate::network::Network;
use crate::parts::{self, Programs};
use crate::process::wait_until;
use crate::progress::{Step, say, seconds};
use crate::state::{Layout, Saved};
use crate::{
    addons, connect, containerd, control_plane, down, kubelet, kwok, node, pki, preflight, simulated,
};

/// How long what was started may take to answer.
const LIMIT: Duration = Duration::from_mins(2);

/// How a cluster is to be brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What it is to have for a node.
    pub node: Wanted,
    /// How many simulated nodes it is to have that ordinary pods stay away from; none: as many as it has.
    pub simulated_nodes: Option<u32>,
    /// Whether system packages may be installed.
    pub install: bool,
    /// Whether a real node is to have DNS, metrics-server, Prometheus and Alertmanager, which take half
    /// as long to build as the rest. Without them it has those that it had.
    pub addons: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { node: Wanted::Auto, simulated_nodes: None, install: true, addons: true }
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
        let outcome = bring_up(&layout, &mut saved, plan);
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
}

fn bring_up(layout: &Layout, saved: &mut Saved, plan: &Plan) -> Result<Cluster> {
    saved.kind = preflight::choose(plan.node, kind_of(layout, saved), plan.install)?;
    if let Some(count) = plan.simulated_nodes {
        saved.simulated_nodes = kwok::check_count(count)?;
    }
    let programs = prepare(layout, saved, plan.addons)?;
    match saved.kind {
        Kind::Real => up_real(layout, saved, &programs),
        Kind::Simulated => simulated::up(layout, saved, &programs),
    }
}

fn up_real(layout: &Layout, saved: &mut Saved, programs: &Programs) -> Result<Cluster> {
    let network = match saved.network {
        Some(network) => network,
        None => *saved.network.insert(Network::choose(&layout.id)?),
    };
    let at = (network, Endpoints::of_node(network));
    pki::ensure(layout, network)?;
    pki::kubeconfigs(layout, at.1)?;
    programs.link(layout)?;

    let step = Step::start("starting the node");
    let node = node::ensure(layout, saved, programs.path("pause")?)?;
    connect::ensure(layout, network, &node)?;
    // The API server takes longest, so the container runtime starts beside it.
    control_plane::start(layout, at, &node, saved, programs)?;
    step.note("the container runtime");
    containerd::start(layout, network, &node, saved, programs)?;
    step.note("the first images");
    addons::import_images(layout, programs)?;
    step.done();

    let step = Step::start("starting the control plane");
    let cluster = Cluster::real(layout, network, programs)?;
    control_plane::await_ready(&cluster, &node, saved)?;
    control_plane::start_controllers(layout, at, &node, saved, programs)?;
    kubelet::start(layout, network, &node, saved, programs)?;
    cluster.apply(addons::RIGHTS)?;
    if programs.path("coredns").is_ok() {
        cluster.apply(&addons::dns(network))?;
    }
    step.done();

    let step = Step::start("waiting for the node");
    std::thread::scope(|scope| {
        let metrics = scope.spawn(|| match programs.path("metrics-server") {
            Ok(_) => addons::add_metrics(&cluster, layout, programs),
            Err(_) => Ok(()),
        });
        await_ready(&cluster, layout, &node, saved, &step)?;
        if programs.path("coredns").is_ok() {
            step.note("DNS");
            await_dns(&cluster, network)?;
        }
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

/// Waits until pods can run.
fn await_ready(
    cluster: &Cluster,
    layout: &Layout,
    node: &node::Node,
    saved: &Saved,
    step: &Step,
) -> Result<()> {
    let node_name = layout.node_name();
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    step.note("the kubelet");
    node.await_daemon(saved, "kubelet", LIMIT, || {
        cluster.kubectl_run(["get", "node", &node_name, "-o", ready]).is_ok_and(|status| status == "True")
    })?;
    step.note("the default service account");
    node.await_daemon(saved, "kube-controller-manager", LIMIT, || {
        cluster.kubectl_run(["get", "serviceaccount", "default"]).is_ok()
    })?;
    for daemon in ["kube-scheduler", "containerd", "kube-proxy"] {
        node.await_daemon(saved, daemon, Duration::from_secs(1), || true)?;
    }
    Ok(())
}

/// Waits until names resolve.
fn await_dns(cluster: &Cluster, network: Network) -> Result<()> {
    // From here through kube-proxy to a pod: if that answers, so will everything else.
    let dns = SocketAddr::from((network.dns_service(), 53));
    if wait_until(LIMIT, || TcpStream::connect_timeout(&dns, Duration::from_millis(500)).is_ok()) {
        return Ok(());
    }
    let pods = cluster
        .kubectl_run(["--namespace=kube-system", "describe", "pods", "--selector=k8s-app=kube-dns"])
        .unwrap_or_else(|error| error.to_string());
    Err(Error::Part {
        part: "CoreDNS".to_owned(),
        problem: format!("did not answer on {dns} within {} s", LIMIT.as_secs()),
        log: last_lines(&pods, 20),
    })
}

/// Builds the parts. A cluster that runs keeps the programs that it was started with, and gets those of parts
/// that it does not have yet.
fn prepare(layout: &Layout, saved: &mut Saved, addons: bool) -> Result<Programs> {
    let running = node::find(layout, saved).is_some();
    let intact = !saved.programs.is_empty() && saved.programs.values().all(|path| path.exists());
    if !(running && intact) {
        saved.programs.clear();
        saved.versions.clear();
    }
    let has = |part: &parts::Part| part.programs().all(|name| saved.programs.contains_key(name));
    let wanted: &[&'static parts::Part] = match saved.kind {
        Kind::Real if !addons => parts::FIRST,
        kind => parts::of(kind),
    };
    let mut wanted: Vec<_> = wanted.iter().copied().filter(|part| !has(part)).collect();
    if saved.simulated_nodes > 0 && !saved.programs.contains_key("kwok") && saved.kind == Kind::Real {
        wanted.push(&parts::KWOK);
    }
    preflight::check_parts(&wanted)?;
    let programs = parts::ensure(&wanted)?;
    saved.programs.extend(programs.paths);
    saved.versions.extend(programs.versions);
    Ok(Programs { paths: saved.programs.clone(), versions: saved.versions.clone() })
}
