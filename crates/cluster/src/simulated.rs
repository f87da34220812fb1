//! A cluster whose node is simulated: a real control plane as plain processes of whoever calls, and KWOK.

use std::time::Duration;

use crate::endpoints::Endpoints;
use crate::error::Result;
use crate::handle::Cluster;
use crate::network::Network;
use crate::node::{self, Node};
use crate::parts::Programs;
use crate::progress::Step;
use crate::state::{Layout, Saved};
use crate::{control_plane, kwok, pki};

/// Starts what of it does not run yet, and waits until pods can be played.
pub fn up(layout: &Layout, saved: &mut Saved, programs: &Programs) -> Result<Cluster> {
    let network = match saved.network {
        Some(network) => network,
        None => *saved.network.insert(Network::imagined(&layout.id)?),
    };
    let runs = node::find(layout, saved).is_some();
    let endpoints = match saved.endpoints {
        // Where all is down, a port that somebody else has by now is given up for another.
        Some(endpoints) if runs || endpoints.are_free() => endpoints,
        _ => *saved.endpoints.insert(Endpoints::free()?),
    };
    if !runs {
        saved.daemons.clear();
    }
    // Before anything runs, so that `down` finds it after a start that was cut short.
    saved.store(layout)?;
    pki::ensure(layout, network)?;
    pki::kubeconfigs(layout, endpoints)?;
    programs.link(layout)?;

    let node = Node::none(layout);
    let step = Step::start("starting the control plane");
    control_plane::start(layout, (network, endpoints), &node, saved, programs)?;
    let cluster = Cluster::simulated(layout, programs)?;
    control_plane::await_ready(&cluster, &node, saved)?;
    control_plane::start_controllers(layout, (network, endpoints), &node, saved, programs)?;
    step.done();

    let step = Step::start("waiting for the simulated node");
    kwok::start(layout, network, &node, saved, programs)?;
    kwok::ensure_nodes(&cluster, layout, &node, saved, true)?;
    step.note("the default service account");
    node.await_daemon(saved, "kube-controller-manager", Duration::from_mins(2), || {
        cluster.kubectl_run(["get", "serviceaccount", "default"]).is_ok()
    })?;
    node.await_daemon(saved, "kube-scheduler", Duration::from_secs(1), || true)?;
    step.done();
    saved.store(layout)?;
    Ok(cluster)
}
