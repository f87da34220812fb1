//! The watch of Events.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::Client;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{
        list_watch::{Observer, Pace, Source},
        stores::Stores,
        table::Key,
        watch::{NamedMeta, source},
    },
    EventWire, FIELDS, FOR_NEW_TARGETS, STEM, UNSEEN, tells_why,
};
use crate::{caught, error::SourceFailure};

/// Watches the Events of a scope until the operator ends.
pub async fn run(stores: Arc<Stores>, client: Client, scope: Option<String>, pace: Pace) {
    let all = source::<Event, _>(&client, scope.as_deref(), pace);
    let source = Source { fields: FIELDS.to_owned(), ..all };
    let scope = scope.as_deref().unwrap_or_default();
    let mut observer = PodObserver { stores: &stores, scope };
    // Whose pods they are is not known before.
    stores.targets.known_in(scope).await;
    while !(stores.pods.is_settled() && stores.replica_sets.is_settled()) {
        sleep(Duration::from_secs(1)).await;
    }
    loop {
        let listed = Instant::now();
        tokio::select! {
            () = source.run(&mut observer) => return,
            () = more_targets(&stores, scope, listed) => {}
        }
    }
}

/// Waits for a target of the scope that is new, and until another list is due.
async fn more_targets(stores: &Stores, scope: &str, listed: Instant) {
    let known = stores.targets.in_scope(scope).len();
    while stores.targets.in_scope(scope).len() <= known {
        stores.targets.new_one().await;
    }
    sleep(FOR_NEW_TARGETS.0).await;
    sleep_until(listed + FOR_NEW_TARGETS.1).await;
}

struct PodObserver<'a> {
    stores: &'a Arc<Stores>,
    scope: &'a str,
}

impl PodObserver<'_> {
    fn take(&self, event: EventWire, now: Timestamp) {
        let involved = &event.involved_object;
        let pod = Key::new(&involved.namespace, &involved.name);
        if !tells_why(&event.reason, &event.message) || !self.stores.may_be_of_a_target(&pod) {
            return;
        }
        let uid = involved.uid.clone();
        if self.stores.events.note(event, now) {
            self.stores.wake_unready(&pod, &uid);
        }
    }
}

impl Observer for PodObserver<'_> {
    fn list_begins(&mut self) {}

    fn present(&mut self, object: &RawValue) {
        let now = Timestamp::now();
        let taken = caught::panic(|| serde_json::from_str(object.get()).map(|event| self.take(event, now)));
        let why = match taken {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic),
        };
        if let Some(why) = why {
            let Key { namespace, name } = NamedMeta::of(object).key();
            caught::count("Conversion", &format!("Event {namespace}/{name}"), &why);
        }
    }

    // Events end by age, here before they do in the API server.
    fn gone(&mut self, _: &RawValue) {}

    fn list_ends(&mut self) {
        self.alive();
    }

    fn alive(&mut self) {
        self.stores.events.sweep(Timestamp::now(), |pod, uid, arrived| match self.stores.pods.get(pod) {
            Some(row) => row.pod.uid == uid && self.stores.is_of_a_target(pod),
            None => arrived.elapsed() < UNSEEN,
        });
    }

    fn failed(&mut self, failing: SourceFailure) {
        tracing::warn!(why = failing.why, scope = self.scope, "the watch of Events fails; it is tried again");
    }
}

impl Stores {
    /// Whether a pod belongs to a target, or may once it is seen: its name begins as one of its namespace
    /// does.
    fn may_be_of_a_target(&self, pod: &Key) -> bool {
        if self.pods.get(pod).is_some() {
            return self.is_of_a_target(pod);
        }
        self.targets.has_stem_of(&pod.namespace, &pod.name, STEM)
    }

    /// Wakes the server of a pod that is not ready: of one that is, Events are not looked at.
    fn wake_unready(&self, pod: &Key, uid: &str) {
        let row = self.pods.get(pod).filter(|row| row.pod.uid == uid && !row.pod.ready);
        if let Some(set) = row.and_then(|row| self.replica_sets.get(&row.owner)) {
            self.wake_target(&set.deployment);
        }
    }
}
