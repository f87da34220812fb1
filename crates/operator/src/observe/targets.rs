//! Which objects have which target: to wake them, and to tell the older of two from the younger.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{PoisonError, RwLock},
};

use jiff::Timestamp;
use kube::{Resource, runtime::watcher::Event};

use tokio::sync::Notify;

use super::{guarded::Guarded, table::Key};

#[derive(Default)]
struct Inner {
    /// By target: the objects, with when they were created.
    by_target: BTreeMap<Key, BTreeSet<(Timestamp, Key)>>,
    /// By object: its target.
    by_object: HashMap<Key, (Timestamp, Key)>,
    /// Objects that a list in progress has shown, by scope.
    listed: HashMap<String, BTreeSet<Key>>,
}

/// See the module.
#[derive(Default)]
pub struct Targets {
    inner: RwLock<Inner>,
    /// Told of each target that was not known before.
    added: Notify,
}

impl Targets {
    /// The objects with this target.
    pub fn of(&self, target: &Key) -> Vec<Key> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_target.get(target).into_iter().flatten().map(|(_, object)| object.clone()).collect()
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Key> {
        self.pairs_in_namespace(namespace).into_iter().map(|(_, object)| object).collect()
    }

    /// The objects of a namespace, each with its target before it.
    pub fn pairs_in_namespace(&self, namespace: &str) -> Vec<(Key, Key)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let from = Key::new(namespace, "");
        let targets = inner.by_target.range(from..).take_while(|(target, _)| &*target.namespace == namespace);
        targets
            .flat_map(|(target, objects)| objects.iter().map(|(_, object)| (target.clone(), object.clone())))
            .collect()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Key> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_object.keys().cloned().collect()
    }

    /// The objects of a scope: a namespace, or all of them where it is empty.
    pub fn in_scope(&self, scope: &str) -> Vec<Key> {
        if scope.is_empty() { self.all() } else { self.in_namespace(scope) }
    }

    /// All targets.
    pub fn targets(&self) -> Vec<Key> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_target.keys().cloned().collect()
    }

    /// Whether no object is in a scope: a namespace, or all of them where it is empty.
    pub fn is_empty_in(&self, scope: &str) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        !inner.by_object.keys().any(|object| scope.is_empty() || &*object.namespace == scope)
    }

    /// Waits until there is an object in a scope.
    pub async fn known_in(&self, scope: &str) {
        while self.is_empty_in(scope) {
            self.new_one().await;
        }
    }

    /// Waits for a target that was not known before.
    pub async fn new_one(&self) {
        let added = self.added.notified();
        added.await;
    }

    /// Whether a name begins as the name of a target in this namespace does, in its first `stem` bytes.
    pub fn has_stem_of(&self, namespace: &str, name: &str, stem: usize) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let from = Key::new(namespace, "");
        let mut targets =
            inner.by_target.range(from..).take_while(|(target, _)| &*target.namespace == namespace);
        targets.any(|(target, _)| name.starts_with(target.name.get(..stem).unwrap_or(&target.name)))
    }

    /// The name of the object that has `target` and comes before `object`: the older, by name among equals.
    pub fn older_than(&self, target: &Key, object: &Key) -> Option<String> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (_, first) = inner.by_target.get(target)?.first()?;
        (first != object).then(|| first.name.to_string())
    }

    fn set(&self, scope: &str, object: Key, created: Timestamp, target: Key) -> Vec<Key> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = inner.listed.get_mut(scope) {
            listed.insert(object.clone());
        }
        if inner.by_object.get(&object) == Some(&(created, target.clone())) {
            return Vec::new();
        }
        let mut touched = inner.remove(&object);
        inner.by_object.insert(object.clone(), (created, target.clone()));
        if !inner.by_target.contains_key(&target) {
            self.added.notify_waiters();
        }
        let others = inner.by_target.entry(target).or_default();
        touched.extend(others.iter().map(|(_, object)| object.clone()));
        others.insert((created, object));
        touched
    }
}

impl Inner {
    /// Removes an object; returns those that had the same target.
    fn remove(&mut self, object: &Key) -> Vec<Key> {
        let Some((created, target)) = self.by_object.remove(object) else { return Vec::new() };
        let Some(others) = self.by_target.get_mut(&target) else { return Vec::new() };
        others.remove(&(created, object.clone()));
        let touched = others.iter().map(|(_, object)| object.clone()).collect();
        if others.is_empty() {
            self.by_target.remove(&target);
        }
        touched
    }
}

/// Notes an event of the watch of objects. Returns the objects whose rivals changed, and those that are gone.
pub fn note(targets: &Targets, scope: &str, event: &Event<Guarded>) -> (Vec<Key>, Vec<Key>) {
    match event {
        Event::Init => {
            let mut inner = targets.inner.write().unwrap_or_else(PoisonError::into_inner);
            inner.listed.insert(scope.to_owned(), BTreeSet::new());
            (Vec::new(), Vec::new())
        }
        Event::InitApply(object) | Event::Apply(object) => {
            let Ok(valid) = &object.0 else { return (Vec::new(), Vec::new()) };
            let object = Key::of(object);
            let created = valid.meta().creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
            let target =
                Key { namespace: object.namespace.clone(), name: valid.spec.target_ref.name.as_str().into() };
            (targets.set(scope, object, created, target), Vec::new())
        }
        Event::InitDone => {
            let mut inner = targets.inner.write().unwrap_or_else(PoisonError::into_inner);
            let listed = inner.listed.remove(scope).unwrap_or_default();
            let in_scope = |object: &&Key| scope.is_empty() || &*object.namespace == scope;
            let gone: Vec<Key> = inner
                .by_object
                .keys()
                .filter(in_scope)
                .filter(|object| !listed.contains(*object))
                .cloned()
                .collect();
            (gone.iter().flat_map(|object| inner.remove(object)).collect(), gone)
        }
        Event::Delete(object) => {
            let object = Key::of(object);
            let mut inner = targets.inner.write().unwrap_or_else(PoisonError::into_inner);
            (inner.remove(&object), vec![object])
        }
    }
}
