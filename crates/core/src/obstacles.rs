//! Why there is no pod to look at: none can be created, none is accepted by its node, or none may be created before
//! another has ended. Each is a finding of its own, with the API server's or the kubelet's message.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::Cause;

use crate::{
    Case, Server,
    mask::mask,
    refusals::{self, Refusal},
    signals::{Pod, Strategy},
    start_budget,
    time::after,
    words,
};

/// How long a refusal is waited for: it may be over at the next attempt of the controller.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// How long a webhook may be unreachable: its own pods may be restarting.
const WEBHOOK: SignedDuration = SignedDuration::from_secs(60);
/// How long after its grace period a pod may take to end.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// Rejections within this time count together.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// The controller replaces a rejected pod at once: without another rejection for so long, the last one was accepted.
const ONGOING: SignedDuration = SignedDuration::from_mins(1);
/// One rejection may be a race between scheduler and kubelet.
const REJECTIONS: usize = 2;
/// Reasons of pods that failed for what their node did, and not because it rejected them.
const ENDED_BY_NODE: [&str; 5] = ["Evicted", "Terminated", "Shutdown", "NodeShutdown", "Preempting"];

/// What keeps pods from existing.
#[derive(Clone, Debug, PartialEq)]
pub struct Obstacle {
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
    /// When it is an incident.
    pub due: Timestamp,
    /// When it is over though nothing changes.
    pub lapses: Option<Timestamp>,
    /// The message, and what it concerns.
    pub evidence: String,
}

/// All of them.
pub fn of(case: &Case, server: &Server) -> Vec<Obstacle> {
    [refused(server), rejected(case, server), stuck(server)].into_iter().flatten().collect()
}

/// The API server creates no pod of the revision.
fn refused(server: &Server) -> Option<Obstacle> {
    let of_revision = server.current().and_then(|revision| revision.failure.as_ref());
    let (message, since) = server.target.replica_failure.as_ref().or(of_revision)?;
    let refusal = refusals::of_create(message);
    let patience = if refusal == Refusal::WebhookUnreachable { WEBHOOK } else { PATIENCE };
    let evidence = format!(
        "the API server creates no pod of {}: {}",
        server.current_words(),
        words::shorten(&mask(message), 300)
    );
    let cause = blame(server, refusal.cause(), *since);
    Some(Obstacle { cause, since: *since, due: after(*since, patience), lapses: None, evidence })
}

/// The kubelet rejects every pod of the revision.
fn rejected(case: &Case, server: &Server) -> Option<Obstacle> {
    let current = &server.current()?.uid;
    let rejected = server.uncounted.iter().copied().filter(|pod| pod.revision == *current);
    let recent = |pod: &&Pod| case.now.duration_since(pod.created) < WINDOW;
    let rejected: Vec<&Pod> = rejected.filter(|pod| pod.is_rejected()).filter(recent).collect();
    let (first, last) = (
        rejected.iter().map(|pod| pod.created).min()?,
        rejected.iter().copied().max_by_key(|pod| pod.created)?,
    );
    let over = after(last.created, ONGOING);
    if rejected.len() < REJECTIONS || over <= case.now {
        return None;
    }
    let (reason, message) = last.lifecycle.failure.as_ref()?;
    let evidence = format!(
        "the kubelet rejects every pod of {}: pod {}: {reason}: {}",
        server.current_words(),
        last.name,
        words::shorten(&mask(message), 240)
    );
    let cause = blame(server, Cause::PodRejected, first);
    Some(Obstacle { cause, since: first, due: after(first, PATIENCE), lapses: Some(over), evidence })
}

/// All pods are being deleted, one of them does not end, and under Recreate no other is created meanwhile. It
/// has its grace period; but a rollout that is overdue for it, without a single pod, is an outage before that
/// is over. A pod that has ended, and that only a finalizer keeps, is in nobody's way.
fn stuck(server: &Server) -> Option<Obstacle> {
    if !server.pods.is_empty() || server.target.strategy != Strategy::Recreate {
        return None;
    }
    let ending = server.uncounted.iter().copied().filter(|pod| pod.deleting && !pod.finished);
    let (ends_by, pod) =
        ending.filter_map(|pod| Some((pod.lifecycle.ends_by?, pod))).min_by_key(|(at, _)| *at)?;
    let why = if pod.lifecycle.finalizers.is_empty() {
        "it has no finalizers: check its node and its containers".to_owned()
    } else {
        format!("finalizers: {}", pod.lifecycle.finalizers.join(", "))
    };
    let began = ends_by.saturating_sub(pod.lifecycle.grace.unwrap_or_default()).unwrap_or(ends_by);
    let overdue = after(began, start_budget::deadline(server));
    let grace = if ends_by > server.now { "has a grace period until" } else { "had to end until" };
    let node = pod.placement.as_ref().map(|place| format!(" on node {}", place.node)).unwrap_or_default();
    let evidence = format!(
        "pod {}{node} {grace} {} and is still terminating ({why}); no new pod is created before it ends",
        pod.name,
        words::moment(ends_by)
    );
    let cause = Cause::StuckTerminating;
    let due = overdue.min(after(ends_by, MARGIN));
    Some(Obstacle { cause, since: began, due, lapses: None, evidence })
}

/// A refused revision is to blame only where pods of the known-good one were created since: those that run from before
/// prove nothing, because what refuses the new ones may be what changed.
fn blame(server: &Server, cause: Cause, since: Timestamp) -> Cause {
    let beside = server.serving_beside().map(|(revision, _)| revision);
    let accepted = beside.is_some_and(|known| server.pods_of(known).any(|pod| pod.created > since));
    if cause != Cause::QuotaExceeded && accepted && server.rollout_is_to_blame() {
        Cause::BadRollout
    } else {
        cause
    }
}

impl Pod {
    /// Its node refused to run it: it failed, and none of its containers was ever started.
    fn is_rejected(&self) -> bool {
        let failure = self.lifecycle.failure.as_ref().filter(|_| self.finished);
        let ran =
            self.lifecycle.started.is_some() || self.containers.iter().any(|one| one.last_exit.is_some());
        !ran && failure.is_some_and(|(reason, _)| !ENDED_BY_NODE.contains(&reason.as_str()))
    }
}
