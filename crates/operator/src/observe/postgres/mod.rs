//! What the databases of servers tell. They are [looked at](looks) by the task that asks servers themselves, over one
//! [line] for each set of the same parameters and credentials, whatever the number of objects; what came of it is in
//! memory, and each look at a server reads it here. The sessions that an attempt ends are ended over the same line.

mod line;
pub mod looks;
mod seen;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dependency_probe::postgres::{Ended, NotEnded};
use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, PostgresSignal, SessionFence};
use mcp_health_core::signals::{Database, Dependency, Reading};

use self::{
    line::{Identity, Line},
    seen::Seen,
};
use super::{Stores, table::Key};

/// See the module.
#[derive(Default)]
pub struct Databases {
    objects: Mutex<HashMap<Key, Seen>>,
    lines: Mutex<HashMap<Identity, Arc<Line>>>,
}

impl Databases {
    fn objects(&self) -> MutexGuard<'_, HashMap<Key, Seen>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Identity, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line of an identity; a new one where there is none yet.
    fn line(&self, identity: &Identity) -> Result<Arc<Line>, String> {
        let mut lines = self.lines();
        if let Some(line) = lines.get(identity) {
            return Ok(Arc::clone(line));
        }
        let line = Arc::new(Line::new(identity)?);
        lines.insert(identity.clone(), Arc::clone(&line));
        Ok(line)
    }

    /// Forgets an object that is gone, or declares no database any more.
    pub fn forget(&self, object: &Key) {
        self.objects().remove(object);
    }

    /// Hangs up where nobody is left.
    pub fn hang_up(&self) {
        let objects = self.objects();
        let used: HashSet<&Identity> = objects.values().filter_map(|seen| seen.identity.as_ref()).collect();
        self.lines().retain(|identity, _| used.contains(identity));
    }

    /// Ends the recorded sessions in an object's database, where it is connected to, within `patience`.
    pub async fn end_sessions(
        &self,
        object: &Key,
        fence: &SessionFence,
        patience: Duration,
    ) -> Result<Ended, NotEnded> {
        let none = || NotEnded::Refused("the operator is not connected to the database".to_owned());
        let identity = self.objects().get(object).and_then(|seen| seen.identity.clone()).ok_or_else(none)?;
        let line = self.lines().get(&identity).cloned().ok_or_else(none)?;
        line.end_sessions(fence, patience).await
    }
}

impl Stores {
    /// What an object's database tells, and the database as something that the server depends on.
    pub(super) fn database_of(
        &self,
        object: &McpServerHealth,
        now: Timestamp,
    ) -> (Reading<Database>, Option<Dependency>) {
        let Some((databases, postgres)) = self.databases.as_ref().zip(object.spec.signals.postgres.as_ref())
        else {
            return (Reading::Off, None);
        };
        let target = object.status.as_ref().and_then(|status| status.target.as_ref());
        let remembered = target.map(|target| target.answered_dependencies.as_slice()).unwrap_or_default();
        let objects = databases.objects();
        match objects.get(&Key::of(object)).filter(|seen| seen.asked == *postgres) {
            Some(seen) => (seen.reading(now), Some(seen.dependency(remembered))),
            None => (
                Reading::Unavailable("it was not asked yet".to_owned()),
                Some(Dependency { name: PostgresSignal::NAME.to_owned(), ..Dependency::default() }),
            ),
        }
    }
}
