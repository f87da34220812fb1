//! The sessions of clients that speak the protocol with sessions, and those that the fault `leak-sessions`
//! piles up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions {
    manager: Arc<LocalSessionManager>,
    /// By the leak that they come from.
    leaked: Mutex<HashMap<u64, usize>>,
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Open ones.
    pub open: usize,
    /// Those of them without a message for an hour. The manager ends a session after a few minutes of
    /// silence, so that only leaked ones get there; they count from the first, because nobody will ever speak
    /// in them.
    pub idle: usize,
}

impl Sessions {
    /// What opens and ends the sessions of clients.
    pub fn manager(&self) -> Arc<LocalSessionManager> {
        Arc::clone(&self.manager)
    }

    /// One more that nobody will speak in, of this leak.
    pub fn leak(&self, leak: u64) {
        *self.leaked().entry(leak).or_default() += 1;
    }

    /// Ends those of a leak.
    pub fn end_leak(&self, leak: u64) {
        self.leaked().remove(&leak);
    }

    /// Ends all of them, and says how many they were.
    pub fn close_idle(&self) -> usize {
        self.leaked().drain().map(|(_, count)| count).sum()
    }

    /// How many there are.
    pub async fn count(&self) -> Count {
        let idle = self.leaked().values().sum();
        Count { open: self.manager.sessions.read().await.len() + idle, idle }
    }

    fn leaked(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.leaked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
