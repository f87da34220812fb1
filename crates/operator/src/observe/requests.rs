//! The operator's own requests at each server: all of them counted, and those of MCP and health bounded. A
//! gateway that starts a process for each request pays for each of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

/// Servers that are told apart in metrics; the others are one.
const TOLD_APART: usize = 1000;

/// See the module. `K` names a server.
pub struct Requests<K> {
    a_minute: f64,
    servers: Mutex<HashMap<K, Spent>>,
}

/// What one server was asked.
struct Spent {
    /// So many more may be made now; below zero, more were made than was thought.
    left: f64,
    at: Instant,
    made: u64,
}

impl<K: Clone + Eq + Ord + std::hash::Hash> Requests<K> {
    /// At most so many a minute at each server, on average; at least one.
    pub fn new(a_minute: u32) -> Self {
        Self { a_minute: f64::from(a_minute.max(1)), servers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Spent>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests for MCP and health may be made at a server now: those of a minute at most.
    pub fn left(&self, server: &K) -> f64 {
        self.lock().get(server).map_or(self.a_minute, |spent| spent.left_now(self.a_minute))
    }

    /// So many were made for MCP and health.
    pub fn spent(&self, server: &K, count: u32) {
        self.add(server, count, f64::from(count));
    }

    /// So many others were made. They have a pace of their own; those of many pods must not silence MCP and
    /// health.
    pub fn made_beside(&self, server: &K, count: u32) {
        self.add(server, count, 0.0);
    }

    fn add(&self, server: &K, count: u32, spent: f64) {
        let now = Instant::now();
        let mut servers = self.lock();
        let new = || Spent { left: self.a_minute, at: now, made: 0 };
        let before = servers.entry(server.clone()).or_insert_with(new);
        *before = Spent {
            left: before.left_now(self.a_minute) - spent,
            at: now,
            made: before.made.saturating_add(count.into()),
        };
    }

    /// Forgets a server that is gone.
    pub fn forget(&self, server: &K) {
        self.lock().remove(server);
    }

    /// How many were made, by server; those of no name are of all that are not told apart.
    pub fn counts(&self) -> BTreeMap<Option<K>, u64> {
        let servers = self.lock();
        let mut all: Vec<(&K, u64)> = servers.iter().map(|(server, spent)| (server, spent.made)).collect();
        all.sort_unstable();
        let mut counts = BTreeMap::new();
        for (place, (server, made)) in all.into_iter().enumerate() {
            let name = (place < TOLD_APART).then(|| server.clone());
            *counts.entry(name).or_insert(0) += made;
        }
        counts
    }
}

impl Spent {
    fn left_now(&self, a_minute: f64) -> f64 {
        (self.left + self.at.elapsed().as_secs_f64() * a_minute / 60.0).min(a_minute)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_are_made_than_a_minute_allows_and_what_was_overdrawn_is_waited_for() {
        let requests = Requests::new(60);
        requests.spent(&"one", 60);
        assert!(requests.left(&"one") < 1.0 && requests.left(&"two") >= 60.0, "each has its own");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!((requests.left(&"one") - 10.0).abs() < 0.1);
        requests.spent(&"one", 20);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(requests.left(&"one") < 1.0);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(requests.left(&"one") <= 60.0, "what was not used is not saved up");
        requests.made_beside(&"one", 1000);
        assert!(requests.left(&"one") >= 60.0, "metrics of many pods silence no other question");
        assert_eq!(requests.counts()[&Some("one")], 1080);
    }

    #[tokio::test(start_paused = true)]
    async fn servers_beyond_those_that_are_told_apart_are_one() {
        let requests = Requests::new(60);
        for server in 0..TOLD_APART + 5 {
            requests.made_beside(&server, 2);
        }
        let counts = requests.counts();
        assert_eq!((counts.len(), counts[&None], counts[&Some(0)]), (TOLD_APART + 1, 10, 2));
        requests.forget(&0);
        assert_eq!(requests.counts()[&None], 8);
    }
}
