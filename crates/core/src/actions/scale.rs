//! Scale: more replicas, where any pod can answer any request (guide 004, Scaling). The number is absolute,
//! within `spec.actions.scale.max`, and stays until somebody makes it permanent; what made things worse is
//! scaled back.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Attempt, Effect, FollowUp, Outcome, ScalePolicy, Step};

use super::plan::{Action, Asked, NOTHING, Plan, Planned, Touches, step};
use crate::{
    Case, Server,
    signals::{Reading, Service, Target},
    time::after,
    words,
};

pub const ACTION: Action = Action {
    action: ActionType::Scale,
    touches: Touches { replicas: true, ..NOTHING },
    plan,
    undo,
    did,
    follow_up,
};

/// Services that cannot be seen now are looked at again.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let target = server.target;
    let Some(policy) = &case.spec.actions.scale else {
        return Planned::impossible("NoScalePolicy", "spec.actions.scale does not say how far it may go");
    };
    if target.desired >= policy.max {
        let (max, desired) = (policy.max, target.desired);
        let message = format!("{desired} replicas are wanted, and spec.actions.scale.max is {max}");
        return Planned::impossible("ScaleMaximum", message);
    }
    if let Err(unfit) = fit(case, target, policy) {
        return unfit;
    }
    let by = asked.step.and_then(|step| step.scale.as_ref()).map_or(1, |wanted| wanted.by).max(1);
    let replicas = target.desired.saturating_add(by).min(policy.max);
    Planned::Ready(Plan {
        action: ActionType::Scale,
        what: format!("set {replicas} replicas instead of {}", target.desired),
        why: format!(
            "{} ({}): {} of {} wanted pods are ready, and the work is too much for them",
            incident.name(),
            incident.cause,
            server.ready(),
            target.desired
        ),
        steps: set_replicas(target, replicas),
        undoes: None,
    })
}

/// Whether more pods would do the work as well as these.
fn fit(case: &Case, target: &Target, policy: &ScalePolicy) -> Result<(), Planned> {
    if let Some(claim) = target.claims.first() {
        let message = format!(
            "its pods share PersistentVolumeClaim {claim}: another pod might not get it, or spoil it"
        );
        return Err(Planned::impossible("SharedVolume", message));
    }
    if policy.stateless {
        return Ok(());
    }
    let services = match &case.signals.services {
        Reading::Fresh(services) => services,
        unseen => {
            let until = after(case.now, LOOK_AGAIN);
            let why =
                unseen.problem("its Services").unwrap_or_else(|| "its Services are not seen".to_owned());
            return Err(Planned::Later { until, why });
        }
    };
    let leading = || services.iter().filter(|service| service.selects_pods);
    let sessions = "a client's session stays in one pod, and another would not know it";
    let advice = "set spec.actions.scale.stateless where that is not so";
    match leading().find(|service: &&Service| !service.sticky) {
        Some(service) => Err(Planned::impossible(
            "NotStateless",
            format!(
                "Service {} does not keep a client on its pod (sessionAffinity: ClientIP): {sessions}; {advice}",
                service.name
            ),
        )),
        None if leading().next().is_none() => {
            let message = format!("no Service keeps a client on its pod: {sessions}; {advice}");
            Err(Planned::impossible("NotStateless", message))
        }
        None => Ok(()),
    }
}

fn set_replicas(target: &Target, replicas: i32) -> Vec<Step> {
    let mut steps = vec![Step {
        from: Some(target.desired.to_string()),
        to: Some(replicas.to_string()),
        ..step(Effect::SetReplicas, target)
    }];
    // Whoever names the number in a manifest must still be able to apply it. Whoever does not would remove a
    // field that was given to them, and be left with one replica.
    if let Some(owner) = &target.replicas_owner {
        let hand_back = step(Effect::HandBackOwnership, target);
        steps.push(Step { from: None, source: Some(owner.clone()), ..hand_back });
    }
    steps
}

/// Only while the number is still ours.
fn undo(_: &Case, server: &Server, attempt: &Attempt) -> Option<Plan> {
    let (from, to) = change(attempt)?;
    (server.target.desired == to && from != to).then(|| Plan {
        action: ActionType::Scale,
        what: format!("take {} back: {from} replicas again", attempt.id),
        why: match attempt.outcome {
            Some(Outcome::Improved) => format!("{} was only for a time", attempt.id),
            _ => format!("{} made things worse", attempt.id),
        },
        steps: set_replicas(server.target, from),
        undoes: Some(attempt.id.clone()),
    })
}

fn did(attempt: &Attempt) -> String {
    match change(attempt) {
        Some((from, to)) => format!("set {} instead of {from}", replicas(to)),
        None => "set another number of replicas".to_owned(),
    }
}

fn follow_up(_: &Case, attempt: &Attempt) -> Option<FollowUp> {
    let (from, to) = change(attempt)?;
    Some(FollowUp {
        attempt: attempt.id.clone(),
        message: format!(
            "it runs with {} instead of {from}: write that into its manifest, or give its containers more CPU",
            replicas(to)
        ),
        take_back_at: None,
    })
}

fn change(attempt: &Attempt) -> Option<(i32, i32)> {
    let step = attempt.steps.iter().find(|step| step.effect == Effect::SetReplicas)?;
    Some((step.from.as_ref()?.parse().ok()?, step.to.as_ref()?.parse().ok()?))
}

fn replicas(number: i32) -> String {
    words::count(usize::try_from(number).unwrap_or_default(), "replica")
}
