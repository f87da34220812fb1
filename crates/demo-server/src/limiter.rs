//! So many requests a minute from each client, and no more (guide 000).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The length of a window, in seconds.
const WINDOW: i64 = 60;
/// Clients that are told apart; all others share one allowance, so that made-up names take no memory.
const CLIENTS: usize = 100;

/// The client that stands for all those beyond [`CLIENTS`].
const OTHERS: &str = "other";

/// Counts requests by client in windows of a minute.
#[derive(Debug)]
pub struct Limiter {
    limit: u32,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    window: i64,
    requests: HashMap<String, u32>,
}

/// What a client is told of its allowance.
#[derive(Debug)]
pub struct Allowance {
    /// The name it is counted under.
    pub client: String,
    /// This request is one too many.
    pub is_exceeded: bool,
    limit: u32,
    remaining: u32,
    /// In seconds since 1970.
    reset: i64,
    /// In seconds.
    wait: i64,
}

impl Limiter {
    /// So many requests a minute and client.
    pub fn new(limit: u32) -> Self {
        Self { limit, seen: Mutex::default() }
    }

    /// Counts a request; `now` is in seconds since 1970.
    pub fn count(&self, client: &str, now: i64) -> Allowance {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let window = now.div_euclid(WINDOW);
        if seen.window != window {
            *seen = Seen { window, requests: HashMap::new() };
        }
        let is_known = seen.requests.contains_key(client) || seen.requests.len() < CLIENTS;
        let client = if is_known { client } else { OTHERS };
        let requests = seen.requests.entry(client.to_owned()).or_default();
        *requests = requests.saturating_add(1);
        let reset = (window + 1) * WINDOW;
        Allowance {
            client: client.to_owned(),
            is_exceeded: *requests > self.limit,
            limit: self.limit,
            remaining: self.limit.saturating_sub(*requests),
            reset,
            wait: reset - now,
        }
    }
}

impl Allowance {
    /// Says so in the headers of an answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let mut say = |name: &'static str, value: i64| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        };
        say("x-ratelimit-limit", i64::from(self.limit));
        say("x-ratelimit-remaining", i64::from(self.remaining));
        say("x-ratelimit-reset", self.reset);
        if self.is_exceeded {
            say("retry-after", self.wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_allowance_and_a_new_one_every_minute() {
        let limiter = Limiter::new(2);
        let exceeded = |client: &str, now| limiter.count(client, now).is_exceeded;
        assert_eq!(
            [exceeded("a", 0), exceeded("a", 1), exceeded("a", 59), exceeded("b", 59)],
            [false, false, true, false]
        );
        assert!(!exceeded("a", 60));
    }

    #[test]
    fn names_without_end_share_one_allowance() {
        let limiter = Limiter::new(1);
        for name in 0..CLIENTS {
            assert!(!limiter.count(&name.to_string(), 0).is_exceeded);
        }
        let first = limiter.count("one more", 0);
        assert_eq!((first.client.as_str(), first.is_exceeded), (OTHERS, false));
        assert!(limiter.count("and another", 0).is_exceeded);
    }
}
