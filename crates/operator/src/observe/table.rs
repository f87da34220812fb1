//! One table a kind of object: small typed rows, kept up by a watch, grouped by what they belong to.
//! Reconciles read rows; nothing here calls the API server.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use mcp_health_core::signals::Reading;

use super::Stores;

/// A watch that has been failing for longer is no evidence any more.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// After its last error, a watch that says nothing more is taken for restored: it restarts silently, and its
/// pauses between tries are shorter.
const RESTORED_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// A namespace and a name (or uid) in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace; empty for objects without one.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of an object that has both.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    /// The key of a namespace and a name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// What a table keeps of an object.
pub trait Row: Send + Sync + 'static {
    /// What it belongs to: rows are found by this.
    fn group(&self) -> Option<Key>;
    /// Whether a verdict may differ, had this been `before`.
    fn changes_verdict(&self, before: &Self) -> bool;
    /// Takes over what only the row before knew.
    fn succeed(&mut self, _before: &Self) {}
    /// Has the servers looked at whose verdict this change may change.
    fn wake(&self, _key: &Key, _stores: &Stores) {}
}

/// How the watch of a scope is doing.
#[derive(Clone, Debug, Default)]
struct Health {
    synced: bool,
    failing: Option<Failing>,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Timestamp,
    last: Timestamp,
    why: String,
}

struct Inner<V> {
    rows: HashMap<Key, Arc<V>>,
    groups: HashMap<Key, BTreeSet<Key>>,
    /// By scope: a namespace, or empty for all.
    health: HashMap<Arc<str>, Health>,
    /// What a list in progress has shown so far.
    listed: HashMap<Arc<str>, BTreeSet<Key>>,
}

/// See the module.
pub struct Table<V> {
    inner: RwLock<Inner<V>>,
}

/// What an event did to a table.
pub enum Change<V> {
    /// A verdict may change.
    Row(Key, Arc<V>),
    /// Nothing that a rule looks at.
    Nothing,
}

impl<V: Row> Table<V> {
    /// An empty table for these scopes.
    pub fn new(scopes: &[Option<String>]) -> Self {
        let health =
            scopes.iter().map(|scope| (scope.as_deref().unwrap_or_default().into(), Health::default()));
        Self {
            inner: RwLock::new(Inner {
                rows: HashMap::new(),
                groups: HashMap::new(),
                health: health.collect(),
                listed: HashMap::new(),
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<V>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<V>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row of an object.
    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.read().rows.get(key).cloned()
    }

    /// All rows.
    pub fn all(&self) -> Vec<(Key, Arc<V>)> {
        self.read().rows.iter().map(|(key, row)| (key.clone(), Arc::clone(row))).collect()
    }

    /// The rows that belong to `group`, by key.
    pub fn of_group(&self, group: &Key) -> Vec<(Key, Arc<V>)> {
        let inner = self.read();
        let keys = inner.groups.get(group).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), inner.rows.get(key)?.clone()))).collect()
    }

    /// Whether every scope was listed once, or is refused.
    pub fn is_settled(&self) -> bool {
        self.read().health.values().all(|health| health.synced || health.failing.is_some())
    }

    /// `value`, worth what the watch behind it is worth.
    pub fn reading<T>(&self, namespace: &str, now: Timestamp, value: T) -> Reading<T> {
        let inner = self.read();
        let Some(health) = inner.health.get(namespace).or_else(|| inner.health.get("")) else {
            return Reading::Unavailable(format!("namespace {namespace} is not watched"));
        };
        let failing =
            health.failing.as_ref().filter(|failing| now.duration_since(failing.last) < RESTORED_AFTER);
        match (health.synced, failing) {
            (false, None) => Reading::Unavailable("not listed yet".to_owned()),
            (false, Some(failing)) => Reading::Unavailable(failing.why.clone()),
            (true, Some(failing)) if now.duration_since(failing.since) > STALE_AFTER => {
                Reading::Stale { value, at: failing.since }
            }
            (true, _) => Reading::Fresh(value),
        }
    }

    /// The watch answers again.
    pub fn answered(&self, scope: &str) {
        if let Some(health) = self.write().health.get_mut(scope) {
            health.failing = None;
        }
    }

    /// The watch failed. True when that makes evidence unfit, or tells something new.
    pub fn failed(&self, scope: &str, now: Timestamp, why: String) -> bool {
        let mut inner = self.write();
        let Some(health) = inner.health.get_mut(scope) else { return false };
        let before = health.failing.take().filter(|before| now.duration_since(before.last) < RESTORED_AFTER);
        let since = before.as_ref().map_or(now, |before| before.since);
        let news = before.is_none_or(|before| {
            before.why != why
                || (now.duration_since(since) > STALE_AFTER
                    && before.last.duration_since(since) <= STALE_AFTER)
        });
        health.failing = Some(Failing { since, last: now, why });
        news
    }

    /// A list begins.
    pub fn begin_list(&self, scope: &str) {
        self.write().listed.insert(scope.into(), BTreeSet::new());
    }

    /// The rows of a scope that a list in progress has not shown.
    pub fn unlisted(&self, scope: &str) -> Vec<(Key, Arc<V>)> {
        let inner = self.read();
        let listed = inner.listed.get(scope);
        let is_in = |key: &Key| scope.is_empty() || &*key.namespace == scope;
        let rows = inner.rows.iter().filter(|(key, _)| is_in(key));
        rows.filter(|(key, _)| listed.is_none_or(|listed| !listed.contains(*key)))
            .map(|(key, row)| (key.clone(), Arc::clone(row)))
            .collect()
    }

    /// A list is complete: rows of the scope that it did not show are gone. Returns those.
    pub fn end_list(&self, scope: &str) -> Vec<(Key, Arc<V>)> {
        let mut inner = self.write();
        let listed = inner.listed.remove(scope).unwrap_or_default();
        let gone: Vec<Key> = inner
            .rows
            .keys()
            .filter(|key| (scope.is_empty() || &*key.namespace == scope) && !listed.contains(*key))
            .cloned()
            .collect();
        if let Some(health) = inner.health.get_mut(scope) {
            health.synced = true;
        }
        gone.into_iter().filter_map(|key| inner.remove(&key).map(|row| (key, row))).collect()
    }

    /// An object is there, or changed.
    pub fn apply(&self, scope: &str, key: Key, mut row: V) -> Change<V> {
        let mut inner = self.write();
        if let Some(listed) = inner.listed.get_mut(scope) {
            listed.insert(key.clone());
        }
        let before = inner.remove(&key);
        if let Some(before) = &before {
            row.succeed(before);
        }
        let row = Arc::new(row);
        if let Some(group) = row.group() {
            inner.groups.entry(group).or_default().insert(key.clone());
        }
        inner.rows.insert(key.clone(), Arc::clone(&row));
        if before.is_none_or(|before| row.changes_verdict(&before)) {
            Change::Row(key, row)
        } else {
            Change::Nothing
        }
    }

    /// An object is gone.
    pub fn delete(&self, key: &Key) -> Change<V> {
        self.write().remove(key).map_or(Change::Nothing, |row| Change::Row(key.clone(), row))
    }
}

impl<V: Row> Inner<V> {
    fn remove(&mut self, key: &Key) -> Option<Arc<V>> {
        let row = self.rows.remove(key)?;
        if let Some(group) = row.group()
            && let Some(members) = self.groups.get_mut(&group)
        {
            members.remove(key);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(row)
    }
}
