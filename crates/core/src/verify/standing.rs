//! Whether what an attempt put in force is still in force, by its content; and what its Job proved.

use mcp_health_api::{ActionType, Attempt, Effect, Outcome, Step, StepState};

use crate::{
    Case, Server,
    actions::{run_job, watched_until},
};

/// How what an attempt did stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it left it.
    Ours,
    /// Cannot be seen.
    Unknown,
    /// Somebody brought back what was before.
    Reverted(String),
    /// Somebody put something else in force.
    Overtaken(String),
}

/// How what an attempt did stands now. An attempt that left the template alone is overtaken by another template.
pub fn standing(case: &Case, server: &Server, attempt: &Attempt) -> Standing {
    let mut template = None;
    for step in &attempt.steps {
        match step.effect {
            Effect::EditTemplate if step.state == StepState::Done && step.template.is_none() => {
                return Standing::Overtaken("somebody has changed the Deployment right after it".to_owned());
            }
            Effect::PatchTemplate | Effect::EditTemplate => {
                template = step.template.as_ref().or(step.to.as_ref()).map(|to| (to, step.from.as_ref()));
            }
            Effect::SetReplicas => {
                let desired = server.target.desired.to_string();
                if step.to.as_ref() != Some(&desired) {
                    let by = format!("somebody has set {desired} replicas meanwhile");
                    return changed(step.from.as_ref() == Some(&desired), by);
                }
            }
            Effect::RestoreConfig => match of_config(case, step) {
                Standing::Ours => {}
                other => return other,
            },
            Effect::RestartPods if template.is_none() => {
                template = step.from.as_ref().map(|from| (from, None));
            }
            _ => {}
        }
    }
    let before = || attempt.steps.iter().find(|step| step.effect == Effect::MarkTarget)?.from.as_ref();
    let Some((expected, from)) = template.or_else(|| before().map(|before| (before, None))) else {
        return Standing::Ours;
    };
    let now = &server.target.template;
    if server.is_in_force(expected) {
        return Standing::Ours;
    }
    changed(from == Some(now), format!("somebody has put template {now} in force meanwhile"))
}

/// Whether what an attempt put in force may still be so. Of a ConfigMap its content tells, whatever is rolled out
/// beside it.
pub fn may_be_in_force(case: &Case, server: &Server, attempt: &Attempt) -> bool {
    let mut configs = attempt.steps.iter().filter(|step| step.effect == Effect::RestoreConfig).peekable();
    if watched_until(attempt).is_some_and(|until| until <= case.now) {
        return false;
    }
    let is_over = |standing| matches!(standing, Standing::Reverted(_) | Standing::Overtaken(_));
    match configs.peek() {
        Some(_) => !configs.any(|step| is_over(of_config(case, step))),
        None => !is_over(standing(case, server, attempt)),
    }
}

/// How the content stands that a step put into a ConfigMap.
fn of_config(case: &Case, step: &Step) -> Standing {
    let Some(configs) = case.signals.configs.fresh() else { return Standing::Unknown };
    let Some(config) = configs.iter().find(|one| step.object == Some(format!("ConfigMap/{}", one.name)))
    else {
        return Standing::Overtaken("the ConfigMap is gone, or is not named any more".to_owned());
    };
    if step.to.as_ref() == Some(&config.content) {
        return Standing::Ours;
    }
    let by = format!("somebody has changed ConfigMap {} meanwhile", config.name);
    changed(step.from.as_ref() == Some(&config.content), by)
}

fn changed(back: bool, by: String) -> Standing {
    if back { Standing::Reverted(by) } else { Standing::Overtaken(by) }
}

/// What the Job of an attempt proved.
pub enum Proof {
    /// It has none.
    None,
    /// It runs, or cannot be seen.
    Awaited,
    /// It succeeded.
    Good,
    /// It failed; its name.
    Bad(String),
}

/// What the Job of an attempt proved.
pub fn job(case: &Case, attempt: &Attempt) -> Proof {
    if !has_job(attempt) {
        return Proof::None;
    }
    let name = run_job::job_name(attempt);
    let found = case.signals.jobs.fresh().and_then(|jobs| jobs.iter().find(|job| job.name == name));
    match found.and_then(|job| job.succeeded) {
        Some(true) => Proof::Good,
        Some(false) => Proof::Bad(name),
        None => Proof::Awaited,
    }
}

/// Why an attempt that did not help, or could not be judged, is in force without the proof that its Job was to
/// give. (A runbook's own Job is no proof of anything else.)
pub fn unproven(case: &Case, attempt: &Attempt) -> Option<String> {
    let ran = attempt.action != ActionType::RunJob && attempt.is_carried_out();
    match (attempt.outcome, job(case, attempt)) {
        (Some(Outcome::NoChange | Outcome::Inconclusive), Proof::Bad(name)) if ran => {
            Some(format!("Job {name} after {} failed", attempt.action))
        }
        (Some(Outcome::Inconclusive), Proof::Awaited) if ran => {
            let name = run_job::job_name(attempt);
            Some(format!("Job {name} after {} did not come to an end", attempt.action))
        }
        _ => None,
    }
}

/// The Job of an attempt was deleted, by a person or when its time was over.
pub fn job_is_gone(case: &Case, attempt: &Attempt) -> bool {
    let name = run_job::job_name(attempt);
    let gone = case.signals.jobs.fresh().is_some_and(|jobs| !jobs.iter().any(|job| job.name == name));
    has_job(attempt) && gone
}

fn has_job(attempt: &Attempt) -> bool {
    attempt.steps.iter().any(|step| step.effect == Effect::RunJob)
}
