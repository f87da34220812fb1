//! The outcome of an attempt that was carried out: judged by what is found now, by the pods that it made, and
//! by its Job.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Attempt, Effect, Incident, Outcome};

use super::{
    standing::{Proof, Standing, job, standing},
    successors::{Successors, successors},
};
use crate::{Case, Diagnosis, Server, actions, catalogue::reach_of, finding::Finding, time::after, words};

/// How an attempt stands.
pub(super) enum Assessment {
    /// Not to be told yet.
    Pending(Timestamp),
    /// Once more, for want of evidence.
    Extended(Timestamp),
    /// Over.
    Ended(Outcome, String),
}

/// What is seen at this moment of the fault that an attempt is meant to mend.
pub(super) struct FaultNow<'a> {
    pub finding: Option<&'a Finding>,
    is_clear: bool,
    /// For how long the past still shows.
    reach: SignedDuration,
    /// What became of the pods that it evicted.
    successors: Successors,
}

impl<'a> FaultNow<'a> {
    pub(super) fn of(
        case: &Case,
        server: Option<&Server>,
        diagnosis: &'a Diagnosis,
        incident: &Incident,
    ) -> Self {
        let finding = diagnosis.finding_of(incident);
        Self {
            finding,
            is_clear: diagnosis.is_clear(incident),
            reach: reach_of(case, incident),
            successors: successors(case, server, incident, finding.is_some()),
        }
    }
}

/// How often the successors of evicted pods are looked at: an answer of one pod changes no verdict of its
/// own.
const SUCCESSORS_LOOK: SignedDuration = SignedDuration::from_secs(5);

/// Judges one attempt that was carried out.
pub(super) fn judge(case: &Case, server: Option<&Server>, seen: &FaultNow, attempt: &Attempt) -> Assessment {
    let now = case.now;
    // A rollout that what is left of the attempt waits for has a time of its own.
    let awaited = attempt.next_step().filter(|step| step.effect == Effect::AwaitRollout);
    let rollout = awaited.and_then(|step| step.until.as_ref()).filter(|_| !attempt.extended);
    let deadline = attempt.verify_at.iter().chain(rollout).map(|at| at.0).min().unwrap_or(now);
    let without_evidence = || without_evidence(case, attempt, deadline);
    let Some(server) = server else { return without_evidence() };
    let generation = attempt.steps.iter().filter_map(|step| step.generation).max();
    if generation.is_some_and(|generation| server.target.generation < generation) {
        // What is seen is older than what was done.
        return without_evidence();
    }
    match standing(case, server, attempt) {
        Standing::Ours => {}
        Standing::Unknown => return without_evidence(),
        Standing::Reverted(by) => return Assessment::Ended(Outcome::Reverted, by),
        Standing::Overtaken(by) => return Assessment::Ended(Outcome::Superseded, by),
    }
    let failed = |why: String| failed(server, attempt, &why);
    let finding = seen.finding;
    // Pods that were made by this attempt show the same fault: no need to wait for the deadline. (They may
    // have been made within the second in which it was recorded; those before it have taken longer to be
    // found.)
    let shown_by_new_pods = finding
        .filter(|finding| finding.youngest_pod.is_some_and(|created| created >= attempt.recorded_at.0))
        .and_then(|finding| finding.evidence.first());
    if let Some(evidence) = shown_by_new_pods {
        return failed(evidence.clone());
    }
    // Its Job comes after the rollout.
    let proof = if awaited.is_some() { Proof::None } else { job(case, attempt) };
    match proof {
        Proof::None | Proof::Good => {}
        Proof::Awaited if now < deadline => return Assessment::Pending(deadline),
        Proof::Awaited => return without_evidence(),
        Proof::Bad(job) => return failed(format!("Job {job} failed")),
    }
    if finding.is_none() && server.is_rolled_out() {
        if !seen.is_clear {
            // Its rule cannot see, or suspects it still: that is not well yet.
            return without_evidence();
        }
        let since = server.ready_since().unwrap_or(now).max(attempt.recorded_at.0);
        let settled = after(since, case.settings.settle.max(seen.reach));
        return if settled <= now {
            Assessment::Ended(Outcome::Improved, helped(server, attempt, since))
        } else {
            Assessment::Pending(settled)
        };
    }
    if (finding.is_some() || seen.is_clear)
        && let Some(judged) = judge_successors(case, seen, deadline)
    {
        return judged;
    }
    if now < deadline {
        return Assessment::Pending(deadline);
    }
    failed(
        finding
            .and_then(|finding| finding.evidence.first())
            .cloned()
            .unwrap_or_else(|| format!("the rollout did not complete until {}", words::moment(deadline))),
    )
}

/// Where nothing tells how an attempt did: it has its time, once more, and is then over.
fn without_evidence(case: &Case, attempt: &Attempt, deadline: Timestamp) -> Assessment {
    if case.now < deadline {
        Assessment::Pending(deadline)
    } else if attempt.extended {
        Assessment::Ended(Outcome::Inconclusive, "there was no evidence to judge it by".to_owned())
    } else {
        Assessment::Extended(after(case.now, case.settings.settle.saturating_mul(4)))
    }
}

fn failed(server: &Server, attempt: &Attempt, why: &str) -> Assessment {
    let ready = server.ready_replicas();
    // Pods that were lost with their node since are not the action's doing.
    let ready_or_lost = ready.saturating_add(i32::try_from(server.lost.len()).unwrap_or(i32::MAX));
    let outcome = if ready_or_lost < attempt.ready_before { Outcome::Worse } else { Outcome::NoChange };
    Assessment::Ended(outcome, format!("{why}; {ready} pods are ready, {} were before", attempt.ready_before))
}

fn helped(server: &Server, attempt: &Attempt, since: Timestamp) -> String {
    if actions::touches(attempt.action).sessions {
        return "what it was done for is not found any more, and no pod was touched".to_owned();
    }
    let (ready, desired) = (server.ready_replicas(), server.target.desired);
    format!("{ready} of {desired} pods ready since {}", words::moment(since))
}

/// Other pods still show the fault, or another one: what became of the evicted ones decides, as soon as that
/// is known.
fn judge_successors(case: &Case, seen: &FaultNow, deadline: Timestamp) -> Option<Assessment> {
    match seen.successors {
        Successors::NotJudged => None,
        Successors::Awaited => {
            let again = after(case.now, SUCCESSORS_LOOK).min(deadline);
            (case.now < deadline).then_some(Assessment::Pending(again))
        }
        Successors::Well(since) => {
            let settled = after(since, case.settings.settle);
            if settled > case.now {
                return Some(Assessment::Pending(settled));
            }
            let others = match seen.finding {
                Some(_) => "other pods still show the fault",
                None => "another pod is not ready for a fault of its own",
            };
            let words = format!(
                "what took the place of the evicted pod is well since {}; {others}",
                words::moment(since)
            );
            Some(Assessment::Ended(Outcome::Improved, words))
        }
    }
}
