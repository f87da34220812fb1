//! The queue: objects to look at, from their own watch and from the tables, through kube's scheduler to the
//! reconcile. One for each watched scope.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, channel::mpsc::UnboundedReceiver, stream};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt, applier,
        controller::{Action, Config, ReconcileRequest, trigger_self},
        reflector::{self, ObjectRef},
        watcher::{self, watcher},
    },
};

use crate::{
    error::Error,
    observe::{Guarded, note_targets, table::Key},
    reconcile::{Context, reconcile},
};

/// Reconciles at the same time. Each waits for the API server most of its time.
const CONCURRENCY: u16 = 16;
/// Pause after a reconcile that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks at the objects of a scope until the operator ends. `woken` are the keys of objects to look at.
pub async fn run(
    client: Client,
    scope: Option<String>,
    woken: UnboundedReceiver<Key>,
    context: Arc<Context>,
) {
    let api: Api<Guarded> = match &scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let scope = scope.unwrap_or_default();
    let (reader, writer) = reflector::store();
    let noting = Arc::clone(&context);
    let objects = watcher(api, watcher::Config::default().page_size(100))
        .default_backoff()
        .reflect(writer)
        .inspect_ok(move |event| {
            let (touched, gone) = note_targets(&noting.stores.targets, &scope, event);
            noting.stores.wake(touched);
            for object in gone {
                noting.stores.wake(noting.fleet.forget(&object));
                noting.stores.judged.forget(&object);
                noting.stores.references.forget(&object);
                noting.metrics.count(&noting.fleet.counts());
            }
            if let watcher::Event::Delete(object) = event {
                let uid = object.meta().uid.as_deref().unwrap_or_default();
                noting.statuses.forget(uid);
                noting.unsent.forget(uid);
            }
        })
        .touched_objects()
        .inspect_err(
            |error| tracing::warn!(%error, "the watch of McpServerHealth objects fails; it is tried again"),
        )
        // The watch is tried again with pauses; its errors are not the queue's.
        .filter_map(|object| async { object.ok().map(Ok::<_, watcher::Error>) });
    let woken = woken.map(|key| {
        let object = ObjectRef::<Guarded>::new(&key.name).within(&key.namespace);
        Ok(ReconcileRequest::from(object))
    });
    let queue = stream::select(trigger_self(objects, ()), woken);

    // What was done is known before anything is decided: by the first look, or where there is nothing to look at.
    let (store, once, all) = (reader.clone(), Once::new(), Arc::clone(&context));
    let remember = || {
        once.call_once(|| {
            let (objects, deployments) = (store.state(), all.stores.deployments());
            all.fleet.remember(
                objects.iter().filter_map(|one| one.0.as_ref().ok()),
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

/// One look at one object, if it can be read.
async fn look(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    match &object.0 {
        Ok(valid) => {
            let key = Key::of(valid);
            reconcile(Arc::new(valid.clone()), key, context).await
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
