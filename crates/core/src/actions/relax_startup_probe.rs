//! RelaxStartupProbe: a container that is killed before its start is over gets twice the tries (guide 004,
//! Service Not Responding: `startupProbe.failureThreshold`), within the object's longest start. Undone by the
//! template before.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Attempt, Edit, FollowUp};

use super::plan::{
    Action, Asked, Plan, Planned, TEMPLATE, Touches, UNTIL, edit_steps, edits_of, undo_template,
};
use crate::{
    Case, Server,
    signals::{ContainerSpec, Probe, ProbeKind},
    words,
};

pub const ACTION: Action = Action {
    action: ActionType::RelaxStartupProbe,
    touches: Touches { mends_rollout: true, ..TEMPLATE },
    plan,
    undo: undo_template,
    did,
    follow_up,
};

const FIELD: &str = "startupProbe.failureThreshold";

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let Some(container) = slow_container(server) else {
        return Planned::impossible("NoContainer", "the template has no container to give more time to");
    };
    let name = &container.name;
    let Some(probe) = probe(container, ProbeKind::Startup) else {
        let liveness = probe(container, ProbeKind::Liveness).map(|probe| {
            format!(": its livenessProbe ends it after {} if it is not up by then", words::span(time(probe)))
        });
        return Planned::impossible(
            "NoStartupProbe",
            format!(
                "container {name} has no startupProbe{}; give it one in the manifest",
                liveness.unwrap_or_default()
            ),
        );
    };
    let longest = case.spec.actions.relax_startup_probe.max_startup_time.span();
    let room = longest.as_secs().saturating_sub(probe.delay) / probe.period.max(1);
    let to = probe.failures.saturating_mul(2).min(room);
    if to <= probe.failures {
        return Planned::impossible(
            "StartupTimeReached",
            format!(
                "container {name} has {} to start, and may have {} at most \
                 (spec.actions.relaxStartupProbe.maxStartupTime)",
                words::span(time(probe)),
                words::span(longest)
            ),
        );
    }
    let relaxed = Probe { failures: to, ..probe.clone() };
    Planned::Ready(Plan {
        action: ActionType::RelaxStartupProbe,
        what: format!(
            "give container {name} {} to start instead of {}",
            words::span(time(&relaxed)),
            words::span(time(probe))
        ),
        why: format!(
            "{} ({}): its start may take longer than {}",
            incident.name(),
            incident.cause,
            words::span(time(probe))
        ),
        steps: edit_steps(
            server.target,
            vec![Edit {
                container: name.clone(),
                field: FIELD.to_owned(),
                from: Some(probe.failures.to_string()),
                to: to.to_string(),
            }],
        ),
        undoes: None,
    })
}

/// The container that does not come up: one that was started anew in a pod that is not ready; else the
/// server's.
fn slow_container<'a>(server: &Server<'a>) -> Option<&'a ContainerSpec> {
    let unready = server.current_pods().into_iter().filter(|pod| !pod.ready);
    let again = unready.flat_map(|pod| &pod.containers).filter(|one| one.restarts > 0);
    let again: Vec<_> = again.map(|one| &one.name).collect();
    let mut slow = server.target.containers.iter().filter(|spec| again.contains(&&spec.name));
    let probed = slow.clone().find(|spec| probe(spec, ProbeKind::Startup).is_some());
    probed.or_else(|| slow.next()).or_else(|| server.container())
}

fn probe(container: &ContainerSpec, kind: ProbeKind) -> Option<&Probe> {
    container.probes.iter().find(|probe| probe.kind == kind)
}

/// How long a probe lets a container take.
fn time(probe: &Probe) -> SignedDuration {
    SignedDuration::from_secs(probe.delay.saturating_add(probe.failures.saturating_mul(probe.period)))
}

fn edit(attempt: &Attempt) -> Option<(&Edit, &str)> {
    let edit = edits_of(attempt).find(|edit| edit.field == FIELD)?;
    Some((edit, edit.from.as_deref().unwrap_or("3")))
}

fn did(attempt: &Attempt) -> String {
    match (&attempt.undoes, edit(attempt)) {
        (Some(undone), _) => format!("took {undone} back: the start has the time that it had"),
        (None, Some((edit, from))) => format!(
            "gave container {} more time to start ({FIELD} {} instead of {from})",
            edit.container, edit.to
        ),
        (None, None) => "gave the start more time".to_owned(),
    }
}

fn follow_up(_: &Case, attempt: &Attempt) -> Option<FollowUp> {
    let (edit, from) = edit(attempt).filter(|_| attempt.undoes.is_none())?;
    let message = format!(
        "{FIELD} of container {} is {} instead of {from}: put it into the manifest, or make the start faster; {UNTIL}",
        edit.container, edit.to
    );
    Some(FollowUp { attempt: attempt.id.clone(), message, take_back_at: None })
}
