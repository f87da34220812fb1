//! RolloutStuck: a rollout does not get through.
//!
//! Judged by the Deployment's progress deadline, by what keeps its pods from existing (quota, admission, the
//! kubelet, a pod that does not end) or from having a node, or by pods that stay unready while the old ones
//! are well. What cannot start is a crash loop's.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::entry::{Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    obstacles::{self, Obstacle},
    signals::Pod,
    start_budget::{self, Phase},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: ROLLOUT_STUCK,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Pods]),
    lasting: Some(LOST),
    judges_pods: |_| true,
    runbook,
    guide: &[("004", "Rollback Procedure")],
    ..USUAL
};

const ROLLOUT_STUCK: IncidentType = IncidentType::RolloutStuck;
/// How long a new pod that was ready may be without readiness.
const LOST: SignedDuration = SignedDuration::from_secs(60);
/// How often a rollout that is under way, with nothing wrong in sight, is looked at.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// A sign that the rollout is stuck: since when, when it counts, why, and the sentence.
struct Sign {
    since: Timestamp,
    due: Timestamp,
    lapses: Option<Timestamp>,
    cause: Cause,
    evidence: String,
    pod_created: Option<Timestamp>,
}

impl From<Obstacle> for Sign {
    fn from(Obstacle { cause, since, due, lapses, evidence }: Obstacle) -> Self {
        Self { since, due, lapses, cause, evidence, pod_created: None }
    }
}

fn judge(case: &Case, server: &Server) -> Judgement {
    let target = server.target;
    let unready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| !pod.ready).collect();
    if target.observed_generation < target.generation || server.is_rolled_out() {
        return Judgement::Clear;
    }
    let mut signs: Vec<Sign> = obstacles::of(case, server).into_iter().map(Sign::from).collect();
    signs.extend(unready.iter().filter_map(|pod| sign_of(case, server, pod)));
    signs.extend(past_deadline(case, server, &unready));

    let now = case.now;
    // What keeps pods from existing, or from having a node, explains unready ones; the reverse does not hold.
    signs.sort_by_key(|sign| (!is_obstacle(sign.cause), sign.cause != Cause::Unschedulable));
    let Some(sign) = signs.iter().find(|sign| sign.due <= now) else {
        return match signs.iter().map(|sign| sign.due).min() {
            Some(until) => Judgement::Suspected { until },
            None if unready.is_empty() => Judgement::Clear,
            // The old pods may come to count as well by time alone.
            None => Judgement::Suspected { until: now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX) },
        };
    };
    let mut evidence = vec![sign.evidence.clone()];
    evidence.extend(
        signs.iter().filter(|other| other.evidence != sign.evidence).map(|one| one.evidence.clone()).take(2),
    );
    evidence.push(format!(
        "{} of {} wanted pods are ready, {} of {}",
        server.ready(),
        target.desired,
        server.current_pods().iter().filter(|pod| pod.ready).count(),
        server.current_words(),
    ));
    let waits = unready.first().map(|pod| start_budget::words(server, pod));
    evidence.extend(waits.filter(|words| !evidence.iter().any(|line| line.starts_with(words))));
    // What the kubelet says of a pod that does not get ready: its probe's answer, its volume.
    evidence.extend(unready.iter().find_map(|pod| pod.trouble()));
    Judgement::Found(Finding {
        youngest_pod: sign.pod_created,
        lapses: sign.lapses,
        // More pods would be refused, would find no node, or would wait as well.
        forbids: match sign.cause {
            cause if is_obstacle(cause) => &[ActionType::RolloutRestart],
            Cause::Unschedulable | Cause::NotStarted => &[ActionType::RolloutRestart],
            _ => &[],
        },
        ..Finding::new(ROLLOUT_STUCK, sign.cause, Severity::SEV2, sign.since, evidence)
    })
}

/// It keeps pods from existing.
const fn is_obstacle(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::QuotaExceeded | Cause::AdmissionRefused | Cause::PodRejected | Cause::StuckTerminating
    )
}

/// What an unready pod of the revision tells. Crash loops have an entry of their own.
fn sign_of(case: &Case, server: &Server, pod: &Pod) -> Option<Sign> {
    let budget = start_budget::of(case, server, pod, ROLLOUT_STUCK, LOST);
    let mut evidence = start_budget::words(server, pod);
    if budget.phase != Phase::Unscheduled {
        // Unready pods are a stuck rollout only where the old ones show that ready is possible; without
        // those, the server as a whole does not respond, which is another entry.
        let (beside, _) = server.serving_beside()?;
        let well = words::count(server.pods_of(beside).count(), "pod");
        evidence.push_str(&format!(", while {well} of template {} are ready", beside.template));
    }
    Some(Sign {
        since: budget.since,
        due: budget.due,
        lapses: None,
        cause: cause_of(server, budget.phase),
        evidence,
        pod_created: Some(pod.created),
    })
}

/// The Deployment's own progress deadline has passed, and a pod's own time with it: a slow pull may have used
/// it up.
fn past_deadline(case: &Case, server: &Server, unready: &[&Pod]) -> Option<Sign> {
    let message = server.target.deadline_exceeded.as_ref()?;
    let pods = server.current_pods().len().saturating_add(server.lost.len());
    let missing = i32::try_from(pods).is_ok_and(|pods| pods < server.target.desired);
    if unready.is_empty() && !missing {
        return None;
    }
    // What its own revision may be to blame for comes first.
    let causes = unready.iter().map(|pod| cause_of(server, start_budget::phase(server, pod)));
    let own = server.cause(Cause::NotReady);
    let cause = causes.min_by_key(|cause| *cause != own).unwrap_or(Cause::NotCreated);
    let created = unready.iter().map(|pod| pod.created);
    let due = unready.iter().map(|pod| start_budget::of(case, server, pod, ROLLOUT_STUCK, LOST).due);
    Some(Sign {
        since: created.clone().min().unwrap_or(case.now),
        due: due.min().unwrap_or(case.now),
        lapses: None,
        cause,
        evidence: format!("the progress deadline has passed: {}", words::shorten(message, 200)),
        pod_created: created.max(),
    })
}

/// Why a pod is not ready, by how far it has come.
fn cause_of(server: &Server, phase: Phase) -> Cause {
    match phase {
        Phase::Unscheduled => Cause::Unschedulable,
        Phase::NotStarted => Cause::NotStarted,
        Phase::Pulling => Cause::ImagePull,
        Phase::Gated => Cause::ReadinessGate,
        Phase::Initializing | Phase::Failing | Phase::Running | Phase::Lost => server.cause(Cause::NotReady),
    }
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback],
        // It had until the progress deadline.
        Cause::ImagePull if server.rollout_is_to_blame() => &[ActionType::Rollback],
        _ => &[],
    }
}
