//! RollbackConfig: the content of a ConfigMap that healthy pods were started with comes back (guide 003,
//! Configuration Rollback), and the pods are replaced: a server reads its settings at its start. The content
//! before is kept in a copy, by which it is undone. Secrets are never touched.

use mcp_health_api::{ActionType, Attempt, Effect, FollowUp, Outcome, Step};

use super::plan::{Action, Asked, Plan, Planned, TEMPLATE, Touches, hand_back, step};
use super::rollout_restart::moment;
use crate::{
    Case, Server,
    healthy::copy_name,
    signals::{Config, Reading},
    words,
};

pub const ACTION: Action = Action {
    action: ActionType::RollbackConfig,
    touches: Touches { mends_rollout: true, ..TEMPLATE },
    plan,
    undo,
    did,
    follow_up,
};

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    // Without that, no copy is kept: there would be nothing to bring back.
    if !case.spec.actions.allow.contains(&ActionType::RollbackConfig) {
        return Planned::impossible("ActionNotAllowed", not_allowed(server));
    }
    if case.signals.configs == Reading::Off {
        return Planned::impossible(
            "ConfigRollbackOff",
            "this operator does not watch ConfigMaps (its flag --config-rollback; in the chart, actions.rollbackConfig)",
        );
    }
    let Some((config, healthy)) = server.changed_config() else { return nothing_changed(server) };
    let name = &config.name;
    if healthy.copy.is_empty() {
        let message = format!(
            "no copy of the content {} of ConfigMap {name} was made: RollbackConfig was not allowed then",
            healthy.content
        );
        return Planned::impossible("NoHealthyConfig", message);
    }
    if config.immutable {
        let message = format!(
            "ConfigMap {name} is immutable: delete it, and create it with the content of ConfigMap {}",
            healthy.copy
        );
        return Planned::impossible("ConfigImmutable", message);
    }
    if !config.shared_with.is_empty() {
        let message = format!(
            "ConfigMap {name} is also read by {}: what mends this server may break others; the content of before is in ConfigMap {}",
            config.shared_with.join(", "),
            healthy.copy
        );
        return Planned::impossible("ConfigShared", message);
    }
    if !config.unchecked.is_empty() {
        let message = format!(
            "not checked whether others read ConfigMap {name}: {}; the content of before is in ConfigMap {}",
            config.unchecked.join(", "),
            healthy.copy
        );
        return Planned::impossible("ConfigSharingUnknown", message);
    }
    Planned::Ready(Plan {
        action: ActionType::RollbackConfig,
        what: format!("bring back the content {} of ConfigMap {name}, and restart all pods", healthy.content),
        why: format!(
            "{} ({}): ConfigMap {name} was changed (content {}) since the pods were healthy with content {}",
            incident.name(),
            incident.cause,
            config.content,
            healthy.content
        ),
        steps: steps(case, server, config, &healthy.content, &healthy.copy),
        undoes: None,
    })
}

/// What would be done, if it were allowed.
fn not_allowed(server: &Server) -> String {
    let what = server.changed_config().map(|(config, healthy)| {
        format!(
            ": it would bring back the content {} of ConfigMap {}, which was changed at {}, and restart all \
             pods",
            healthy.content,
            config.name,
            words::moment(config.changed)
        )
    });
    format!("RollbackConfig is not in spec.actions.allow{}", what.unwrap_or_default())
}

/// No ConfigMap holds another content than when the template in force was healthy: in which way.
fn nothing_changed(server: &Server) -> Planned {
    let known = server.last_healthy.filter(|healthy| healthy.template == server.target.template);
    let known = known.map(|healthy| healthy.config.as_slice()).unwrap_or_default();
    let gone = known.iter().find(|known| !server.configs.iter().any(|one| one.name == known.name));
    match gone {
        None if known.is_empty() => Planned::impossible(
            "NoHealthyConfig",
            "no content of a ConfigMap was seen healthy with the template in force, and kept",
        ),
        None => Planned::impossible(
            "NothingToRollBack",
            "the ConfigMaps hold what they held when the server was healthy",
        ),
        Some(gone) => Planned::impossible(
            "ConfigGone",
            format!("ConfigMap {} is gone: create it with the content of ConfigMap {}", gone.name, gone.copy),
        ),
    }
}

fn steps(case: &Case, server: &Server, config: &Config, to: &str, copy: &str) -> Vec<Step> {
    let target = server.target;
    let object = Some(format!("ConfigMap/{}", config.name));
    let restore = Step {
        object: object.clone(),
        from: Some(config.content.clone()),
        to: Some(to.to_owned()),
        source: Some(copy.to_owned()),
        uid: config.uid.clone(),
        resource_version: Some(config.resource_version.clone()),
        ..step(Effect::RestoreConfig, target)
    };
    // Fenced by the template alone: what happens to the pods meanwhile moves the Deployment's version on.
    let restart =
        Step { to: Some(moment(case)), resource_version: None, ..step(Effect::RestartPods, target) };
    let hand_back = Step {
        object,
        source: config.owner.clone(),
        uid: config.uid.clone(),
        resource_version: None,
        ..hand_back(target)
    };
    vec![restore, restart, hand_back]
}

/// The content before comes back by its copy; only while what is in force is still ours, not a word of it
/// changed since.
fn undo(case: &Case, server: &Server, attempt: &Attempt) -> Option<Plan> {
    let config = config_of(server, &attempt.steps)?;
    let done = restoring(&attempt.steps)?;
    let before = done.from.as_deref()?;
    let ours = done.to.as_ref() == Some(&config.content) && before != config.content;
    let worse = attempt.outcome != Some(Outcome::Improved);
    ours.then(|| Plan {
        action: attempt.action,
        what: format!("take {} back: content {before} of ConfigMap {} again", attempt.id, config.name),
        why: format!("{} {}", attempt.id, if worse { "made things worse" } else { "was only for a time" }),
        steps: steps(case, server, config, before, &copy_name(&config.name, before)),
        undoes: Some(attempt.id.clone()),
    })
}

fn did(attempt: &Attempt) -> String {
    let Some(step) = restoring(&attempt.steps) else { return "restarted all pods".to_owned() };
    let (name, content) = (config_name(step).unwrap_or("?"), step.to.as_deref().unwrap_or("before"));
    match &attempt.undoes {
        None => format!("brought back the content {content} of ConfigMap {name}, and restarted all pods"),
        Some(undone) => {
            format!("took {undone} back: content {content} of ConfigMap {name} again, all pods restarted")
        }
    }
}

fn follow_up(_: &Case, attempt: &Attempt) -> Option<FollowUp> {
    let step = restoring(&attempt.steps).filter(|_| attempt.undoes.is_none())?;
    let (name, before) = (config_name(step)?, step.from.as_deref()?);
    Some(FollowUp {
        attempt: attempt.id.clone(),
        message: format!(
            "ConfigMap {name} holds the content of before the change; the bad content is kept in ConfigMap {}: mend the source, and apply it",
            copy_name(name, before)
        ),
        take_back_at: None,
    })
}

/// The ConfigMap whose content the steps of an attempt change, as it is now.
pub fn config_of<'a>(server: &Server<'a>, steps: &[Step]) -> Option<&'a Config> {
    let name = config_name(restoring(steps)?)?;
    server.configs.iter().find(|config| config.name == name)
}

fn restoring(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|step| step.effect == Effect::RestoreConfig)
}

/// The name of the ConfigMap that a step is about.
pub fn config_name(step: &Step) -> Option<&str> {
    step.object.as_deref()?.strip_prefix("ConfigMap/")
}
