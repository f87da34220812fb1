//! The rules asked again, where what a source tells has changed.

use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{Case, diagnose, diagnose::Verdict};

use super::{stores::Stores, table::Key};
use crate::caught;

impl Stores {
    /// What a source tells of these objects has changed: wakes those that the rules judge otherwise than at
    /// their last look. An object that was not looked at yet will be anyway.
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
        self.ask_for_logs(object, now);
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
