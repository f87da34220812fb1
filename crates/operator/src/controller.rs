//! The queue: objects to look at, from their own watch and from the tables, through kube's scheduler to the
//! reconcile. One for each watched scope.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    stream,
};
use jiff::Timestamp;
use kube::{
    Client, Resource,
    runtime::{
        applier,
        controller::{Action, Config, ReconcileRequest},
        reflector::{
            self, ObjectRef,
            store::{Store, Writer},
        },
        watcher::{Error as WatchError, Event},
    },
};
use mcp_health_api::McpServerHealth;
use mcp_health_core::report;
use serde_json::value::RawValue;
use tokio::time::sleep_until;

use crate::{
    caught,
    error::{Error, SourceFailure},
    observe::{
        Guarded, Stores,
        list_watch::{Observer, Pace},
        note_targets,
        table::Key,
        watch::{NamedMeta, source},
    },
    reconcile::{Context, reconcile},
};

/// Reconciles at the same time. Each waits for the API server most of its time.
const CONCURRENCY: u16 = 16;
/// Pause after a reconcile that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Pause after a reconcile that panicked.
const AFTER_A_PANIC: Duration = Duration::from_mins(1);

/// Looks at the objects of a scope until the operator ends. `woken` are the keys of objects to look at.
pub async fn run(
    client: Client,
    scope: Option<String>,
    pace: Pace,
    woken: UnboundedReceiver<Key>,
    context: Arc<Context>,
) {
    let source = source::<McpServerHealth, _>(&client, scope.as_deref(), pace);
    let scope = scope.unwrap_or_default();
    let (reader, writer) = reflector::store();
    let (queue, touched) = unbounded();
    let mut objects =
        Objects { scope: scope.clone(), context: Arc::clone(&context), writer, queue, listing: false };
    let watching = source.run(&mut objects);
    let stores = Arc::clone(&context.stores);
    let silence = async {
        loop {
            sleep_until(stores.objects.stale_at(&scope)).await;
            wake_on_fitness(&stores, &scope);
        }
    };
    let woken = stream::select(touched, woken).map(|key| {
        let object = ObjectRef::<Guarded>::new(&key.name).within(&key.namespace);
        Ok::<_, WatchError>(ReconcileRequest::from(object))
    });
    tokio::join!(watching, silence, reconciles(reader, woken, context));
}

/// Has the objects of a scope looked at where it has changed whether they are known as they are now.
fn wake_on_fitness(stores: &Stores, scope: &str) {
    if stores.objects.has_changed_fitness(scope) {
        stores.wake(stores.targets.in_scope(scope));
    }
}

/// Reconciles what the queue names, until the operator ends.
async fn reconciles(
    reader: Store<Guarded>,
    queue: impl stream::Stream<Item = Result<ReconcileRequest<Guarded>, WatchError>>,
    context: Arc<Context>,
) {
    // What was done is known before anything is decided: by the first look, or where there is nothing to look
    // at.
    let (store, once, all) = (reader.clone(), Once::new(), Arc::clone(&context));
    let remember = || {
        once.call_once(|| {
            let (objects, deployments) = (store.state(), all.stores.deployments());
            all.fleet.remember(
                objects.iter().filter_map(|one| one.0.as_deref().ok()),
                deployments.iter().map(|(key, row)| (key, &row.target)),
            );
        });
    };
    let listed = async {
        // Fails only when the operator is ending.
        if store.wait_until_ready().await.is_ok() {
            remember();
        }
    };
    let apply = applier(
        |object: Arc<Guarded>, context: Arc<Context>| {
            remember();
            Box::pin(look(object, context))
        },
        |_, error, context| {
            tracing::warn!(%error, "a reconcile could not be finished");
            context.metrics.reconciled("error", 0.0);
            Action::requeue(PAUSE)
        },
        context,
        reader,
        queue,
        Config::default().concurrency(CONCURRENCY),
    );
    tokio::join!(listed, apply.for_each(|_| std::future::ready(())));
}

/// What the watch of objects tells: kept in the store that reconciles read, and queued.
struct Objects {
    scope: String,
    context: Arc<Context>,
    writer: Writer<Guarded>,
    queue: UnboundedSender<Key>,
    listing: bool,
}

impl Objects {
    fn take(&mut self, event: &Event<Guarded>) {
        let Context { stores, fleet, metrics, statuses, unsent, .. } = &*self.context;
        let (touched, gone) = note_targets(&stores.targets, &self.scope, event);
        stores.wake(touched);
        for object in gone {
            stores.wake(fleet.forget(&object));
            stores.judged.forget(&object);
            stores.references.forget(&object);
            metrics.count(&fleet.counts());
        }
        if let Event::Delete(object) = event {
            let uid = object.meta().uid.as_deref().unwrap_or_default();
            statuses.forget(uid);
            unsent.forget(uid);
        }
        self.writer.apply_watcher_event(event);
        if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = event {
            // Fails only when the operator is ending.
            let _ = self.queue.unbounded_send(Key::of(object));
        }
    }

    /// An object of which not even the name can be read is counted and left out.
    fn read(object: &RawValue) -> Option<Guarded> {
        match caught::panic(|| serde_json::from_str::<Guarded>(object.get())) {
            Ok(Ok(object)) => Some(object),
            Ok(Err(error)) => unread(object, &error.to_string()),
            Err(panic) => unread(object, &panic),
        }
    }
}

fn unread(object: &RawValue, why: &str) -> Option<Guarded> {
    let Key { namespace, name } = NamedMeta::of(object).key();
    caught::count("Conversion", &format!("McpServerHealth {namespace}/{name}"), why);
    None
}

impl Observer for Objects {
    fn list_begins(&mut self) {
        self.listing = true;
        self.context.stores.objects.begin_list(&self.scope);
        self.take(&Event::Init);
    }

    fn present(&mut self, object: &RawValue) {
        let Some(object) = Self::read(object) else { return };
        let event = if self.listing { Event::InitApply(object) } else { Event::Apply(object) };
        self.take(&event);
    }

    fn gone(&mut self, object: &RawValue) {
        let Some(object) = Self::read(object) else { return };
        self.take(&Event::Delete(object));
    }

    fn list_ends(&mut self) {
        self.listing = false;
        self.take(&Event::InitDone);
        self.context.stores.objects.end_list(&self.scope);
        wake_on_fitness(&self.context.stores, &self.scope);
    }

    fn alive(&mut self) {
        self.context.stores.objects.alive(&self.scope);
        wake_on_fitness(&self.context.stores, &self.scope);
    }

    fn failed(&mut self, failing: SourceFailure) {
        tracing::warn!(
            why = failing.why,
            scope = self.scope,
            "the watch of McpServerHealth objects fails; it is tried again"
        );
        self.context.stores.objects.failed(&self.scope, failing);
        wake_on_fitness(&self.context.stores, &self.scope);
    }
}

/// One look at one object, if it can be read.
async fn look(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    match &object.0 {
        Ok(valid) => {
            let (key, object) = (Key::of(&**valid), Arc::clone(valid));
            let work = reconcile(Arc::clone(&object), key.clone(), Arc::clone(&context));
            match Box::pin(caught::panic_of(work)).await {
                Ok(done) => done,
                Err(why) => panicked(&object, &key, &context, &why).await,
            }
        }
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            tracing::error!(
                name,
                error = invalid.error,
                "an McpServerHealth cannot be read; it is left alone"
            );
            Ok(Action::await_change())
        }
    }
}

/// The reconcile of an object panicked: its status says so, and it is tried again later. The other objects go
/// on.
async fn panicked(
    object: &Arc<McpServerHealth>,
    key: &Key,
    context: &Context,
    why: &str,
) -> Result<Action, Error> {
    caught::count("Reconcile", &format!("McpServerHealth {}/{}", key.namespace, key.name), why);
    context.metrics.reconciled("panic", 0.0);
    let object = context.statuses.latest(object);
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let status = report::evaluation_failed(&before, generation, why, Timestamp::now());
    context.statuses.write(&context.client, &object, status).await?;
    Ok(Action::requeue(AFTER_A_PANIC))
}

#[cfg(test)]
mod tests;
