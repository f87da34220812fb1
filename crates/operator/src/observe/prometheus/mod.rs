//! What the metrics of servers tell, by Prometheus. One poller asks for all objects: every text once a tick
//! and Prometheus (`plan`), over its HTTP API (`client`, `answer`); what comes back is joined to targets by
//! labels (`join`) and kept by object (`hearing`). Values wake nobody; a reconcile is woken where the rules
//! judge otherwise.

mod answer;
mod client;
mod hearing;
mod join;
mod plan;
mod poll;
mod replicas;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use mcp_health_api::{McpServerHealth, Measure, PrometheusSignal, UserRule};
use mcp_health_core::{
    metrics::{self, Naming},
    signals::{Metrics, Pod, Reading, RuleReading, Span, Usage},
};

use super::{
    list_watch::{Pace, is_recent},
    table::Key,
};
use crate::{
    config::Config,
    endpoints::{AllowList, Endpoint},
};
use hearing::Told;
use plan::Poll;
pub use poll::Poller;
pub use usage::note as note_usage;

/// See the module.
pub struct Sight {
    own: Option<Endpoint>,
    allowed: AllowList,
    interval: SignedDuration,
    stale_after: SignedDuration,
    naming: Naming,
    known: Mutex<HashMap<Key, Known>>,
}

/// What is known of an object's server.
struct Known {
    endpoint: Endpoint,
    /// What was asked for.
    signal: Option<PrometheusSignal>,
    rules: Vec<UserRule>,
    texts: Arc<Vec<(Measure, Span, String)>>,
    told: Told,
    /// What was missing at the last tick for the first time: its values are those of the tick before.
    shaky: Vec<(Measure, Span)>,
    usage: Vec<Usage>,
    /// What of its memory is no page cache.
    resident: Vec<Usage>,
    /// When Prometheus answered last.
    answered: Option<Timestamp>,
    /// Why it does not.
    failing: Option<String>,
}

/// Whom an object has asked.
enum Asked {
    /// Nobody.
    Nobody,
    /// Somebody who may not be.
    Refused(String),
    /// This one.
    At(Endpoint),
}

impl Sight {
    /// Nothing was seen yet.
    pub fn new(config: &Config) -> Result<Self, String> {
        let (own, allowed) = endpoints(config)?;
        Ok(Self {
            own,
            allowed,
            interval: config.prometheus_period.span(),
            stale_after: Pace::of(config)
                .stale_after_polls(
                    config.prometheus_period.span().unsigned_abs(),
                    config.prometheus_timeout.span().unsigned_abs(),
                )
                .try_into()
                .unwrap_or(SignedDuration::MAX),
            naming: config.naming(),
            known: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked_by(&self, object: &McpServerHealth) -> Asked {
        let signal = object.spec.signals.prometheus.as_ref();
        if signal.is_some_and(|signal| !signal.enabled) {
            return Asked::Nobody;
        }
        let Some(url) = signal.and_then(|signal| signal.url.as_deref()) else {
            return self.own.clone().map_or(Asked::Nobody, Asked::At);
        };
        match Endpoint::parse(url) {
            Ok(endpoint) if self.own.as_ref() == Some(&endpoint) || self.allowed.permits(&endpoint) => {
                Asked::At(endpoint)
            }
            Ok(endpoint) => Asked::Refused(format!(
                "{endpoint} is not on the operator's allow-list (--allowed-endpoints)"
            )),
            Err(why) => Asked::Refused(format!("spec.signals.prometheus.url: {why}")),
        }
    }

    /// Whether an object's metrics are Prometheus' to tell.
    pub fn is_asked_by(&self, object: &McpServerHealth) -> bool {
        !matches!(self.asked_by(object), Asked::Nobody)
    }

    /// What an object's metrics and its own rules tell. Off until Prometheus was asked for the first time.
    pub fn readings(
        &self,
        object: &McpServerHealth,
        now: Timestamp,
    ) -> (Reading<Metrics>, Reading<Vec<RuleReading>>) {
        let rules = &object.spec.rules;
        let endpoint = match self.asked_by(object) {
            Asked::At(endpoint) => endpoint,
            Asked::Nobody if rules.is_empty() => return (Reading::Off, Reading::Off),
            Asked::Nobody => {
                let why = "there is no Prometheus to ask (--prometheus-url, spec.signals.prometheus)";
                return (Reading::Off, Reading::Unavailable(why.to_owned()));
            }
            Asked::Refused(why) => {
                let of_rules =
                    if rules.is_empty() { Reading::Off } else { Reading::Unavailable(why.clone()) };
                return (Reading::Unavailable(why), of_rules);
            }
        };
        let all = self.lock();
        let asked =
            |known: &&Known| known.endpoint == endpoint && known.signal == object.spec.signals.prometheus;
        let Some(known) = all.get(&key(object)).filter(asked) else { return (Reading::Off, Reading::Off) };
        let of_rules = if rules.is_empty() || known.rules != *rules {
            Reading::Off
        } else {
            self.reading(known, now, || known.told.rules.clone())
        };
        let of_metrics = self.reading(known, now, || Metrics {
            source: format!("Prometheus {endpoint}"),
            window: metrics::window(&object.spec),
            interval: self.interval,
            series: known.told.series.clone(),
            missing: known.told.missing.clone(),
            queries: known.texts.to_vec(),
        });
        (of_metrics, of_rules)
    }

    /// What the containers of these pods use, where Prometheus tells it of all of them.
    pub fn usage(&self, object: &Key, pods: &[Pod], now: Timestamp) -> Option<Vec<Usage>> {
        let all = self.lock();
        let known = all.get(object).filter(|known| self.tells(known, pods, now))?;
        let of_pods = known.usage.iter().filter(|one| pods.iter().any(|pod| pod.name == one.pod));
        Some(of_pods.cloned().collect())
    }

    /// What of the memory of these pods is no page cache, where Prometheus tells it.
    pub fn resident(&self, object: &Key, pods: &[Pod], now: Timestamp) -> Option<Vec<Usage>> {
        let all = self.lock();
        let known = all.get(object).filter(|known| self.is_fresh(known, now))?;
        let of_pods = known.resident.iter().filter(|one| pods.iter().any(|pod| pod.name == one.pod));
        Some(of_pods.cloned().collect()).filter(|all: &Vec<Usage>| !all.is_empty())
    }

    /// Whether Prometheus tells what the containers of these pods use.
    pub fn tells_usage<'a>(
        &self,
        object: &Key,
        pods: impl IntoIterator<Item = &'a Pod>,
        now: Timestamp,
    ) -> bool {
        self.lock().get(object).is_some_and(|known| self.tells(known, pods, now))
    }

    fn tells<'a>(&self, known: &Known, pods: impl IntoIterator<Item = &'a Pod>, now: Timestamp) -> bool {
        self.is_fresh(known, now) && usage::covers(&known.usage, pods, now)
    }

    fn reading<T>(&self, known: &Known, now: Timestamp, value: impl FnOnce() -> T) -> Reading<T> {
        match (known.answered, &known.failing) {
            (Some(_), _) if self.is_fresh(known, now) => Reading::Fresh(value()),
            (Some(at), _) => Reading::Stale { value: value(), at },
            (None, Some(why)) => Reading::Unavailable(format!("Prometheus {}: {why}", known.endpoint)),
            (None, None) => Reading::Off,
        }
    }

    /// One tick without an answer is no time.
    fn is_fresh(&self, known: &Known, now: Timestamp) -> bool {
        known.answered.is_some_and(|at| is_recent(at, now, self.stale_after))
    }

    /// Forgets all but these objects.
    fn retain(&self, objects: &HashSet<Key>) {
        self.lock().retain(|object, _| objects.contains(object));
    }

    /// Notes what a poll came to: what each object was told, or why Prometheus told nothing.
    fn note(&self, poll: &Poll, told: Result<Vec<Told>, String>, now: Timestamp) {
        let mut all = self.lock();
        let mut told = told.map(Vec::into_iter);
        for asker in &poll.askers {
            let mapping = &poll.mappings[asker.mapping];
            let fresh = || Known {
                endpoint: poll.endpoint.clone(),
                signal: None,
                rules: Vec::new(),
                texts: Arc::default(),
                told: Told::default(),
                shaky: Vec::new(),
                usage: Vec::new(),
                resident: Vec::new(),
                answered: None,
                failing: None,
            };
            let known = all.entry(asker.object.clone()).or_insert_with(fresh);
            if known.endpoint != poll.endpoint {
                *known = fresh();
            }
            known.signal.clone_from(&asker.spec.spec.signals.prometheus);
            known.rules.clone_from(&asker.spec.spec.rules);
            known.texts = Arc::clone(&mapping.texts);
            match &mut told {
                Ok(told) => {
                    known.told_now(told.next().unwrap_or_default(), now);
                    (known.answered, known.failing) = (Some(now), None);
                }
                Err(why) => known.failing = Some(why.clone()),
            }
        }
    }
}

/// The operator's own Prometheus, and what else objects may name.
fn endpoints(config: &Config) -> Result<(Option<Endpoint>, AllowList), String> {
    let own = (!config.prometheus_url.is_empty()).then(|| Endpoint::parse(&config.prometheus_url));
    let own = own.transpose().map_err(|why| format!("--prometheus-url: {why}"))?;
    let allowed =
        AllowList::parse(&config.allowed_endpoints).map_err(|why| format!("--allowed-endpoints: {why}"))?;
    Ok((own, allowed))
}

impl Known {
    fn told_now(&mut self, mut told: Told, now: Timestamp) {
        let before = std::mem::take(&mut self.told);
        let was_shaky = std::mem::take(&mut self.shaky);
        let was_missing =
            |of: (Measure, Span)| before.missing.iter().any(|(measure, span, _)| (*measure, *span) == of);
        usage::go_on(&mut self.usage, &told.series, now);
        usage::resident_goes_on(&mut self.resident, &told.series, now);
        // What is missing once only has its values of the tick before, as old as they are.
        told.missing.retain(|(measure, span, _)| {
            let of = (*measure, *span);
            let is_first = !was_shaky.contains(&of) && !was_missing(of) && self.answered.is_some();
            if is_first {
                self.shaky.push(of);
            }
            !is_first
        });
        let kept = before.series.into_iter().filter(|one| self.shaky.contains(&(one.measure, one.span)));
        told.series.extend(kept);
        self.told = told;
    }
}

fn key(object: &McpServerHealth) -> Key {
    let meta = object.meta();
    Key::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}
