//! act: carries out the steps of the open attempt, one effect at a time, each fenced by what was recorded.
//!
//! Whatever happens in between (a crash, a race, a lost answer), each effect can be told from the world: a change
//! of the target bears the attempt's mark, a pod has a uid, a copy or a Job has its one name. What leaves no
//! trace is recorded by itself before it begins, and never repeated.

mod confirm;
mod deployment;
mod end_sessions;
mod evict;
mod executor;
mod hand_back;
mod hook;
mod patch;
mod reset_circuit;
mod restore_config;
mod run_job;
mod stepped;
#[cfg(test)]
pub mod tests;
mod unsent;

use mcp_health_api::{Attempt, Effect, Step, StepState};
use mcp_health_core::{
    attempt::{Acted, Effected},
    signals::Pod,
};

use crate::{
    error::Error,
    observe::{DeploymentWire, Facts},
};

pub use confirm::Confirmed;
pub use executor::Executor;
use stepped::{Prepared, Stepped};
pub use unsent::Unsent;

impl Executor<'_> {
    /// Fetches what a step needs.
    pub async fn prepare(&self, step: &Step) -> Result<Prepared, Error> {
        match step.effect {
            Effect::PatchTemplate => self.prepare_template(step).await,
            Effect::EditTemplate => self.prepare_edits(step).await,
            Effect::RestoreConfig => Box::pin(self.prepare_config(step)).await,
            _ => Ok(Prepared::Nothing),
        }
    }

    /// Carries out an attempt that was recorded just now; `facts` is what the target's next patch must know.
    pub async fn carry_out(
        &self,
        attempt: &Attempt,
        prepared: Prepared,
        facts: Facts,
    ) -> Result<Acted, Error> {
        self.go_on(attempt, Some((prepared, facts))).await
    }

    /// Continues an attempt of which it is not known how far it was carried out: looks it up live, and only then
    /// goes on. `against` says why nothing more may be done.
    pub async fn resume(&self, attempt: &Attempt, against: Option<&str>) -> Result<Acted, Error> {
        let Some(why) = against else { return self.go_on(attempt, None).await };
        let Some(step) = attempt.next_step() else { return Ok(Acted::Done(Vec::new())) };
        // A mark alone is no effect: what comes after it is not done any more.
        if deployment::is_marking(step.effect)
            && step.effect != Effect::MarkTarget
            && let Some(live) = self.live().await?
            && patch::bears_mark(&live, attempt)
        {
            return self.go_on(attempt, None).await;
        }
        if step.effect == Effect::RestoreConfig && self.config_is_restored(attempt, step).await? {
            // What follows from it is asked about again.
            return Ok(Acted::Done(vec![Effected::default()]));
        }
        if let Some(done) = self.evicted_before(attempt).await? {
            return Ok(Acted::Done(done));
        }
        Ok(Acted::Superseded(if attempt.has_begun() {
            format!("it was stopped half-way, before {:?}: {why}", step.effect)
        } else {
            format!("it was not carried out by the operator that recorded it, and now: {why}")
        }))
    }

    /// What an attempt at an eviction came to, where it took place: the target bears its mark, and the pod is gone or on
    /// its way out. Without any pod in sight, nothing is known.
    async fn evicted_before(&self, attempt: &Attempt) -> Result<Option<Vec<Effected>>, Error> {
        let mut left = attempt.steps.iter().filter(|step| step.state != StepState::Done);
        let (marks, evict) = match (left.next(), left.next()) {
            (Some(mark), Some(evict)) if mark.effect == Effect::MarkTarget => (1, evict),
            (Some(evict), _) => (0, evict),
            (None, _) => return Ok(None),
        };
        let stays = |pod: &Pod| pod.uid == evict.uid && !pod.deleting;
        if evict.effect != Effect::EvictPod || self.pods.is_empty() || self.pods.iter().any(stays) {
            return Ok(None);
        }
        let live = self.live().await?;
        let ours = live.is_some_and(|live| patch::bears_mark(&live, attempt));
        Ok(ours.then(|| vec![Effected::default(); marks + 1]))
    }

    /// Takes step after step, until one wants a record of its own or time, or fails. `fresh` is what was prepared
    /// for the first; without it, each step is looked up live first.
    async fn go_on(&self, attempt: &Attempt, mut fresh: Option<(Prepared, Facts)>) -> Result<Acted, Error> {
        let mut done = Vec::new();
        let mut seen = None;
        for step in attempt.steps.iter().filter(|step| step.state != StepState::Done) {
            let wants_record = step.effect.is_untraceable() && step.state != StepState::Started;
            if wants_record || matches!(step.effect, Effect::Wait | Effect::AwaitRollout) {
                break;
            }
            if !self.lease.has_left() {
                if done.is_empty() {
                    return Err(Error::Lease { object: self.words() });
                }
                // What was done is noted; the rest goes on after the next renewal.
                break;
            }
            if step.effect.is_untraceable() {
                self.unsent.forget(self.object.metadata.uid.as_deref().unwrap_or_default());
            }
            match self.take(attempt, step, fresh.take(), seen.take()).await {
                Ok(Stepped::Done(effected)) => {
                    let may_stop = effected.answers.is_some();
                    done.push(effected);
                    if may_stop {
                        break;
                    }
                }
                Ok(Stepped::Changed(effected, changed)) => {
                    done.push(effected);
                    seen = Some(*changed);
                }
                // What was done is noted first; the step that fails is come back to.
                Ok(Stepped::Ended(_)) | Err(_) if !done.is_empty() => break,
                Ok(Stepped::Ended(acted)) => return Ok(acted),
                Err(error) => return Err(error),
            }
        }
        Ok(Acted::Done(done))
    }

    async fn take(
        &self,
        attempt: &Attempt,
        step: &Step,
        fresh: Option<(Prepared, Facts)>,
        seen: Option<DeploymentWire>,
    ) -> Result<Stepped, Error> {
        match step.effect {
            Effect::PatchTemplate
            | Effect::EditTemplate
            | Effect::RestartPods
            | Effect::SetReplicas
            | Effect::MarkTarget => self.change(attempt, step, fresh).await,
            Effect::HandBackOwnership => hand_back::carry_out(self, step, seen).await,
            Effect::EvictPod => evict::carry_out(self, step).await,
            Effect::CallHook => Ok(hook::carry_out(self, attempt, step).await),
            Effect::ResetCircuit => Ok(reset_circuit::carry_out(self, step).await),
            Effect::EndSessions => Ok(end_sessions::carry_out(self, attempt, step).await),
            Effect::RunJob => run_job::carry_out(self, attempt, step).await,
            Effect::RestoreConfig => {
                let prepared = fresh.map(|(prepared, _)| prepared);
                Box::pin(self.restore_config(attempt, step, prepared)).await
            }
            Effect::Wait | Effect::AwaitRollout => Ok(Stepped::superseded("a wait is no effect")),
        }
    }
}
