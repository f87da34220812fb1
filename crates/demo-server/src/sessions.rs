//! The sessions of clients that speak the protocol with sessions, and those that the fault `leak-sessions` piles up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions {
    manager: Arc<LocalSessionManager>,
    leaked: AtomicUsize,
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Open ones.
    pub open: usize,
    /// Those of them without a message for an hour. The manager ends a session after a few minutes of silence, so that
    /// only leaked ones get there; they count from the first, because nobody will ever speak in them.
    pub idle: usize,
}

impl Sessions {
    /// What opens and ends the sessions of clients.
    pub fn manager(&self) -> Arc<LocalSessionManager> {
        Arc::clone(&self.manager)
    }

    /// One more that nobody will end.
    pub fn leak(&self) {
        self.leaked.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends those that nobody would, and says how many they were.
    pub fn close_idle(&self) -> usize {
        self.leaked.swap(0, Ordering::Relaxed)
    }

    /// How many there are.
    pub async fn count(&self) -> Count {
        let idle = self.leaked.load(Ordering::Relaxed);
        Count { open: self.manager.sessions.read().await.len() + idle, idle }
    }
}
