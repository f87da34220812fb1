//! What the rules made of each server at its last look: a source whose values have changed has the rules asked again,
//! and a reconcile is woken only where they say otherwise. Values wake nobody.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{Case, diagnose, diagnose::Verdict};

use super::{Stores, table::Key};
use crate::caught;

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
    fn note_panic(&self, key: &Key) -> bool {
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
            match caught::panic(|| self.is_judged_otherwise(&object, &before, now)) {
                Ok(true) => self.wake([key]),
                // Its reconcile meets the same, and says so in its status.
                Err(why) if self.judged.note_panic(&key) => {
                    caught::count("Rules", &format!("McpServerHealth {}/{}", key.namespace, key.name), &why);
                    self.wake([key]);
                }
                Ok(false) | Err(_) => {}
            }
        }
    }

    fn is_judged_otherwise(&self, object: &McpServerHealth, before: &Verdict, now: Timestamp) -> bool {
        let signals = self.signals(object, now);
        let none = McpServerHealthStatus::default();
        let case = Case {
            generation: object.metadata.generation.unwrap_or_default(),
            spec: &object.spec,
            status: object.status.as_ref().unwrap_or(&none),
            signals: &signals,
            settings: &self.settings,
            now,
        };
        Verdict::of(&diagnose(&case), &signals, &case.status.incidents) != *before
    }
}

#[cfg(test)]
mod tests;
