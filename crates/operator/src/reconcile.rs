//! The reconcile, as seven verbs: observe → diagnose → decide → record → act → verify → report.
//!
//! It reads stores and calls nobody until there is something to record. `verify` judges what an *earlier*
//! reconcile did, which is why it comes before `decide` here.

mod acting;

use std::{sync::Arc, time::Instant};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Client,
    runtime::{controller::Action, events::Recorder},
};
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{
    Case, Decision, Diagnosis, Server, Settings, Story, attempt::Acted, decide, diagnose, diagnose::Verdict,
    escalation, references, report, signals::Signals, verify,
};

use acting::Acting;

use crate::{
    act::{self, Unsent},
    error::Error,
    events,
    evidence::{Collected, Collecting},
    fleet::Fleet,
    keep::Copies,
    lease::Lease,
    observe::{Stores, table::Key},
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
    /// Copies of what healthy pods read.
    pub copies: Copies,
    /// The right to act.
    pub lease: Lease,
    /// Steps that were begun and not sent.
    pub unsent: Unsent,
    /// Namespace and name of the `ConfigMap` that stops the operator, if there is one.
    pub switch: Option<(String, String)>,
    /// Where events go.
    pub recorder: Recorder,
    /// The operator's configuration.
    pub settings: Settings,
    /// Whether evidence is collected.
    pub keep_evidence: bool,
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
    let mut before = object.status.clone().unwrap_or_default();
    context.unsent.restore(uid_of(&object), &mut before);
    let now = whole_second(Timestamp::now());

    let mut signals = context.stores.signals(&object, now); // observe
    let wanted = references::wanted(&case(&context, &object, &before, &signals, now));
    let looked_up = context.stores.references.of(&context.client, &context.stores, &key, wanted, now);
    signals.references = Box::pin(looked_up).await;
    let case = case(&context, &object, &before, &signals, now);
    let diagnosis = diagnose(&case);
    context.stores.urgent.set(&key, !diagnosis.undecided.is_empty());
    let mut story = verify(&case, &diagnosis);
    Box::pin(context.copies.keep(&context.client, &object, &case, &mut story)).await;
    let decision = decided(&context, &key, &case, &diagnosis, &story);

    let object = record_and_act(&context, &object, &case, &diagnosis, &mut story, &decision).await?; // record, act
    keep_for_a_person(&context, &object, &case, &mut story).await;

    let status = report::status(&case, &diagnosis, &story, &decision);
    let object = report(&context, &key, object, &before, status).await?;
    let open = object.status.as_ref().map(|status| status.incidents.as_slice()).unwrap_or_default();
    let verdict = Verdict::of(&diagnosis, &signals, open);
    context.stores.judged.note(&key, object, verdict);
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

/// decide, with a place in the fleet.
fn decided(context: &Context, key: &Key, case: &Case, diagnosis: &Diagnosis, story: &Story) -> Decision {
    if !context.fleet.is_complete() {
        let soon = case.now.saturating_add(SignedDuration::from_secs(1)).ok();
        return Decision::Wait { until: soon, next: Some("waits until all statuses are read".to_owned()) };
    }
    let target = case.signals.target.fresh().and_then(Option::as_ref);
    context.fleet.decide(key, target, case.now, |others| decide(case, diagnosis, story, others))
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
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let server = Server::of(case);
    let target = target(context, case, object, &namespace, server.as_ref());
    let acting = Acting { context, case, diagnosis, decision, object, server: server.as_ref(), target };
    let (object, acted) = match (decision, &server) {
        (Decision::Act(plan), Some(server)) => acting.begin(plan, server, story).await?,
        (Decision::Resume { against }, _) => acting.resume(against.as_deref(), story).await?,
        (Decision::Escalate { reason, message }, _) => {
            if let Some(incident) = story.primary_mut() {
                escalation::escalate(case, incident, reason, message);
            }
            return Ok(Arc::clone(object));
        }
        _ => return Ok(Arc::clone(object)),
    };
    if matches!(acted, Some(Acted::Superseded(_))) {
        // What was looked up may be what has changed.
        context.stores.references.forget(&Key::of(&*object));
    }
    if let Some(acted) = acted {
        story.acted(case, server.as_ref(), &acted);
    }
    Ok(object)
}

/// An incident that is handed to a person now: what they will ask for.
async fn keep_for_a_person(
    context: &Context,
    object: &Arc<McpServerHealth>,
    case: &Case<'_>,
    story: &mut Story,
) {
    let Some(incident) = story.primary().filter(|incident| incident.escalation.is_some()) else { return };
    let known = case.status.incidents.iter().find(|known| known.id == incident.id);
    if known.is_some_and(|known| known.escalation.is_some()) {
        return;
    }
    let (id, server) = (incident.id.clone(), Server::of(case));
    let Some(evidence) = collecting(context, object, case, server.as_ref(), story) else { return };
    let collected = collect(Some(&evidence), &id).await;
    keep(Some(&evidence), collected, story).await;
}

/// What the steps of an attempt need beside what is recorded.
fn target<'a>(
    context: &'a Context,
    case: &'a Case<'a>,
    object: &'a McpServerHealth,
    namespace: &'a str,
    server: Option<&Server>,
) -> act::Target<'a> {
    act::Target {
        client: &context.client,
        object,
        namespace,
        name: &case.spec.target_ref.name,
        pods: case.signals.pods.fresh().map(Vec::as_slice).unwrap_or_default(),
        port: server.and_then(Server::port),
        databases: context.stores.databases.as_ref(),
        revisions: case.signals.revisions.fresh().map(Vec::as_slice).unwrap_or_default(),
        timeout: context.lease.effect_timeout(),
        lease: &context.lease,
        unsent: &context.unsent,
        switch: context.switch.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str())),
    }
}

fn uid_of(object: &McpServerHealth) -> &str {
    object.metadata.uid.as_deref().unwrap_or_default()
}

/// What is to be collected about the primary incident.
fn collecting<'a>(
    context: &'a Context,
    object: &'a McpServerHealth,
    case: &Case<'a>,
    server: Option<&'a Server<'a>>,
    story: &Story,
) -> Option<Collecting<'a>> {
    let incident = story.primary().filter(|_| context.keep_evidence)?.clone();
    Some(Collecting { client: &context.client, object, signals: case.signals, server, incident })
}

async fn collect(evidence: Option<&Collecting<'_>>, id: &str) -> Option<Collected> {
    Some(Box::pin(evidence?.collect(id)).await)
}

/// Keeps what was collected, and notes where.
async fn keep(evidence: Option<&Collecting<'_>>, collected: Option<Collected>, story: &mut Story) {
    let Some((evidence, collected)) = evidence.zip(collected) else { return };
    if let Some((kept, incident)) = Box::pin(evidence.keep(collected)).await.zip(story.primary_mut()) {
        incident.evidence_kept = Some(kept);
    }
}

/// report: the status if it says anything new, and then an Event for each change of state.
async fn report(
    context: &Context,
    key: &Key,
    object: Arc<McpServerHealth>,
    before: &McpServerHealthStatus,
    status: McpServerHealthStatus,
) -> Result<Arc<McpServerHealth>, Error> {
    let written = context.statuses.write(&context.client, &object, status.clone()).await?;
    // A place that became free lets the next server go on. One that is gone leaves by its own watch.
    if written.is_some() {
        context.stores.wake(context.fleet.note(key, &status));
        context.metrics.count(&context.fleet.counts());
    }
    let Some(written) = written else { return Ok(object) };
    context.metrics.note(before, &status);
    events::publish(&context.recorder, &written, before, &status).await;
    Ok(written)
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

#[cfg(test)]
mod tests;
