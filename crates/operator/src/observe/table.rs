//! One table a kind of object: small typed rows, kept up by a watch, grouped by what they belong to.
//! Reconciles read rows; nothing here calls the API server.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use crate::error::SourceFailure;
use jiff::Timestamp;
use kube::Resource;
use mcp_health_core::signals::Reading;
use tokio::time::Instant;

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

/// Whose verdict a change of an object may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// Nobody's.
    Nobody,
    /// The object of this key.
    Object(Key),
    /// Those with this Deployment as their target.
    Target(Key),
    /// That of the server whose pod this is.
    Pod {
        /// The pod.
        pod: Key,
        /// Its ReplicaSet.
        owner: Key,
    },
    /// Those with pods on this node.
    Node(Arc<str>),
    /// Those behind this Service.
    Service(Key),
    /// Those that read one of these ConfigMaps.
    ConfigMaps(Vec<Key>),
    /// All of this namespace: whom the object was about before is not known.
    Namespace(Arc<str>),
}

/// What a table keeps of an object.
pub trait Row: Send + Sync + 'static {
    /// What it belongs to: rows are found by this.
    fn group(&self) -> Option<Key>;
    /// Whether a verdict may differ, had this been `before`.
    fn changes_verdict(&self, before: &Self) -> bool;
    /// Takes over what only the row before knew.
    fn succeed(&mut self, _before: &Self) {}
    /// Whose verdict a change of this row may change.
    fn concerns(&self, _key: &Key) -> Concerns {
        Concerns::Nobody
    }
}

/// For a table that keeps nothing but how its source is doing.
impl Row for () {
    fn group(&self) -> Option<Key> {
        None
    }

    fn changes_verdict(&self, (): &Self) -> bool {
        false
    }
}

/// How the source of a scope is doing.
#[derive(Clone, Debug)]
struct Health {
    /// It was listed completely, once.
    listed: bool,
    /// The last proof of life, by the monotonic clock: the wall clock may jump. And by that one, for people.
    proof: Option<(Instant, Timestamp)>,
    /// Why it fails, since then.
    failing: Option<SourceFailure>,
    /// What its servers were woken for last.
    told: Fitness,
}

/// What the rows of a scope are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitness {
    NotListed,
    Refused,
    Fresh,
    Stale,
}

impl Health {
    const NEW: Self = Self { listed: false, proof: None, failing: None, told: Fitness::NotListed };

    fn fitness(&self, stale_after: Duration) -> Fitness {
        match (self.listed, self.proof) {
            (true, Some((proof, _))) if proof.elapsed() <= stale_after => Fitness::Fresh,
            (true, _) => Fitness::Stale,
            (false, _) if self.failing.is_some() => Fitness::Refused,
            (false, _) => Fitness::NotListed,
        }
    }
}

/// An object that could not be converted: what depends on it is not known.
#[derive(Clone, Debug)]
struct Unreadable {
    /// The uids of the objects that own it.
    owners: Vec<String>,
    /// `Pod mcp/a cannot be read: …`.
    why: String,
}

/// What a list in progress has shown so far.
#[derive(Default)]
struct Listing {
    rows: BTreeSet<Key>,
    unreadable: BTreeSet<Key>,
}

struct Inner<V> {
    rows: HashMap<Key, Arc<V>>,
    groups: HashMap<Key, BTreeSet<Key>>,
    unreadable: HashMap<Key, Unreadable>,
    /// By scope: a namespace, or empty for all.
    health: HashMap<Arc<str>, Health>,
    listed: HashMap<Arc<str>, Listing>,
}

/// See the module.
pub struct Table<V> {
    inner: RwLock<Inner<V>>,
    stale_after: Duration,
}

/// What an event did to a table.
pub enum Change<V> {
    /// A verdict may change.
    Row(Key, Arc<V>),
    /// Nothing that a rule looks at.
    Nothing,
}

impl<V: Row> Table<V> {
    /// An empty table for these scopes, whose rows are stale so long after the last proof of life.
    pub fn new(scopes: &[Option<String>], stale_after: Duration) -> Self {
        let health = scopes.iter().map(|scope| (scope.as_deref().unwrap_or_default().into(), Health::NEW));
        Self {
            inner: RwLock::new(Inner {
                rows: HashMap::new(),
                groups: HashMap::new(),
                unreadable: HashMap::new(),
                health: health.collect(),
                listed: HashMap::new(),
            }),
            stale_after,
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
        self.read().health.values().all(|health| health.listed || health.failing.is_some())
    }

    /// `value`, worth what the source behind it is worth. It rests on all objects of the namespace.
    pub fn reading<T>(&self, namespace: &str, now: Timestamp, value: T) -> Reading<T> {
        self.reading_of(namespace, now, value, |_, _| true)
    }

    /// The same, of a value that rests on some objects only: `concerns` is given the key of an object that
    /// cannot be read (empty where not even that can be), and the uids of its owners.
    pub fn reading_of<T>(
        &self,
        namespace: &str,
        now: Timestamp,
        value: T,
        concerns: impl Fn(&Key, &[String]) -> bool,
    ) -> Reading<T> {
        let inner = self.read();
        let Some(health) = inner.health.get(namespace).or_else(|| inner.health.get("")) else {
            return Reading::Unavailable(format!("namespace {namespace} is not watched"));
        };
        let in_namespace =
            |key: &Key| namespace.is_empty() || key.namespace.is_empty() || &*key.namespace == namespace;
        let mut unreadable = inner.unreadable.iter();
        match health.fitness(self.stale_after) {
            Fitness::NotListed => Reading::Unavailable("not listed yet".to_owned()),
            Fitness::Refused => health.failing.clone().unwrap_or_default().reading(),
            Fitness::Stale => {
                // The same moment however often it is read; not a later one where the clock was set back.
                let at = health.proof.map_or(Timestamp::UNIX_EPOCH, |(_, at)| at).min(now);
                Reading::Stale { value, at }
            }
            Fitness::Fresh => {
                match unreadable.find(|(key, one)| in_namespace(key) && concerns(key, &one.owners)) {
                    Some((_, one)) => Reading::Unavailable(one.why.clone()),
                    None => Reading::Fresh(value),
                }
            }
        }
    }

    /// The source of a scope has given proof of life.
    pub fn alive(&self, scope: &str) {
        if let Some(health) = self.write().health.get_mut(scope) {
            (health.proof, health.failing) = (Some((Instant::now(), Timestamp::now())), None);
        }
    }

    /// The source of a scope does not answer, or refuses. What it said before is believed until it is stale.
    pub fn failed(&self, scope: &str, failing: SourceFailure) {
        if let Some(health) = self.write().health.get_mut(scope) {
            health.failing = Some(failing);
        }
    }

    /// Whether what the rows of a scope are worth differs from when this was asked last.
    pub fn has_changed_fitness(&self, scope: &str) -> bool {
        let mut inner = self.write();
        let Some(health) = inner.health.get_mut(scope) else { return false };
        let fitness = health.fitness(self.stale_after);
        std::mem::replace(&mut health.told, fitness) != fitness
    }

    /// When a scope may become stale by silence alone.
    pub fn stale_at(&self, scope: &str) -> Instant {
        let inner = self.read();
        let fresh = inner.health.get(scope).filter(|one| one.fitness(self.stale_after) == Fitness::Fresh);
        let since = fresh.and_then(|health| health.proof).map_or_else(Instant::now, |(proof, _)| proof);
        since + self.stale_after + Duration::from_millis(1)
    }

    /// An object cannot be converted. True where that is news.
    pub fn cannot_read(&self, scope: &str, key: Key, owners: Vec<String>, why: String) -> bool {
        let mut inner = self.write();
        if let Some(listing) = inner.listed.get_mut(scope) {
            listing.unreadable.insert(key.clone());
        }
        inner.unreadable.insert(key, Unreadable { owners, why }).is_none()
    }

    /// An object can be converted again, or is gone. True where that is news.
    pub fn can_read(&self, key: &Key) -> bool {
        // Most tables never hold one.
        let holds = self.read().unreadable.contains_key(key);
        holds && self.write().unreadable.remove(key).is_some()
    }

    /// A list begins.
    pub fn begin_list(&self, scope: &str) {
        self.write().listed.insert(scope.into(), Listing::default());
    }

    /// The rows of a scope that a list in progress has not shown.
    pub fn unlisted(&self, scope: &str) -> Vec<(Key, Arc<V>)> {
        let inner = self.read();
        let listed = inner.listed.get(scope);
        let is_in = |key: &Key| scope.is_empty() || &*key.namespace == scope;
        let rows = inner.rows.iter().filter(|(key, _)| is_in(key));
        rows.filter(|(key, _)| listed.is_none_or(|listed| !listed.rows.contains(*key)))
            .map(|(key, row)| (key.clone(), Arc::clone(row)))
            .collect()
    }

    /// A list is complete: objects of the scope that it did not show are gone. Returns the rows of those.
    pub fn end_list(&self, scope: &str) -> Vec<(Key, Arc<V>)> {
        let mut inner = self.write();
        let listed = inner.listed.remove(scope).unwrap_or_default();
        let in_scope = |key: &Key| scope.is_empty() || &*key.namespace == scope;
        let rows = inner.rows.keys().filter(|key| in_scope(key) && !listed.rows.contains(*key));
        let gone: Vec<Key> = rows.cloned().collect();
        inner.unreadable.retain(|key, _| !in_scope(key) || listed.unreadable.contains(key));
        if let Some(health) = inner.health.get_mut(scope) {
            health.listed = true;
            (health.proof, health.failing) = (Some((Instant::now(), Timestamp::now())), None);
        }
        gone.into_iter().filter_map(|key| inner.remove(&key).map(|row| (key, row))).collect()
    }

    /// An object is there, or changed.
    pub fn apply(&self, scope: &str, key: Key, mut row: V) -> Change<V> {
        let mut inner = self.write();
        if let Some(listed) = inner.listed.get_mut(scope) {
            listed.rows.insert(key.clone());
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
