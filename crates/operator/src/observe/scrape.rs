//! What the pods of targets tell of themselves at their metrics path, where no Prometheus tells it: one GET a
//! pod and period, spread over the period, and of each server bounded windows in memory. Only pods of targets
//! are asked, at their own address. Values wake nobody; a reconcile is woken where the rules judge otherwise.
//!
//! A server that was not seen to have metrics is asked [less often](super::backoff), and is no fault unless
//! its policy wants them.

pub mod poll;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::ACCEPT};
use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{McpServerHealth, PrometheusSignal};
use mcp_health_core::{
    health_body,
    metrics::{Naming, Windows},
    signals::{Metrics, Pod, Reading},
};
use mcp_probe::retry_after;
use net::Failed;
use tokio::time::Instant;

use super::{
    backoff::{Backoff, Reception, Stake},
    list_watch::{Pace, is_recent},
    table::Key,
};
use crate::pod_http;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Servers have their turn within the period, this far apart.
const TURN: Duration = Duration::from_secs(1);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 4 << 20;

/// The formats of metrics that are read.
const FORMATS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

/// See the module.
pub struct Scraped {
    period: Duration,
    naming: Naming,
    servers: Mutex<HashMap<Key, Server>>,
}

/// What is known of an object's server.
#[derive(Default)]
struct Server {
    windows: Windows,
    /// Why no pod has ever answered: the first reason stands.
    failing: Option<String>,
    backoff: Backoff,
    /// The best that a pod did in the round that is under way, and for how long one wants no other.
    round: Option<(Reception, Option<Duration>)>,
}

/// One look at a server.
struct Look {
    key: Key,
    object: Arc<McpServerHealth>,
    pods: Vec<Asked>,
    port: u16,
}

/// Why a pod told no metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NoMetrics {
    said: String,
    reception: Reception,
    retry_after: Option<Duration>,
}

impl NoMetrics {
    fn new(said: impl Into<String>, reception: Reception) -> Self {
        Self { said: said.into(), reception, retry_after: None }
    }

    /// By the status of an answer.
    fn of(status: u16, headers: &HeaderMap) -> Self {
        // A status that says nothing against it tells no metrics either.
        let fault = health_body::judge(status, &[]).err();
        let reception = fault.map_or(Reception::Failed, |fault| Reception::of(Some(&fault)));
        let retry_after = retry_after(status, headers, Timestamp::now());
        Self { said: format!("it answers {status}"), reception, retry_after }
    }
}

/// A pod, and what of it matters here.
struct Asked {
    name: String,
    address: SocketAddr,
    ready: bool,
    restarts: i32,
}

impl Scraped {
    /// Nothing was asked yet.
    pub fn new(period: Duration, naming: Naming) -> Self {
        Self { period: period.max(TURN), naming, servers: Mutex::default() }
    }

    fn signal_of(&self, object: &McpServerHealth) -> PrometheusSignal {
        self.naming.below(object.spec.signals.prometheus.as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the pods of an object's server tell.
    pub fn reading(
        &self,
        key: &Key,
        object: &McpServerHealth,
        pods: &[Pod],
        now: Timestamp,
    ) -> Reading<Metrics> {
        let servers = self.lock();
        let Some(server) = servers.get(key) else { return Reading::Off };
        if server.windows.is_empty() {
            let is_wanted = object.spec.signals.scrape.is_some();
            let why = server.failing.as_ref().filter(|_| is_wanted);
            return why.map_or(Reading::Off, |why| Reading::Unavailable(why.clone()));
        }
        let period = SignedDuration::try_from(self.period).unwrap_or_default();
        // Pods that should answer and have not for so long tell nothing of now.
        let silent = Pace::of_watches(1).stale_after_polls(self.period, PATIENCE);
        let silent = SignedDuration::try_from(silent).unwrap_or(SignedDuration::MAX);
        let value = server.windows.metrics(&self.signal_of(object), period, now);
        // Where no pod is ready for so long, none has to answer: that is told by others.
        let mut due = pods.iter().filter(|pod| pod.counts() && pod.is_ready_for(silent, now)).peekable();
        let last = server.windows.last().unwrap_or(now);
        let is_silent =
            |pod: &Pod| server.windows.answered(&pod.name).is_none_or(|at| !is_recent(at, now, silent));
        if due.peek().is_some() && due.all(is_silent) {
            return Reading::Stale { value, at: last };
        }
        Reading::Fresh(value)
    }

    /// Whether a server is asked now. `what` is asked: a digest.
    fn takes_part(&self, key: &Key, what: u64, is_declared: bool) -> bool {
        let mut servers = self.lock();
        let server = servers.entry(key.clone()).or_default();
        let was_answered = !server.windows.is_empty();
        server.backoff.keep_to(what);
        server.backoff.is_due(Stake { interval: self.period, is_declared, was_answered })
    }

    fn note(&self, look: &Look, pod: &Asked, answer: Result<String, NoMetrics>, at: Timestamp) {
        let mut servers = self.lock();
        let server = servers.entry(look.key.clone()).or_default();
        let noted = answer.and_then(|text| {
            let is_metrics =
                server.windows.note(&self.signal_of(&look.object), &pod.name, pod.restarts, &text, at);
            let none = || NoMetrics::new("it answers no metrics", Reception::Absent);
            if is_metrics { Ok(()) } else { Err(none()) }
        });
        server.heard(noted.as_ref().err());
        match noted {
            Ok(()) => server.failing = None,
            // What is not ready may be about to start.
            Err(why) if pod.ready => {
                let (path, why) = (path_of(&look.object), why.said);
                server.failing.get_or_insert_with(|| format!("GET :{}{path}: {why}", look.port));
            }
            Err(_) => {}
        }
    }

    /// All pods of a server were asked; `is_there` tells those that still are.
    fn end(&self, look: &Look, is_there: impl Fn(&str) -> bool) {
        let mut servers = self.lock();
        let Some(server) = servers.get_mut(&look.key) else { return };
        server.windows.retain(is_there);
        if let Some((reception, retry_after)) = server.round.take() {
            server.backoff.note(reception, server.failing.is_some(), retry_after);
        }
    }
}

impl Server {
    /// A pod told its metrics, or why not: the server is as well as the best of them.
    fn heard(&mut self, refusal: Option<&NoMetrics>) {
        let rank = |reception| match reception {
            Reception::Answered => 3,
            Reception::Failed => 2,
            Reception::TurnedAway(_) => 1,
            Reception::Absent => 0,
        };
        let reception = refusal.map_or(Reception::Answered, |one| one.reception);
        let unwanted = refusal.and_then(|one| one.retry_after);
        let (best, longest) = self.round.unwrap_or((reception, unwanted));
        let best = if rank(reception) > rank(best) { reception } else { best };
        self.round = Some((best, longest.max(unwanted)));
    }
}

/// What a pod tells at a path.
async fn get(address: SocketAddr, path: &str) -> Result<String, NoMetrics> {
    let failed = |why: String| NoMetrics::new(why, Reception::Failed);
    let until = Instant::now() + PATIENCE;
    let mut request = pod_http::request(Method::GET, address, path)
        .map_err(|error| failed(format!("its path is none: {error}")))?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(FORMATS));
    let not_answered = |refused: Failed| match refused {
        Failed::Late(_) => failed(format!("no answer within {} s", PATIENCE.as_secs())),
        refused => failed(pod_http::refusal(&refused).to_owned()),
    };
    let answer = pod_http::ask(address, request, until).await.map_err(not_answered)?;
    if answer.head.status != StatusCode::OK {
        return Err(NoMetrics::of(answer.head.status.as_u16(), &answer.head.headers));
    }
    match answer.read(LONGEST + 1, until).await {
        Ok(body) if body.len() <= LONGEST => Ok(String::from_utf8_lossy(&body).into_owned()),
        Err(late @ Failed::Late(_)) => Err(not_answered(late)),
        Ok(_) | Err(_) => {
            Err(failed(format!("the connection broke off, or told more than {} MiB", LONGEST >> 20)))
        }
    }
}

fn path_of(object: &McpServerHealth) -> &str {
    object.spec.signals.scrape.as_ref().map_or("/metrics", |signal| signal.path.as_str())
}

#[cfg(test)]
impl Scraped {
    /// What a pod of an object's server has told.
    pub fn take(&self, key: &Key, object: &McpServerHealth, pod: &str, text: &str, at: Timestamp) {
        let mut servers = self.lock();
        assert!(servers.entry(key.clone()).or_default().windows.note(
            &self.signal_of(object),
            pod,
            0,
            text,
            at
        ));
    }
}

#[cfg(test)]
mod tests;
