//! Rollback: the template of a ReplicaSet that was seen healthy comes back (guide 004, Rollback Procedure).
//! Undone by rolling forward again.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Attempt, Cause, Effect, HealthyRevision, IncidentType, Step};

use super::plan::{
    Action, Asked, Plan, Planned, TEMPLATE, Touches, await_rollout, hand_back, no_follow_up, step,
    undo_template,
};
use super::run_job;
use crate::{
    healthy::{RollbackTarget, gone, way_back},
    references::{Usable, usable},
    time::after,
};

/// When references without an answer are looked up again.
const LOOKED_UP_AGAIN: SignedDuration = SignedDuration::from_secs(5);

pub const ACTION: Action = Action {
    action: ActionType::Rollback,
    touches: Touches { mends_rollout: true, ..TEMPLATE },
    plan,
    undo: undo_template,
    did,
    follow_up: no_follow_up,
};

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    if let Some(until) = old_pods_may_still_notice(asked) {
        return Planned::Later {
            until,
            why: "the probes of the old pods may not have noticed the database yet".to_owned(),
        };
    }
    match way_back(case, server) {
        RollbackTarget::To(healthy) if ends(asked, &healthy) => Planned::impossible(
            "RollbackTargetUnwell",
            format!(
                "pods of {}, which was seen healthy, end too: there is nothing to go back to",
                words(&healthy)
            ),
        ),
        RollbackTarget::To(healthy) => {
            let to = words(&healthy);
            Planned::Ready(Plan {
                action: ActionType::Rollback,
                what: format!("roll back to the template of {to}"),
                why: format!(
                    "{} ({}): {} was never seen healthy, {to} was{}",
                    incident.name(),
                    incident.cause,
                    server.current_words(),
                    not_checked(asked, &healthy)
                ),
                steps: steps(asked, &healthy),
                undoes: None,
            })
        }
        RollbackTarget::Soon(until) => Planned::Later {
            until,
            why: "the template that still serves beside the bad one is not proven healthy yet".to_owned(),
        },
        RollbackTarget::AlreadyThere => Planned::Impossible {
            reason: "NothingToRollBack",
            message: format!(
                "the template in force ({}) is the one that was seen healthy: there is nothing to roll back",
                server.target.template
            ),
        },
        RollbackTarget::Gone(healthy) => Planned::Impossible {
            reason: "RollbackTargetGone",
            message: format!(
                "ReplicaSet {} with the healthy template {} is gone (revisionHistoryLimit?): apply the last good manifest",
                healthy.replica_set, healthy.template
            ),
        },
        RollbackTarget::Incomplete(healthy, missing) => Planned::Impossible {
            reason: "NoRollbackTarget",
            message: format!(
                "{}, which {} needs: its pods could not start; restore it, or roll forward",
                gone(&missing),
                words(&healthy)
            ),
        },
        RollbackTarget::Unverified(why) => Planned::Later {
            until: after(case.now, LOOKED_UP_AGAIN),
            why: format!("whether the rollback target can start is not known: {why}"),
        },
        RollbackTarget::NeverSeen => Planned::Impossible {
            reason: "NoHealthyRevision",
            message: "no revision of this server was ever seen healthy: there is nothing to roll back to"
                .to_owned(),
        },
    }
}

/// New pods cannot reach their database, and the old ones are ready: that proves something only once their
/// own probes have had the time to notice that it is gone.
fn old_pods_may_still_notice(asked: &Asked) -> Option<Timestamp> {
    let Asked { case, server, incident, .. } = *asked;
    let until = incident.since.0.saturating_add(server.notices_within()).ok()?;
    (incident.cause == Cause::DatabaseConnection && until > case.now).then_some(until)
}

/// Whether what would come back ends by itself, too: it is what is found crashing, and nothing that came
/// after it.
fn ends(asked: &Asked, healthy: &HealthyRevision) -> bool {
    let found = asked.diagnosis.finding(IncidentType::CrashLoop);
    let only_before = found.is_some_and(|finding| finding.youngest_pod.is_none());
    only_before || asked.server.healthy_ends_too().is_some_and(|ends| ends.template == healthy.template)
}

/// What of the template's references could not be read.
fn not_checked(asked: &Asked, healthy: &HealthyRevision) -> String {
    let revision = asked.server.revisions.iter().find(|revision| revision.uid == healthy.uid);
    match revision.map(|revision| usable(asked.case, revision)) {
        Some(Usable::Yes { not_checked }) if !not_checked.is_empty() => {
            format!("; not checked: {}", not_checked.join(", "))
        }
        _ => String::new(),
    }
}

fn steps(asked: &Asked, healthy: &HealthyRevision) -> Vec<Step> {
    let target = asked.server.target;
    let mut steps = vec![
        Step {
            to: Some(healthy.template.clone()),
            source: Some(healthy.replica_set.clone()),
            ..step(Effect::PatchTemplate, target)
        },
        hand_back(target),
    ];
    if let Some(test) = &asked.case.spec.smoke_test {
        steps.push(await_rollout(target));
        steps.push(run_job::step_of(&test.job_template_ref, target));
    }
    steps
}

fn did(attempt: &Attempt) -> String {
    let template = attempt.steps.first().and_then(|step| step.to.as_deref()).unwrap_or("before");
    match &attempt.undoes {
        None => format!("rolled back to template {template}"),
        Some(undone) => format!("took {undone} back: forward to template {template}"),
    }
}

fn words(healthy: &HealthyRevision) -> String {
    match healthy.revision {
        Some(number) => format!("revision {number} (template {})", healthy.template),
        None => format!("ReplicaSet {} (template {})", healthy.replica_set, healthy.template),
    }
}
