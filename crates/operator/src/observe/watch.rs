//! Keeps one table up by one watch in one scope, for as long as the operator lives.

use std::marker::PhantomData;

use kube::{Client, Resource};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::time::sleep_until;

use super::{
    list_watch::{Observer, Pace, Source},
    table::{Change, Key, Row, Table},
};
use crate::{caught, error::SourceFailure};

/// The collection of a kind, in a namespace or in all of them.
pub fn source<W, S>(client: &Client, namespace: Option<&str>, pace: Pace) -> Source
where
    W: Resource<Scope = S, DynamicType = ()>,
{
    let path = W::url_path(&(), namespace);
    Source { client: client.clone(), path, labels: String::new(), fields: String::new(), pace }
}

/// What a watch tells of.
pub enum Told<'a, V> {
    /// This row changed in a way that a verdict may depend on.
    Row(&'a Key, &'a V),
    /// The object of this namespace and name cannot be read any more, or can be again.
    Readable(&'a Key),
    /// What the rows of the scope are worth has changed.
    Fitness,
}

/// Who an object is, as far as that can be told of one that cannot be read otherwise.
#[derive(Deserialize)]
pub struct Named {
    /// Its metadata.
    pub metadata: NamedMeta,
}

/// See [`Named`].
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedMeta {
    namespace: String,
    name: String,
    uid: String,
    owner_references: Vec<NamedOwner>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NamedOwner {
    uid: String,
}

impl NamedMeta {
    /// The name and uid of an object; empty where it has none that can be read.
    pub fn of(object: &RawValue) -> Self {
        serde_json::from_str::<Named>(object.get()).map(|named| named.metadata).unwrap_or_default()
    }

    /// Its key.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }
}

/// Watches until the end. `view` makes rows; `tell` hears what may change a verdict.
pub async fn watch<W, V>(
    source: Source,
    scope: Option<String>,
    table: &Table<V>,
    view: impl Fn(&W) -> Option<(Key, V)>,
    tell: impl Fn(Told<V>),
) where
    W: Resource<DynamicType = ()> + DeserializeOwned,
    V: Row,
{
    let scope = scope.unwrap_or_default();
    // A watch becomes stale by silence, in which nothing else happens.
    let silence = async {
        loop {
            sleep_until(table.stale_at(&scope)).await;
            if table.has_changed_fitness(&scope) {
                tell(Told::Fitness);
            }
        }
    };
    let mut rows = Rows { scope: &scope, table, view, tell: &tell, wire: PhantomData::<fn() -> W> };
    tokio::select! {
        () = source.run(&mut rows) => {}
        () = silence => {}
    }
}

struct Rows<'a, W, V, F, T> {
    scope: &'a str,
    table: &'a Table<V>,
    view: F,
    tell: T,
    wire: PhantomData<fn() -> W>,
}

impl<W, V, F, T> Rows<'_, W, V, F, T>
where
    W: Resource<DynamicType = ()> + DeserializeOwned,
    V: Row,
    F: Fn(&W) -> Option<(Key, V)>,
    T: Fn(Told<V>),
{
    fn changed(&self, change: Change<V>) {
        let Change::Row(key, row) = change else { return };
        if let Err(why) = caught::panic(|| (self.tell)(Told::Row(&key, &row))) {
            caught::count("Wake", &format!("{} {}/{}", W::kind(&()), key.namespace, key.name), &why);
        }
    }

    fn fitness(&self) {
        if self.table.has_changed_fitness(self.scope) {
            (self.tell)(Told::Fitness);
        }
    }

    /// What `take` makes of an object. A panic, or an object that cannot be parsed, is this object's fault
    /// alone: what depends on it is unavailable until it can be read again.
    fn take(&self, object: &RawValue, take: impl FnOnce(&W)) {
        let taken = caught::panic(|| serde_json::from_str(object.get()).map(|object| take(&object)));
        let why = match taken {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        let named = NamedMeta::of(object);
        let key = named.key();
        let who = format!("{} {}/{}", W::kind(&()), key.namespace, key.name);
        caught::count("Conversion", &who, &why);
        let owners = named.owner_references.into_iter().map(|owner| owner.uid).collect();
        if self.table.cannot_read(self.scope, key.clone(), owners, format!("{who} cannot be read: {why}")) {
            (self.tell)(Told::Readable(&key));
        }
    }

    fn can_read(&self, key: &Key) {
        if self.table.can_read(key) {
            (self.tell)(Told::Readable(key));
        }
    }
}

impl<W, V, F, T> Observer for Rows<'_, W, V, F, T>
where
    W: Resource<DynamicType = ()> + DeserializeOwned,
    V: Row,
    F: Fn(&W) -> Option<(Key, V)>,
    T: Fn(Told<V>),
{
    fn list_begins(&mut self) {
        self.table.begin_list(self.scope);
    }

    fn present(&mut self, object: &RawValue) {
        self.take(object, |wire| {
            let key = Key::of(wire);
            match (self.view)(wire) {
                Some((key, row)) => self.changed(self.table.apply(self.scope, key, row)),
                None => self.changed(self.table.delete(&key)),
            }
            self.can_read(&key);
        });
    }

    fn gone(&mut self, object: &RawValue) {
        let named = NamedMeta::of(object);
        // Some rows are kept by uid.
        for name in [&named.name, &named.uid] {
            self.changed(self.table.delete(&Key::new(&named.namespace, name)));
        }
        self.can_read(&named.key());
    }

    fn list_ends(&mut self) {
        for (key, row) in self.table.end_list(self.scope) {
            self.changed(Change::Row(key, row));
        }
        self.fitness();
    }

    fn alive(&mut self) {
        self.table.alive(self.scope);
        self.fitness();
    }

    fn failed(&mut self, failing: SourceFailure) {
        let (kind, scope) = (W::kind(&()), self.scope);
        tracing::warn!(kind = &*kind, scope, why = failing.why, "a watch fails; it is tried again");
        self.table.failed(scope, failing);
        self.fitness();
    }
}
