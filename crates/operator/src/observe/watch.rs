//! Keeps one table up by one watch in one scope, for as long as the operator lives.

use std::fmt::Debug;

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::table::{Change, Key, Row, Table};

/// Lists come in pages of this size: it bounds the memory that a list takes.
const PAGE: u32 = 100;

/// What a watch tells of.
pub enum Told<'a, V> {
    /// This row changed in a way that a verdict may depend on.
    Row(&'a Key, &'a V),
    /// The watch as a whole got worse or better.
    Health,
}

/// Watches until the end. `view` makes rows; `tell` hears what may change a verdict.
pub async fn watch<W, V>(
    api: Api<W>,
    scope: Option<String>,
    config: watcher::Config,
    table: &Table<V>,
    view: impl Fn(&W) -> Option<(Key, V)>,
    tell: impl Fn(Told<V>),
) where
    W: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Row,
{
    let scope = scope.unwrap_or_default();
    let events = watcher(api, config.page_size(PAGE)).default_backoff();
    pin_mut!(events);
    let tell_of = |change: Change<V>| {
        if let Change::Row(key, row) = change {
            tell(Told::Row(&key, &row));
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                table.answered(&scope);
                match event {
                    Event::Init => table.begin_list(&scope),
                    Event::InitApply(object) | Event::Apply(object) => {
                        let fallback = Key::of(&object);
                        match view(&object) {
                            Some((key, row)) => tell_of(table.apply(&scope, key, row)),
                            None => tell_of(table.delete(&fallback)),
                        }
                    }
                    Event::InitDone => {
                        for (key, row) in table.end_list(&scope) {
                            tell(Told::Row(&key, &row));
                        }
                        tell(Told::Health);
                    }
                    Event::Delete(object) => {
                        if let Some((key, _)) = view(&object) {
                            tell_of(table.delete(&key));
                        }
                    }
                }
            }
            Err(error) => {
                let why = reason(&error);
                let resource = std::any::type_name::<V>().rsplit("::").next().unwrap_or_default();
                tracing::warn!(table = resource, scope, why, "a watch fails; it is tried again");
                if table.failed(&scope, Timestamp::now(), why) {
                    tell(Told::Health);
                }
            }
        }
    }
}

/// The API server's own sentence, where there is one.
fn reason(error: &watcher::Error) -> String {
    let client = match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => source,
        watcher::Error::WatchError(status) => return status.message.clone(),
        watcher::Error::NoResourceVersion => return error.to_string(),
    };
    match crate::error::answer(client) {
        Some(status) if status.is_forbidden() => format!("forbidden: {}", status.message),
        Some(status) => status.message.clone(),
        None => client.to_string(),
    }
}
