//! The reconcile, as seven verbs: observe → diagnose → decide → record → act → verify → report.
//!
//! It reads stores and calls nobody until there is something to record. `verify` judges what an *earlier*
//! reconcile did, which is why it comes before `decide` here.

use std::{sync::Arc, time::Instant};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Client,
    runtime::{controller::Action, events::Recorder},
};
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{
    Case, Decision, Diagnosis, Server, Settings, Story, attempt, decide, diagnose, diagnose::Witness, report,
    signals::Signals, verify,
};

use crate::{
    act,
    error::Error,
    events,
    fleet::Fleet,
    lease::Lease,
    observe::{Stores, last_words, table::Key},
    status::Statuses,
    telemetry::Metrics,
};

/// What every reconcile is given.
pub struct Context {
    /// The client.
    pub client: Client,
    /// What is seen.
    pub stores: Arc<Stores>,
    /// What was written.
    pub statuses: Statuses,
    /// What is being done on all servers.
    pub fleet: Fleet,
    /// The right to act.
    pub lease: Lease,
    /// Where events go.
    pub recorder: Recorder,
    /// The operator's configuration.
    pub settings: Settings,
    /// The operator's metrics.
    pub metrics: Arc<Metrics>,
}

/// One look at one server.
pub async fn reconcile(
    object: Arc<McpServerHealth>,
    key: Key,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let started = Instant::now();
    let object = context.statuses.latest(&object);
    let before = object.status.clone().unwrap_or_default();
    let now = whole_second(Timestamp::now());

    let signals = context.stores.signals(&object, now); // observe
    let case = case(&context, &object, &before, &signals, now);
    let diagnosis = diagnose(&case);
    let mut story = verify(&case, &diagnosis);
    let decision = decided(&context, &key, &case, &diagnosis, &story);

    let witness = new_witness(&before, &diagnosis, &story);
    let words = last_words_of(&context, &key, witness);
    let (acted, words) =
        tokio::join!(record_and_act(&context, &object, &case, &diagnosis, &mut story, &decision), words);
    let object = acted?; // record, act
    add_words(&mut story, words);

    let status = report::status(&case, &diagnosis, &story, &decision);
    report(&context, &key, object, &before, status).await?;
    context.metrics.reconciled("ok", started.elapsed().as_secs_f64());
    Ok(look_again(report::next_look(&story, &decision)))
}

fn case<'a>(
    context: &'a Context,
    object: &'a McpServerHealth,
    status: &'a McpServerHealthStatus,
    signals: &'a Signals,
    now: Timestamp,
) -> Case<'a> {
    let generation = object.metadata.generation.unwrap_or_default();
    Case { generation, spec: &object.spec, status, signals, settings: &context.settings, now }
}

/// decide, with a place in the fleet. An object that is not in charge of its target decides nothing.
fn decided(context: &Context, key: &Key, case: &Case, diagnosis: &Diagnosis, story: &Story) -> Decision {
    if case.signals.rival.is_some() {
        return Decision::Wait {
            until: None,
            next: Some("waits: another object is in charge of the target".to_owned()),
        };
    }
    if !context.fleet.is_complete() {
        let soon = case.now.saturating_add(SignedDuration::from_secs(1)).ok();
        return Decision::Wait { until: soon, next: Some("waits until all statuses are read".to_owned()) };
    }
    let decision = decide(case, diagnosis, story, &context.fleet.others(key));
    context.fleet.admit(key, decision, case.settings.max_concurrent_actions)
}

/// record: the intent goes to the status before anything is touched. act: its steps, fenced by it. What
/// either step comes to is noted in the story. Returns the object as it was last written.
async fn record_and_act(
    context: &Context,
    object: &Arc<McpServerHealth>,
    case: &Case<'_>,
    diagnosis: &Diagnosis,
    story: &mut Story,
    decision: &Decision,
) -> Result<Arc<McpServerHealth>, Error> {
    let mut object = Arc::clone(object);
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let target = act::Target {
        client: &context.client,
        namespace: &namespace,
        name: &case.spec.target_ref.name,
        timeout: context.lease.effect_timeout(),
    };
    let server = Server::of(case);
    let lease = || -> Result<(), Error> {
        let object = format!("{namespace}/{}", case.spec.target_ref.name);
        if context.lease.has_left() { Ok(()) } else { Err(Error::Lease { object }) }
    };
    let acted = match (decision, &server) {
        (Decision::Act(plan), Some(server)) => {
            lease()?;
            let Some(incident) = story.primary_mut() else { return Ok(object) };
            attempt::record(case, server, incident, plan);
            let Some(attempt) = incident.open_attempt().cloned() else { return Ok(object) };
            let intent = report::status(case, diagnosis, story, decision);
            let (written, prepared) = tokio::join!(
                context.statuses.write(&context.client, &object, intent),
                target.prepare(&plan.steps[0]),
            );
            // The object is gone: nothing is recorded, so nothing is done.
            let Some(written) = written? else { return Ok(object) };
            object = written;
            lease()?;
            let facts = act::Facts {
                actions: &server.target.actions,
                has_annotations: server.target.has_annotations,
                template_has_annotations: server.target.template_has_annotations,
            };
            target.carry_out(&attempt, prepared?, facts).await?
        }
        (Decision::Resume { against }, _) => {
            lease()?;
            let Some(attempt) = story.primary().and_then(|incident| incident.open_attempt()) else {
                return Ok(object);
            };
            target.resume(attempt, against.as_deref()).await?
        }
        (Decision::Escalate { reason, message }, _) => {
            if let Some(incident) = story.primary_mut() {
                verify::escalate(case, incident, reason, message);
            }
            return Ok(object);
        }
        _ => return Ok(object),
    };
    story.acted(case, server.as_ref(), &acted);
    Ok(object)
}

/// report: the status if it says anything new, and then an Event for each change of state.
async fn report(
    context: &Context,
    key: &Key,
    object: Arc<McpServerHealth>,
    before: &McpServerHealthStatus,
    status: McpServerHealthStatus,
) -> Result<(), Error> {
    let acting = status.incidents.iter().any(|incident| incident.open_attempt().is_some());
    let written = context.statuses.write(&context.client, &object, status.clone()).await?;
    // A place that became free lets the next server go on.
    context.stores.wake(context.fleet.note(key, acting));
    if let Some(written) = written {
        context.metrics.note(before, &status);
        events::publish(&context.recorder, &written, before, &status).await;
    }
    Ok(())
}

/// Of an incident that opens now: its id, and the container whose last words would tell more.
fn new_witness(
    before: &McpServerHealthStatus,
    diagnosis: &Diagnosis,
    story: &Story,
) -> Option<(String, Witness)> {
    let incident =
        story.incidents.iter().find(|one| !before.incidents.iter().any(|known| known.id == one.id))?;
    Some((incident.id.clone(), diagnosis.finding(incident.incident_type)?.witness.clone()?))
}

async fn last_words_of(
    context: &Context,
    key: &Key,
    witness: Option<(String, Witness)>,
) -> Option<(String, String)> {
    let (id, witness) = witness?;
    Some((id, last_words::of(context.client.clone(), key.namespace.to_string(), witness).await))
}

fn add_words(story: &mut Story, words: Option<(String, String)>) {
    let Some((id, words)) = words else { return };
    if let Some(incident) = story.incidents.iter_mut().find(|incident| incident.id == id) {
        incident.evidence.push(words);
    }
}

fn look_again(at: Option<Timestamp>) -> Action {
    let Some(at) = at else { return Action::await_change() };
    // Moments are of whole seconds; one more lets "until" be over.
    let pause = at.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
    let pause = std::time::Duration::try_from(pause).unwrap_or_default();
    Action::requeue(pause + std::time::Duration::from_millis(20))
}

/// The moment, as statuses keep it: to the second.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
