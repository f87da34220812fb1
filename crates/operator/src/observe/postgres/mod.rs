//! What the databases of servers tell. They are [looked at](looks) by the task that asks servers themselves,
//! over one [line] for each set of the same parameters and credentials, whatever the number of objects; what
//! came of it is in memory, and each look at a server reads it here. The sessions that an attempt ends are
//! ended over the same line.

mod line;
pub mod looks;
mod reading;
mod seen;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dependency_probe::postgres::{Ended, NotEnded};
use mcp_health_api::SessionFence;

use self::{
    line::{Identity, Line},
    seen::Seen,
};
use super::table::Key;

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
