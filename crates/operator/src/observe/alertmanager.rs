//! Alerts that fire on targets, as an Alertmanager tells: one GET for all servers whenever the clock ticks.
//! An alert is about a server where its labels name the namespace and a pod, a Service or the Deployment of
//! it.
//!
//! Only an alert that begins or ends wakes anybody; what it says may change with every number in it.

pub mod poll;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Uri;
use jiff::{SignedDuration, Timestamp};
use mcp_health_core::{
    mask::mask,
    signals::{Alert, Reading},
    words,
};
use reqwest::Client;
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::timeout;

use super::list_watch::{Pace, is_recent};
use crate::web::{self, Unread};

/// What is asked for: what fires, and nobody has silenced.
const QUESTION: &str = "/api/v2/alerts?active=true&silenced=false&inhibited=false";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 8 << 20;
/// The most of a name or a label that is kept, and of what an alert says, in bytes.
const NAME: usize = 100;
const SUMMARY: usize = 300;

/// See the module.
pub struct Alerts {
    url: Uri,
    period: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_namespace: BTreeMap<String, Vec<Labelled>>,
    answered: Option<Timestamp>,
    /// Why there is no answer at this moment.
    failing: Option<String>,
}

/// An alert, and what its labels say it is about.
#[derive(Clone, Debug)]
struct Labelled {
    pod: Option<String>,
    service: Option<String>,
    deployment: Option<String>,
    alert: Alert,
}

impl Alerts {
    /// Nothing was asked yet.
    pub fn new(url: Uri, period: Duration) -> Self {
        Self { url, period: period.max(Duration::from_secs(1)), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The alerts about a server, which has these pods and Services.
    pub fn reading(
        &self,
        namespace: &str,
        deployment: &str,
        (pods, services): (&[&str], &[&str]),
        now: Timestamp,
    ) -> Reading<Vec<Alert>> {
        let inner = self.lock();
        let is_about = |one: &&Labelled| {
            one.deployment.as_deref() == Some(deployment)
                || one.pod.as_deref().is_some_and(|name| pods.contains(&name))
                || one.service.as_deref().is_some_and(|name| services.contains(&name))
        };
        let all = inner.by_namespace.get(namespace).into_iter().flatten();
        let alerts = all.filter(is_about).map(|one| one.alert.clone()).collect();
        match (inner.answered, &inner.failing) {
            // Not asked yet.
            (None, None) => Reading::Off,
            (None, Some(why)) => Reading::Unavailable(why.clone()),
            (Some(at), _) if is_recent(at, now, self.stale_after()) => Reading::Fresh(alerts),
            (Some(at), _) => Reading::Stale { value: alerts, at },
        }
    }

    fn stale_after(&self) -> SignedDuration {
        let span = Pace::of_watches(1).stale_after_polls(self.period, PATIENCE);
        SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
    }

    /// Takes an answer; returns the namespaces in which an alert has begun or ended.
    fn take(&self, answer: BTreeMap<String, Vec<Labelled>>, now: Timestamp) -> Vec<String> {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.by_namespace, answer);
        inner.answered = Some(now);
        inner.failing = None;
        let names = |all: &BTreeMap<String, Vec<Labelled>>, namespace: &str| -> BTreeSet<String> {
            all.get(namespace).into_iter().flatten().map(|one| one.alert.fingerprint.clone()).collect()
        };
        let all: BTreeSet<&String> = before.keys().chain(inner.by_namespace.keys()).collect();
        let changed = all.into_iter().filter(|one| names(&before, one) != names(&inner.by_namespace, one));
        changed.cloned().collect()
    }

    /// Takes a failure. The first reason stands until there is an answer; returns whether this is it.
    fn fail(&self, why: &str) -> bool {
        let mut inner = self.lock();
        let is_news = inner.failing.is_none();
        inner.failing.get_or_insert_with(|| why.to_owned());
        is_news
    }

    /// Whether the last answer is one, and still tells of now.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let inner = self.lock();
        inner.failing.is_none() && inner.answered.is_some_and(|at| is_recent(at, now, self.stale_after()))
    }
}

/// What fires, by namespace; or why that is not known, as a sentence.
async fn ask(
    client: &Client,
    url: &Uri,
    patience: Duration,
) -> Result<BTreeMap<String, Vec<Labelled>>, String> {
    let late = || format!("Alertmanager has not answered within {} s", patience.as_secs());
    let body = timeout(patience, get(client, url)).await.unwrap_or_else(|_| Err(late()))?;
    read(&body).ok_or_else(|| "what Alertmanager answers is no list of alerts".to_owned())
}

async fn get(client: &Client, url: &Uri) -> Result<Vec<u8>, String> {
    let base = url.to_string();
    let request = client.get(format!("{}{QUESTION}", base.trim_end_matches('/')));
    let answer = request.send().await;
    let answer = answer.map_err(|error| format!("Alertmanager: {}", web::refusal(&error)))?;
    if !answer.status().is_success() {
        return Err(format!("Alertmanager answers {}", answer.status().as_u16()));
    }
    web::body(answer, LONGEST).await.map_err(|unread| match unread {
        Unread::Broken => "Alertmanager: the connection broke off".to_owned(),
        Unread::TooLong => format!("Alertmanager's answer is longer than {LONGEST} bytes"),
    })
}

/// One that cannot be read must not keep the others from being seen.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient {
    Alert(Box<Wire>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    fingerprint: String,
    labels: Labels,
    #[serde(default)]
    annotations: Annotations,
    starts_at: Timestamp,
}

#[derive(Deserialize)]
struct Labels {
    alertname: String,
    severity: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    service: Option<String>,
    deployment: Option<String>,
}

#[derive(Deserialize, Default)]
struct Annotations {
    summary: Option<String>,
    description: Option<String>,
}

/// The alerts that name a namespace and something in it; `None` where this is no list, or nothing in it is an
/// alert.
fn read(body: &[u8]) -> Option<BTreeMap<String, Vec<Labelled>>> {
    let all: Vec<Lenient> = serde_json::from_slice(body).ok()?;
    let mut seen = BTreeMap::<String, Vec<Labelled>>::new();
    let mut is_any = all.is_empty();
    for one in all {
        let Lenient::Alert(wire) = one else { continue };
        is_any = true;
        let Wire { fingerprint, labels, annotations, starts_at } = *wire;
        let Labels { alertname, severity, namespace, pod, service, deployment } = labels;
        let Some(namespace) = namespace else { continue };
        if pod.is_none() && service.is_none() && deployment.is_none() {
            continue;
        }
        let said = annotations.summary.or(annotations.description);
        let alert = Alert {
            name: shown(&alertname, NAME),
            severity: severity.map(|label| shown(&label, NAME)),
            summary: said.map(|said| shown(&said, SUMMARY)).filter(|said| !said.is_empty()),
            since: starts_at,
            fingerprint,
        };
        seen.entry(namespace).or_default().push(Labelled { pod, service, deployment, alert });
    }
    is_any.then_some(seen)
}

/// In one line, without credentials, and not longer than that.
fn shown(text: &str, most: usize) -> String {
    words::shorten(&mask(&text.split_whitespace().collect::<Vec<_>>().join(" ")), most)
}

#[cfg(test)]
mod tests;
