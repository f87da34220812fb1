//! A circuit breaker, and the upstream that it guards.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::CircuitConfig;

/// The one circuit there is.
pub const EXTERNAL_API: &str = "external-api";

const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
const UPSTREAM_BODY_LIMIT: usize = 64 * 1024;

/// Whether calls go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// They do.
    Closed,
    /// They do not.
    Open,
    /// A few do, on trial.
    HalfOpen,
}

/// What `GET /circuit-breakers` shows.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: State,
    /// Failures in a row.
    pub failure_count: u32,
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// Seconds since the epoch; null before the first failure.
    pub last_failure_time: Option<f64>,
    /// Seconds that it stays open after the last failure.
    pub recovery_timeout: f64,
    /// Trial calls before it closes.
    pub half_open_max_calls: u32,
}

#[derive(Debug, Default)]
struct Inner {
    open: bool,
    failures: u32,
    last_failure: Option<Timestamp>,
    trials_under_way: u32,
    trials_passed: u32,
}

/// Lets calls through until too many in a row have failed.
#[derive(Debug)]
pub struct Circuit {
    config: CircuitConfig,
    inner: Mutex<Inner>,
}

/// The circuit is open.
#[derive(Debug, thiserror::Error)]
#[error("circuit open: {EXTERNAL_API}")]
pub struct CircuitOpen;

impl Circuit {
    /// A closed circuit.
    pub fn new(config: CircuitConfig) -> Self {
        Self { config, inner: Mutex::default() }
    }

    /// Asks to make a call. `stuck` is the fault of that name: an open circuit then stays open.
    pub fn enter(&self, now: Timestamp, stuck: bool) -> Result<Permit<'_>, CircuitOpen> {
        let mut inner = self.lock();
        match self.state_of(&inner, now, stuck) {
            State::Closed => Ok(Permit { circuit: self, trial: false, done: false }),
            State::HalfOpen if inner.trials_under_way < self.config.half_open_max_calls => {
                inner.trials_under_way += 1;
                Ok(Permit { circuit: self, trial: true, done: false })
            }
            State::Open | State::HalfOpen => Err(CircuitOpen),
        }
    }

    /// Opens it at once.
    pub fn trip(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.open = true;
        inner.failures = inner.failures.max(self.config.failure_threshold);
        inner.last_failure = Some(now);
        inner.trials_passed = 0;
    }

    /// Closes it at once, as if nothing had failed.
    pub fn reset(&self) {
        *self.lock() = Inner::default();
    }

    /// How it is.
    pub fn view(&self, now: Timestamp, stuck: bool) -> View {
        let inner = self.lock();
        View {
            name: EXTERNAL_API,
            state: self.state_of(&inner, now, stuck),
            failure_count: inner.failures,
            failure_threshold: self.config.failure_threshold,
            last_failure_time: inner.last_failure.map(|at| at.as_duration().as_secs_f64()),
            recovery_timeout: self.config.recovery_timeout.as_secs_f64(),
            half_open_max_calls: self.config.half_open_max_calls,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_of(&self, inner: &Inner, now: Timestamp, stuck: bool) -> State {
        if !inner.open {
            return State::Closed;
        }
        let since = inner
            .last_failure
            .map_or(Duration::MAX, |at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        if !stuck && since > self.config.recovery_timeout { State::HalfOpen } else { State::Open }
    }

    fn settle(&self, trial: bool, outcome: Option<(bool, Timestamp)>) {
        let mut inner = self.lock();
        if trial {
            inner.trials_under_way = inner.trials_under_way.saturating_sub(1);
        }
        match outcome {
            Some((true, _)) if trial => {
                inner.trials_passed += 1;
                if inner.trials_passed >= self.config.half_open_max_calls {
                    *inner = Inner::default();
                }
            }
            Some((true, _)) => inner.failures = 0,
            Some((false, now)) => {
                inner.failures += 1;
                inner.last_failure = Some(now);
                inner.trials_passed = 0;
                inner.open |= inner.failures >= self.config.failure_threshold;
            }
            None => {}
        }
    }
}

/// The right to make one call. Dropped without an outcome, the call counts neither way.
#[derive(Debug)]
pub struct Permit<'a> {
    circuit: &'a Circuit,
    trial: bool,
    done: bool,
}

impl Permit<'_> {
    /// Says how the call went.
    pub fn settle(mut self, succeeded: bool, now: Timestamp) {
        self.done = true;
        self.circuit.settle(self.trial, Some((succeeded, now)));
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.circuit.settle(self.trial, None);
        }
    }
}

/// Why the upstream did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The address is not one.
    #[error("the address of the external API is not valid")]
    Address,
    /// It cannot be reached.
    #[error("the external API cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    /// It answered with an error.
    #[error("the external API answered {0}")]
    Status(axum::http::StatusCode),
    /// It took too long.
    #[error("no answer from the external API within {UPSTREAM_TIMEOUT:?}")]
    Timeout,
    /// Its answer broke off or is too long.
    #[error("the answer of the external API cannot be read")]
    Body,
}

/// The API that `search` asks in addition. Plain HTTP: what needs TLS is reached through a proxy in the
/// cluster.
#[derive(Debug)]
pub struct Upstream {
    url: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Upstream {
    /// An API at this address.
    pub fn new(url: String) -> Self {
        Self { url, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Its answer to a query, as text.
    pub async fn search(&self, query: &str) -> Result<String, UpstreamError> {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}q={query}", self.url).parse().map_err(|_| UpstreamError::Address)?;
        let answer = async {
            let response = self.client.get(url).await?;
            if !response.status().is_success() {
                return Err(UpstreamError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), UPSTREAM_BODY_LIMIT).collect().await;
            let body = body.map_err(|_| UpstreamError::Body)?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        tokio::time::timeout(UPSTREAM_TIMEOUT, answer).await.map_err(|_| UpstreamError::Timeout)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CircuitConfig = CircuitConfig {
        failure_threshold: 2,
        recovery_timeout: Duration::from_secs(30),
        half_open_max_calls: 2,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn call(circuit: &Circuit, now: i64, succeeds: bool) -> bool {
        circuit.enter(at(now), false).map(|permit| permit.settle(succeeds, at(now))).is_ok()
    }

    #[test]
    fn failures_in_a_row_open_it_and_successful_trials_close_it() {
        let circuit = Circuit::new(CONFIG);
        assert!(call(&circuit, 0, false) && call(&circuit, 1, true) && call(&circuit, 2, false));
        assert_eq!(circuit.view(at(2), false).state, State::Closed);
        assert!(call(&circuit, 3, false));
        assert_eq!(circuit.view(at(3), false).state, State::Open);
        assert!(!call(&circuit, 33, true), "open until the recovery time-out has passed");
        assert!(call(&circuit, 34, true));
        assert_eq!(circuit.view(at(34), false).state, State::HalfOpen);
        assert!(call(&circuit, 35, true));
        let view = circuit.view(at(35), false);
        assert_eq!((view.state, view.failure_count), (State::Closed, 0));
    }

    #[test]
    fn a_failed_trial_opens_it_again() {
        let circuit = Circuit::new(CONFIG);
        circuit.trip(at(0));
        assert!(call(&circuit, 31, false));
        assert!(!call(&circuit, 32, true));
    }

    #[test]
    fn no_more_trials_at_once_than_allowed_and_an_abandoned_one_frees_its_place() {
        let circuit = Circuit::new(CONFIG);
        circuit.trip(at(0));
        let first = circuit.enter(at(31), false).expect("a trial");
        let _second = circuit.enter(at(31), false).expect("a trial");
        assert!(circuit.enter(at(31), false).is_err());
        drop(first);
        assert!(circuit.enter(at(31), false).is_ok());
    }

    #[test]
    fn a_stuck_circuit_stays_open_until_it_is_reset() {
        let circuit = Circuit::new(CONFIG);
        circuit.trip(at(0));
        assert!(circuit.enter(at(1_000_000), true).is_err());
        circuit.reset();
        assert!(circuit.enter(at(1_000_000), true).is_ok());
    }
}
