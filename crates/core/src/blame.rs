//! blame: whether the revision in force is why its pods fail. A rollback rests on it.
//!
//! A revision is to blame if another one is known good, its own pods began to fail within the progress
//! deadline of their creation, and there is a control: known-good pods that do not fail at the same time.
//! Where none exist (Recreate, one replica, a completed rollout), the failure must be the pod's own: it
//! exits, is killed for its memory, cannot start, or never became Ready, nor did any other of this revision.
//! Readiness that is lost after Ready, without a control, is not the revision's fault.
//!
//! What pods showed while something that both templates need did not answer, or before they had the time of a
//! start since, counts for nothing, unless its cause has nothing to do with that. What is down or unknown now
//! is for the order of findings and the guards to see to.

use jiff::SignedDuration;
use mcp_health_api::Cause;

use crate::{Server, signals::Pod, start_budget};

/// A pod whose container ended within this time fails, though it may be ready at the moment.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

impl Server<'_> {
    /// The cause where pods of the template in force fail: the revision, where it is to blame; `otherwise`,
    /// where it worked before or something else is why.
    pub fn cause(&self, otherwise: Cause) -> Cause {
        self.cause_by(otherwise, |pod| start_budget::excused_until(self, pod).is_none())
    }

    /// The same for a cause that no dependency explains: also what pods showed while one did not answer
    /// counts.
    pub(crate) fn cause_in_itself(&self, otherwise: Cause) -> Cause {
        self.cause_by(otherwise, |_| true)
    }

    fn cause_by(&self, otherwise: Cause, counts: impl Fn(&Pod) -> bool) -> Cause {
        if self.template_was_healthy() || self.healthy_ends_too().is_some() {
            otherwise
        } else if self.last_healthy.is_none() && self.serving_beside().is_none() {
            Cause::NeverHealthy
        } else if self.fails_by_itself(counts) {
            Cause::BadRollout
        } else {
            otherwise
        }
    }

    /// The revision in force is to blame: it was never healthy, another one was, and its failure is its own.
    pub fn rollout_is_to_blame(&self) -> bool {
        self.cause(Cause::NotReady) == Cause::BadRollout
    }

    /// The same for a cause that no dependency explains.
    pub(crate) fn rollout_is_to_blame_in_itself(&self) -> bool {
        self.cause_in_itself(Cause::NotReady) == Cause::BadRollout
    }

    /// A pod of the template in force is or was Ready.
    pub(crate) fn became_ready(&self) -> bool {
        self.was_ready_before || self.current_pods().iter().any(|pod| pod.was_ready)
    }

    /// Of the template in force, each pod that fails ended before it was ever Ready, or could not start.
    pub fn ends_before_ready(&self) -> bool {
        let mut failing = self.failing().into_iter().peekable();
        failing.peek().is_some() && failing.all(|pod| !pod.was_ready && pod.fails_to_run())
    }

    /// Pods of the template in force that are not ready, or that ended a short time ago.
    pub(crate) fn failing(&self) -> Vec<&Pod> {
        let fails = |pod: &&Pod| !pod.ready || pod.ended_within(RECENT, self.now);
        self.current_pods().into_iter().filter(fails).collect()
    }

    /// See the module. What is measured of pods that are all ready has a control in the rule that measures
    /// it.
    fn fails_by_itself(&self, counts: impl Fn(&Pod) -> bool) -> bool {
        let failing = self.failing();
        let is_controlled = match self.known_good_pods().as_slice() {
            [] => None,
            pods if pods.iter().any(|pod| self.is_failing(pod)) => return failing.is_empty(),
            pods => pods.iter().any(|pod| pod.ready).then_some(()),
        };
        let is_own = |pod: &Pod| !self.became_ready() || pod.fails_to_run();
        failing.is_empty()
            || failing
                .iter()
                .any(|pod| counts(pod) && self.began_soon(pod) && (is_controlled.is_some() || is_own(pod)))
    }

    /// The pods of other templates that are known good.
    fn known_good_pods(&self) -> Vec<&Pod> {
        let beside = self.serving_beside().map(|(revision, _)| revision.template.as_str());
        let healthy = self.last_healthy.map(|healthy| healthy.template.as_str());
        let is_known = |template: &str| Some(template) == healthy || Some(template) == beside;
        let others = self.revisions.iter().filter(|one| one.template != self.template);
        others.filter(|one| is_known(&one.template)).flat_map(|one| self.pods_of(one)).collect()
    }

    /// A known-good pod fails: it is not ready, and has had the time to become so, or was.
    fn is_failing(&self, pod: &Pod) -> bool {
        !pod.ready && (pod.ended_within(RECENT, self.now) || !start_budget::is_starting(self, pod))
    }

    /// The pod began to fail within the progress deadline of its creation, as far as is known.
    fn began_soon(&self, pod: &Pod) -> bool {
        if !pod.was_ready {
            return true;
        }
        let exits = pod.containers.iter().flat_map(|one| {
            one.recent_exits.iter().copied().chain(one.last_exit.as_ref().map(|exit| exit.at))
        });
        let lost = (!pod.ready).then_some(pod.ready_changed);
        let opened = self.failing_since.iter().copied().filter(|since| *since >= pod.created);
        let began = exits.chain(lost).chain(opened).min();
        began.is_some_and(|at| at.duration_since(pod.created) <= self.target.progress_deadline)
    }
}

impl Pod {
    /// A container of it ended by itself, or cannot start.
    fn fails_to_run(&self) -> bool {
        self.containers.iter().any(|one| {
            let waits = one.waiting.as_ref().is_some_and(|(reason, _)| {
                !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing")
            });
            waits || one.restarts > 0 || one.last_exit.as_ref().is_some_and(|exit| exit.code != 0)
        })
    }
}
