//! SetEnv: sets a variable of the server's container (guide 000, Database Pool), one that the object allows
//! and that weakens nothing; of a pool of database connections, as far as its bound goes. Undone by the
//! template before; what is only for a time is taken back at its end.

use mcp_health_api::{ActionType, Attempt, Edit, FollowUp, IncidentType, Time, is_denied_env};

use super::plan::{Action, Asked, Plan, Planned, TEMPLATE, UNTIL, edit_steps, edits_of, undo_template};
use super::pool_bound;
use crate::{Case, mask::mask, signals::ContainerSpec, words};

pub const ACTION: Action =
    Action { action: ActionType::SetEnv, touches: TEMPLATE, plan, undo: undo_template, did, follow_up };

const PREFIX: &str = "env.";

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let wanted = asked.step.and_then(|step| step.set_env.as_ref());
    // The catalogue's own step raises the pool, which is computed where it is known to be allowed.
    let raises_pool = asked.step.is_none() && incident.incident_type == IncidentType::DatabasePoolExhausted;
    let name = match wanted {
        Some(wanted) => wanted.name.0.as_str(),
        None if raises_pool => pool_bound::SIZE,
        None => return Planned::impossible("NoVariable", "the runbook names no variable to set"),
    };
    if is_denied_env(name) {
        return Planned::impossible(
            "VariableDenied",
            format!(
                "{name} is never set by the operator: it may weaken authentication or TLS, load code, or hold a \
                 credential"
            ),
        );
    }
    let allowed = case.spec.actions.set_env.as_ref().map(|policy| policy.allow.as_slice());
    if !allowed.unwrap_or_default().iter().any(|one| one.0 == name) {
        return Planned::impossible(
            "VariableNotAllowed",
            format!("{name} is not in spec.actions.setEnv.allow"),
        );
    }
    let Some(container) = server.container() else {
        return Planned::impossible("NoContainer", "the template has no container of the server's");
    };
    let raised;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => match pool_bound::raised(asked, container) {
            Ok(parameters) => {
                raised = parameters;
                &raised
            }
            Err((reason, message)) => return Planned::Impossible { reason, message },
        },
    };
    if let Some(message) = pool_bound::against(asked, container, name, &wanted.value) {
        return Planned::impossible("PoolBound", message);
    }
    let before = match value_before(container, name, &wanted.value) {
        Ok(before) => before,
        Err(impossible) => return impossible,
    };
    let until = wanted.hold_for.and_then(|span| case.now.saturating_add(span.span()).ok());
    let for_words = wanted.hold_for.map(|span| format!(" for {span}")).unwrap_or_default();
    let edit = Edit {
        container: container.name.clone(),
        field: format!("{PREFIX}{name}"),
        from: before,
        to: wanted.value.clone(),
    };
    let mut steps = edit_steps(server.target, vec![edit]);
    if let Some(edited) = steps.first_mut() {
        edited.until = until.map(Time);
    }
    Planned::Ready(Plan {
        action: ActionType::SetEnv,
        what: format!("set {name} of container {} to {}{for_words}", container.name, wanted.value),
        why: format!("{} ({}): the runbook sets {name}", incident.name(), incident.cause),
        steps,
        undoes: None,
    })
}

/// The value that a variable has, as it may be shown; or why it is not to be set to this one.
fn value_before(container: &ContainerSpec, name: &str, value: &str) -> Result<Option<String>, Planned> {
    let of = &container.name;
    match container.env.iter().find(|(known, _)| known == name) {
        Some((_, None)) => Err(Planned::impossible(
            "VariableFromElsewhere",
            format!("container {of} takes {name} from elsewhere (valueFrom): change it there"),
        )),
        Some((_, Some(known))) if known == value => {
            Err(Planned::impossible("AlreadySet", format!("{name} of container {of} has that value already")))
        }
        Some((_, Some(known))) => Ok(Some(words::shorten(&mask(known), 64))),
        None => Ok(None),
    }
}

fn edit(attempt: &Attempt) -> Option<(&Edit, &str)> {
    edits_of(attempt).find_map(|edit| Some((edit, edit.field.strip_prefix(PREFIX)?)))
}

fn did(attempt: &Attempt) -> String {
    match (&attempt.undoes, edit(attempt)) {
        (Some(undone), _) => format!("took {undone} back: the variable is what it was"),
        (None, Some((edit, name))) => format!("set {name} of container {} to {}", edit.container, edit.to),
        (None, None) => "set a variable".to_owned(),
    }
}

fn follow_up(_: &Case, attempt: &Attempt) -> Option<FollowUp> {
    let (edit, name) = edit(attempt).filter(|_| attempt.undoes.is_none())?;
    let take_back_at = attempt.steps.iter().find_map(|step| step.until.clone());
    let instead = match &edit.from {
        Some(from) => format!("instead of {from}"),
        None => "and was not set before".to_owned(),
    };
    let what = format!("{name} of container {} is {} {instead}", edit.container, edit.to);
    let message = match &take_back_at {
        Some(at) => format!("{what}; it is taken back at {}", words::moment(at.0)),
        None => format!("{what}: put it into the manifest, or mend what needs it; {UNTIL}"),
    };
    Some(FollowUp { attempt: attempt.id.clone(), message, take_back_at })
}
