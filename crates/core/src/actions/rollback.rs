//! Rollback: the template of a ReplicaSet that was seen healthy comes back (guide 004, Rollback Procedure).
//! Undone by rolling forward again.

use mcp_health_api::{ActionType, Attempt, Effect, HealthyRevision, Incident};

use super::{Plan, Planned, hand_back, step};
use crate::{
    Case, Server,
    healthy::{Way, way_back},
};

pub fn plan(case: &Case, server: &Server, incident: &Incident) -> Planned {
    match way_back(server, case.settings.seen_healthy_after, case.now) {
        Way::To(healthy) => {
            let to = words(&healthy);
            Planned::Ready(Plan {
                action: ActionType::Rollback,
                what: format!("roll back to the template of {to}"),
                why: format!(
                    "{} ({}): {} was never seen healthy, {to} was",
                    incident.incident_type,
                    incident.cause,
                    server.current_words()
                ),
                steps: steps(server, &healthy.template, &healthy.replica_set),
                undoes: None,
            })
        }
        Way::Soon(until) => Planned::Later {
            until,
            why: "the template that still serves beside the bad one is not proven healthy yet".to_owned(),
        },
        Way::AlreadyThere => Planned::Impossible {
            reason: "NothingToRollBack",
            message: format!(
                "the template in force ({}) is the one that was seen healthy: there is nothing to roll back",
                server.target.template
            ),
        },
        Way::Gone(healthy) => Planned::Impossible {
            reason: "RollbackTargetGone",
            message: format!(
                "ReplicaSet {} with the healthy template {} is gone (revisionHistoryLimit?): apply the last good manifest",
                healthy.replica_set, healthy.template
            ),
        },
        Way::NeverSeen => Planned::Impossible {
            reason: "NoHealthyRevision",
            message: "no revision of this server was ever seen healthy: there is nothing to roll back to"
                .to_owned(),
        },
    }
}

pub fn plan_undo(server: &Server, attempt: &Attempt) -> Option<Plan> {
    let done = attempt.steps.iter().find(|step| step.effect == Effect::PatchTemplate)?;
    let before = done.from.as_ref()?;
    // Only while it is still ours: the content that we wrote, not a word of it changed since.
    let ours = done.to.as_ref() == Some(&server.target.template);
    let source = server.revisions.iter().find(|revision| &revision.template == before)?;
    ours.then(|| Plan {
        action: ActionType::Rollback,
        what: format!("take the rollback back: roll forward to template {before}"),
        why: format!("{} made things worse", attempt.id),
        steps: steps(server, before, &source.name),
        undoes: Some(attempt.id.clone()),
    })
}

fn steps(server: &Server, template: &str, replica_set: &str) -> Vec<mcp_health_api::Step> {
    let target = server.target;
    vec![
        step(Effect::PatchTemplate, target, Some(template.to_owned()), Some(replica_set.to_owned())),
        hand_back(target),
    ]
}

fn words(healthy: &HealthyRevision) -> String {
    match healthy.revision {
        Some(number) => format!("revision {number} (template {})", healthy.template),
        None => format!("ReplicaSet {} (template {})", healthy.replica_set, healthy.template),
    }
}
