//! What servers answer when they are asked: MCP, their health, their circuit breakers. One task ([`keep`])
//! asks them, and with them what they [depend on](super::dependencies); what came of it is in memory, and
//! each look at a server reads it here.
//!
//! Who was never answered may have a wall in between, and whoever finds that all doors are shut has lost its
//! own key: neither is evidence against a server (DESIGN §10).

mod circuits;
mod clients;
mod health;
mod keep;
mod mcp;
mod reading;
mod schedule;
mod seen;
#[cfg(test)]
mod tests;
mod way;
mod ways;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use mcp_health_api::McpServerHealth;
use mcp_health_core::signals::{Circuit, Probed, Reading};
use tokio::{sync::Notify, time::timeout};

use self::seen::Server;
use super::table::Key;

pub use keep::Asking;

/// What is said while the operator's own way is at fault.
const NO_WAY: &str = "no server at all can be reached: the operator's own network";
/// Of at least so many servers, on so many paths, none must be reachable.
const ALL: (usize, usize) = (2, 3);
/// How long the end of sessions may take when the operator ends.
const GOODBYE: Duration = Duration::from_secs(4);

/// What probes came to, by object.
#[derive(Default)]
pub struct Probes {
    servers: Mutex<HashMap<Key, Server>>,
    /// No server can be reached: that is the operator's own way.
    no_way: AtomicBool,
    ending: Notify,
    ended: Notify,
}

/// What is read of them: probes, circuit breakers.
pub type Readings = (Reading<Vec<Probed>>, Reading<Vec<Circuit>>);

impl Probes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of an object's server, of the Deployment with this uid.
    fn of<T>(
        &self,
        key: &Key,
        uid: &str,
        object: &McpServerHealth,
        with: impl FnOnce(&mut Server) -> T,
    ) -> T {
        let mut servers = self.lock();
        let server = servers.entry(key.clone()).or_insert_with(|| Server::new(uid, object));
        if server.uid != uid {
            *server = Server::new(uid, object);
        }
        with(server)
    }

    /// What is remembered of it, to be read.
    fn read<T>(&self, key: &Key, uid: &str, object: &McpServerHealth, with: impl FnOnce(&Server) -> T) -> T {
        match self.lock().get(key).filter(|server| server.uid == uid) {
            Some(server) => with(server),
            None => with(&Server::new(uid, object)),
        }
    }

    /// Forgets an object that is gone.
    fn forget(&self, object: &Key) {
        self.lock().remove(object);
    }

    /// Looks whether the operator's own way is at fault. True where that is news.
    fn look_at_own_way(&self) -> bool {
        let servers = self.lock();
        let paths = servers.values().map(Server::unreachable).filter(|(_, all)| *all > 0);
        let (mut reached, mut of_servers, mut of_paths) = (false, 0, 0);
        for (unreachable, all) in paths {
            reached |= unreachable < all;
            of_servers += 1;
            of_paths += all;
        }
        let no_way = !reached && of_servers >= ALL.0 && of_paths >= ALL.1;
        let is_news = self.no_way.swap(no_way, Relaxed) != no_way;
        if is_news && no_way {
            tracing::warn!(
                servers = of_servers,
                paths = of_paths,
                "{NO_WAY}; probes are no evidence until then"
            );
        }
        is_news
    }

    /// Whether no server can be reached, for the operator's own reasons.
    pub fn has_no_way(&self) -> bool {
        self.no_way.load(Relaxed)
    }

    /// Whether any server could be reached the last time that it was asked.
    pub fn reaches_some(&self) -> bool {
        self.lock().values().map(Server::unreachable).any(|(unreachable, all)| unreachable < all)
    }

    /// Whether the status of an object has yet to be told what probes came to.
    fn is_to_be_kept(&self, key: &Key, object: &McpServerHealth) -> bool {
        let servers = self.lock();
        let Some(server) = servers.get(key) else { return false };
        let target = object.status.as_ref().and_then(|status| status.target.as_ref());
        let Some(target) = target.filter(|target| target.uid == server.uid) else { return false };
        let tools = || target.last_healthy.as_ref().is_some_and(|last| last.tools.is_empty());
        server.answered().iter().any(|one| !target.answered.contains(one)) || (server.has_tools() && tools())
    }

    /// The operator ends: no more is asked, and servers are told that their sessions are over.
    pub async fn end(&self) {
        self.ending.notify_one();
        if timeout(GOODBYE, self.ended.notified()).await.is_err() {
            tracing::warn!("not all MCP servers could be told in time that their sessions are over");
        }
    }
}
