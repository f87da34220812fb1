//! What the external API answered, for a while (guide 001: 300 s).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Answers kept; a full cache begins anew.
const LIMIT: usize = 1000;

/// Answers by query.
#[derive(Debug)]
pub struct Cache {
    ttl: Duration,
    answers: Mutex<HashMap<String, (Instant, Value)>>,
}

impl Cache {
    /// Answers are good for so long.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, answers: Mutex::default() }
    }

    /// The answer to a query, if it is known and not too old.
    pub fn get(&self, query: &str) -> Option<Value> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = answers.get(query)?;
        (at.elapsed() < self.ttl).then(|| answer.clone())
    }

    /// Keeps an answer.
    pub fn put(&self, query: &str, answer: &Value) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= LIMIT {
            answers.clear();
        }
        answers.insert(query.to_owned(), (Instant::now(), answer.clone()));
    }
}
