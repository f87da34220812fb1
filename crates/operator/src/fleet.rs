//! What the operator is doing on all servers at this moment: the one place where the limit on concurrent
//! actions is kept. Rebuilt from statuses at start.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mcp_health_api::{Hold, McpServerHealth};
use mcp_health_core::{Decision, Fleet as Others};

use crate::observe::table::Key;

#[derive(Default)]
struct Inner {
    /// Scopes whose statuses were not read yet.
    unread: usize,
    /// Servers with an attempt under way.
    acting: BTreeSet<Key>,
    /// Servers that wait for one of those to end.
    waiting: BTreeSet<Key>,
}

/// See the module.
pub struct Fleet {
    inner: Mutex<Inner>,
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is known yet of the objects in so many scopes.
    pub fn new(scopes: usize) -> Self {
        Self { inner: Mutex::new(Inner { unread: scopes, ..Inner::default() }) }
    }

    /// Notes the attempts that the statuses of a scope tell of, before anything is decided there.
    pub fn remember<'a>(&self, objects: impl Iterator<Item = &'a McpServerHealth>) {
        let acting = objects.filter(|object| {
            object.status.as_ref().is_some_and(mcp_health_api::McpServerHealthStatus::is_acting)
        });
        let mut inner = self.lock();
        inner.acting.extend(acting.map(Key::of));
        inner.unread = inner.unread.saturating_sub(1);
    }

    /// Whether the statuses of every scope were read: before that, the limit cannot be kept.
    pub fn is_complete(&self) -> bool {
        self.lock().unread == 0
    }

    /// What happens on other servers than this one.
    pub fn others(&self, key: &Key) -> Others {
        let inner = self.lock();
        let acting = inner.acting.iter().filter(|one| *one != key);
        Others {
            acting: acting.map(|one| format!("{}/{}", one.namespace, one.name)).collect(),
            ..Others::default()
        }
    }

    /// Takes a place for an action that was decided, or turns it into a hold: two servers may have been
    /// decided about at the same moment.
    pub fn admit(&self, key: &Key, decision: Decision, limit: usize) -> Decision {
        let mut inner = self.lock();
        match decision {
            Decision::Act(plan) => {
                let others = inner.acting.iter().filter(|one| *one != key).count();
                if others < limit {
                    inner.acting.insert(key.clone());
                    return Decision::Act(plan);
                }
                inner.waiting.insert(key.clone());
                let message = format!("{others} of at most {limit} servers are being acted on");
                let hold = Hold { reason: "ConcurrentActions".to_owned(), message, until: None };
                Decision::Hold { hold, what: plan.what }
            }
            Decision::Hold { hold, what } => {
                if hold.reason == "ConcurrentActions" {
                    inner.waiting.insert(key.clone());
                }
                Decision::Hold { hold, what }
            }
            other => other,
        }
    }

    /// Notes whether an attempt is under way on a server. Returns those that may go on now.
    pub fn note(&self, key: &Key, acting: bool) -> BTreeSet<Key> {
        let mut inner = self.lock();
        if acting {
            inner.acting.insert(key.clone());
            return BTreeSet::new();
        }
        if inner.acting.remove(key) { std::mem::take(&mut inner.waiting) } else { BTreeSet::new() }
    }
}
