//! A cluster whose node is simulated: a real control plane as plain processes of whoever calls, and KWOK.

use std::time::Duration;

use super::endpoints::Endpoints;
use super::network::Network;
use super::node::{self, Node};
use super::parts::Programs;
use super::state::{Layout, Saved};
use super::{Cluster, control_plane, kwok, link_programs, pki};
use crate::error::Result;
use crate::progress::Step;

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
    link_programs(layout, programs)?;

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
