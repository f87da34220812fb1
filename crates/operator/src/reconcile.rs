//! The reconcile, as seven verbs: observe → diagnose → decide → record → act → verify → report.
//!
//! It reads stores and calls nobody until there is something to record. `verify` judges what an *earlier*
//! reconcile did, which is why it comes before `decide` here.

mod acting;
mod bundle;
mod context;

use std::{sync::Arc, time::Instant};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{
    Case, Decision, Diagnosis, StatusDraft, decide, diagnose, diagnose::Verdict, references, report,
    signals::Signals, verify,
};

use acting::{record_and_act, uid_of};
use bundle::keep_for_a_person;
pub use context::Context;

use crate::{error::Error, events, observe::table::Key};

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

    context.stores.ask_for_logs(&object, now);
    let mut signals = context.stores.signals(&object, now); // observe
    let wanted = references::wanted(&case(&context, &object, &before, &signals, now));
    let looked_up = context
        .stores
        .references
        .of(&context.client, &key, wanted, |key| context.stores.has_config_map(key, now));
    signals.references = Box::pin(looked_up).await;
    let case = case(&context, &object, &before, &signals, now);
    let diagnosis = diagnose(&case);
    context.stores.urgent.set(&key, !diagnosis.undecided.is_empty());
    let mut draft = verify(&case, &diagnosis);
    Box::pin(context.copies.keep(&context.client, &object, &case, &mut draft)).await;
    let decision = decided(&context, &key, &case, &diagnosis, &draft);

    let object = record_and_act(&context, &object, &case, &diagnosis, &mut draft, &decision).await?; // record, act
    keep_for_a_person(&context, &object, &case, &mut draft).await;

    let status = report::status(&case, &diagnosis, &draft, &decision);
    let object = report(&context, &key, object, &before, status).await?;
    let open = object.status.as_ref().map(|status| status.incidents.as_slice()).unwrap_or_default();
    let verdict = Verdict::of(&diagnosis, &signals, open);
    context.stores.judged.note(&key, object, verdict);
    context.metrics.reconciled("ok", started.elapsed().as_secs_f64());
    Ok(look_again(report::next_look(&draft, &decision)))
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
fn decided(
    context: &Context,
    key: &Key,
    case: &Case,
    diagnosis: &Diagnosis,
    draft: &StatusDraft,
) -> Decision {
    if !context.fleet.is_complete() {
        let soon = case.now.saturating_add(SignedDuration::from_secs(1)).ok();
        return Decision::Wait { until: soon, next: Some("waits until all statuses are read".to_owned()) };
    }
    let target = case.signals.target.fresh().and_then(Option::as_ref);
    context.fleet.decide(key, target, case.now, |others| decide(case, diagnosis, draft, others))
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
