//! RunJob: a Job from a template that the user wrote, as `kubectl create job --from=cronjob/…` makes one
//! (guide 004, Rollback Procedure: smoke tests). Whether it succeeded is part of the verification.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Attempt, Effect, JobTemplateRef, Step};

use super::plan::{Action, Asked, NOTHING, Plan, Planned, mark_target, no_follow_up, no_undo, step};
use crate::{
    digest,
    signals::{Reading, Target},
};

pub const ACTION: Action = Action {
    action: ActionType::RunJob,
    touches: NOTHING,
    plan,
    undo: no_undo,
    did,
    follow_up: no_follow_up,
};

/// How long a Job may take before what it proves counts as not proven.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

fn plan(asked: &Asked) -> Planned {
    let Some(wanted) = asked.step.and_then(|step| step.run_job.as_ref()) else {
        return Planned::impossible("NoJob", "the runbook names no Job to run");
    };
    if asked.case.signals.jobs == Reading::Off {
        return Planned::impossible(
            "JobsOff",
            "this operator may not run Jobs: its chart gives the right by actions.runJob=true",
        );
    }
    let (incident, target) = (asked.incident, asked.server.target);
    Planned::Ready(Plan {
        action: ActionType::RunJob,
        what: format!("run a Job of CronJob {}", wanted.job_template_ref.name),
        why: format!("{} ({})", incident.name(), incident.cause),
        steps: vec![mark_target(target), step_of(&wanted.job_template_ref, target)],
        undoes: None,
    })
}

/// The step that creates a Job.
pub(super) fn step_of(template: &JobTemplateRef, target: &Target) -> Step {
    Step {
        from: None,
        resource_version: None,
        source: Some(format!("{}/{}", template.kind, template.name)),
        ..step(Effect::RunJob, target)
    }
}

fn did(attempt: &Attempt) -> String {
    let job = attempt.steps.iter().find(|step| step.effect == Effect::RunJob);
    let from = job.and_then(|step| step.source.as_deref()).unwrap_or("its template");
    format!("ran a Job of {from}")
}

/// The longest name that a Job can have: its pods bear it in a label.
const LONGEST_NAME: usize = 63;

/// The name of the Job that an attempt makes: the same whenever it is asked for.
pub fn job_name(attempt: &Attempt) -> String {
    let name = format!("mcph-{}", attempt.id);
    let valid = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
    // Whoever edits a status may write any id.
    if name.len() <= LONGEST_NAME && name.chars().all(valid) && !name.ends_with('-') {
        name
    } else {
        format!("mcph-{}", digest::short(name.as_bytes(), 20))
    }
}
