//! Pods that lost their readiness because of their node. Their kubelet reports nothing, or did not yet catch up: what
//! their status says is old, and no rule may count it as the server's fault.

use jiff::{SignedDuration, Timestamp};

use crate::{
    signals::{Node, NodeReady, NodeSign, Pod, Reading},
    time::after,
};

/// After its node is ready again, a pod has this long to be reported ready. Its `Ready` condition keeps the time at which
/// the node failed, so that without it every rule would see a pod that is unready for long.
const RECOVERY: SignedDuration = SignedDuration::from_mins(2);

/// A pod whose readiness was lost because of its node.
#[derive(Clone, Copy, Debug)]
pub struct LostPod<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The name of its node.
    pub name: &'a str,
    /// Why.
    pub loss: Loss<'a>,
    /// Since when.
    pub since: Timestamp,
}

/// How a node took the readiness of its pods away.
#[derive(Clone, Copy, Debug)]
pub enum Loss<'a> {
    /// The node fails.
    Failing(&'a Node),
    /// The API server has no such node any more.
    Gone,
    /// Nodes are not read, or not at this moment; the pod shows it.
    Sign(NodeSign),
    /// The node is ready again; until this moment its pods are waited for.
    Recovering(Timestamp),
}

/// Why a pod is not ready, if that is its node's doing.
pub fn lost<'a>(pod: &'a Pod, nodes: &'a Reading<Vec<Node>>, now: Timestamp) -> Option<LostPod<'a>> {
    let place = pod.placement.as_ref()?;
    if pod.finished || (pod.ready && !pod.deleting) {
        return None;
    }
    let of = |loss, since| Some(LostPod { pod, name: &place.node, loss, since });
    let unready = pod.ready_changed.max(place.since);
    let Some(nodes) = nodes.fresh() else { return of(Loss::Sign(place.sign?), unready) };
    match nodes.iter().find(|node| node.name == place.node) {
        None => of(Loss::Gone, unready),
        Some(node) if node.ready != NodeReady::Ready => of(Loss::Failing(node), node.since),
        Some(node) if node.out_of_service => of(Loss::Failing(node), unready),
        Some(node) => {
            let until = after(node.since, RECOVERY);
            let before = place.since < node.since && pod.ready_changed <= node.since;
            (before && !pod.deleting && now < until).then_some(())?;
            of(Loss::Recovering(until), node.since)
        }
    }
}

impl LostPod<'_> {
    /// Whether its node fails at this moment, as far as is seen.
    pub fn is_failing(&self) -> bool {
        !matches!(self.loss, Loss::Recovering(_))
    }
}
