//! What the rules made of each server at its last look: a source whose values have changed has the rules asked again,
//! and a reconcile is woken only where they say otherwise. Values wake nobody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{Case, diagnose, diagnose::Verdict};

use super::{Stores, table::Key};

/// See the module.
#[derive(Default)]
pub struct Judged {
    by_object: Mutex<HashMap<Key, (Arc<McpServerHealth>, Verdict)>>,
}

impl Judged {
    /// Notes what a reconcile concluded; `object` is as it was written.
    pub fn note(&self, key: &Key, object: Arc<McpServerHealth>, verdict: Verdict) {
        let mut all = self.by_object.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.clone(), (object, verdict));
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
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

    fn of(&self, key: &Key) -> Option<(Arc<McpServerHealth>, Verdict)> {
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl Stores {
    /// What a source tells of these objects has changed: wakes those that the rules judge otherwise than at their last
    /// look. An object that was not looked at yet will be anyway.
    pub fn judge_again(&self, objects: impl IntoIterator<Item = Key>, now: Timestamp) {
        for key in objects {
            let Some((object, before)) = self.judged.of(&key) else { continue };
            let signals = self.signals(&object, now);
            let none = McpServerHealthStatus::default();
            let case = Case {
                generation: object.metadata.generation.unwrap_or_default(),
                spec: &object.spec,
                status: object.status.as_ref().unwrap_or(&none),
                signals: &signals,
                settings: &self.settings,
                now,
            };
            if Verdict::of(&diagnose(&case), &signals, &case.status.incidents) != before {
                self.wake([key]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
