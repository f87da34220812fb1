//! What the rules made of each server at its last look: a source whose values have changed has the rules
//! asked again, and a reconcile is woken only where they say otherwise. Values wake nobody.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use mcp_health_api::McpServerHealth;
use mcp_health_core::diagnose::Verdict;

use super::table::Key;

/// See the module.
#[derive(Default)]
pub struct Judged {
    by_object: Mutex<HashMap<Key, (Arc<McpServerHealth>, Verdict)>>,
    /// The rules panicked about these since their last look.
    panicked: Mutex<HashSet<Key>>,
}

impl Judged {
    /// Notes what a reconcile concluded; `object` is as it was written.
    pub fn note(&self, key: &Key, object: Arc<McpServerHealth>, verdict: Verdict) {
        let mut all = self.by_object.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.clone(), (object, verdict));
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The rules panicked about an object. True the first time since its last look.
    pub fn note_panic(&self, key: &Key) -> bool {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone())
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The objects that were looked at, as they were written last.
    pub fn objects(&self) -> Vec<(Key, Arc<McpServerHealth>)> {
        let all = self.by_object.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(key, (object, _))| (key.clone(), Arc::clone(object))).collect()
    }

    /// The object as a reconcile wrote it last.
    pub fn object(&self, key: &Key) -> Option<Arc<McpServerHealth>> {
        let all = self.by_object.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).map(|(object, _)| Arc::clone(object))
    }

    /// The object as a reconcile wrote it last, and what the rules made of it.
    pub fn of(&self, key: &Key) -> Option<(Arc<McpServerHealth>, Verdict)> {
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

#[cfg(test)]
mod tests;
