//! What Events say of the pods of targets: one watch of the Events of pods in each scope. Only rows of
//! targets' pods are kept, a few for each pod, and none for longer than they tell of now.

#[cfg(test)]
mod tests;
pub mod watch;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use mcp_health_core::{mask::mask, words};
use serde::Deserialize;
use tokio::time::Instant;

use super::table::Key;

/// Which Events are watched: those of pods, without the five that each normal start of a pod makes. That a
/// probe has a container killed is an Event of type Normal, so the type cannot select.
const FIELDS: &str = "involvedObject.kind=Pod,reason!=Scheduled,reason!=Pulling,reason!=Pulled,reason!=Created,\
                      reason!=Started";
/// What was said longer ago tells nothing of now.
const RECENT: SignedDuration = SignedDuration::from_mins(15);
/// The most rows of one pod, and of all pods.
const MOST: (usize, usize) = (12, 4096);
/// How many of a pod's are told, each once.
const TOLD: usize = 6;
/// The longest message that is kept, in bytes.
const LONGEST: usize = 1024;
/// An Event may come before its pod is seen; after so long without it, it is of a pod that is not a target's.
const UNSEEN: Duration = Duration::from_mins(1);
/// How often rows are looked through for those that are over.
const SWEEP: Duration = Duration::from_secs(30);
/// Events of earlier are listed again for a target that is new, so long after it and so long after the last
/// list.
const FOR_NEW_TARGETS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// So much of a Deployment's name is in the names of its pods, however long it is.
const STEM: usize = 40;

/// An Event as it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventWire {
    metadata: EventMeta,
    involved_object: Involved,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventMeta {
    name: String,
    creation_timestamp: Option<Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Involved {
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Timestamp>,
}

#[derive(Debug)]
struct Row {
    /// The Event's name: one that is repeated is changed, not made again.
    event: String,
    at: Timestamp,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct OfPod {
    pod: Key,
    rows: Vec<Row>,
    arrived: Instant,
}

#[derive(Default)]
struct Inner {
    /// By the pod's uid.
    pods: HashMap<String, OfPod>,
    rows: usize,
    swept: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub struct PodEvents {
    inner: Mutex<Inner>,
}

impl PodEvents {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What Events say of why a pod does not come up, as reason and message, each once, newest last.
    pub fn of(&self, uid: &str, now: Timestamp) -> Vec<(String, String)> {
        self.lock().pods.get(uid).map(|pod| pod.told(now)).unwrap_or_default()
    }

    /// Notes an Event of a pod. True where it says something new.
    fn note(&self, event: EventWire, now: Timestamp) -> bool {
        let seen = event.last_timestamp.or(event.series.and_then(|series| series.last_observed_time));
        let Some(at) = seen.or(event.event_time).or(event.metadata.creation_timestamp) else { return false };
        let row = Row {
            event: event.metadata.name,
            at,
            reason: event.reason,
            message: words::shorten(&mask(event.message.trim()), LONGEST),
        };
        let involved = event.involved_object;
        let mut inner = self.lock();
        let pod = inner.pods.entry(involved.uid).or_insert_with(|| OfPod {
            pod: Key::new(&involved.namespace, &involved.name),
            rows: Vec::new(),
            arrived: Instant::now(),
        });
        let (before, count) = (pod.told(now), pod.rows.len());
        pod.rows.retain(|known| known.event != row.event);
        pod.rows.push(row);
        pod.rows.sort_by_key(|row| row.at);
        let surplus = pod.rows.len().saturating_sub(MOST.0);
        pod.rows.drain(..surplus);
        let (is_news, kept) = (pod.told(now) != before, pod.rows.len());
        inner.rows = inner.rows + kept - count;
        inner.bound();
        is_news
    }

    /// Drops what is over, and what `is_kept` does not want: it is given the pod, its uid, and since when it
    /// is known.
    fn sweep(&self, now: Timestamp, is_kept: impl Fn(&Key, &str, Instant) -> bool) {
        let mut inner = self.lock();
        if inner.swept.is_some_and(|swept| swept.elapsed() < SWEEP) {
            return;
        }
        inner.swept = Some(Instant::now());
        inner.pods.retain(|uid, pod| {
            pod.rows.retain(|row| now.duration_since(row.at) < RECENT);
            !pod.rows.is_empty() && is_kept(&pod.pod, uid, pod.arrived)
        });
        inner.rows = inner.pods.values().map(|pod| pod.rows.len()).sum();
    }

    /// How many rows there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().rows
    }
}

impl Inner {
    /// The pod whose newest row is the oldest goes, while there are too many.
    fn bound(&mut self) {
        while self.rows > MOST.1 {
            let newest = |pod: &OfPod| pod.rows.last().map(|row| row.at);
            let oldest = self.pods.iter().min_by_key(|(_, pod)| newest(pod)).map(|(uid, _)| uid.clone());
            let Some(gone) = oldest.and_then(|uid| self.pods.remove(&uid)) else { return };
            self.rows -= gone.rows.len();
        }
    }
}

impl OfPod {
    fn told(&self, now: Timestamp) -> Vec<(String, String)> {
        let mut told: Vec<(String, String)> = Vec::new();
        for row in self.rows.iter().filter(|row| now.duration_since(row.at) < RECENT) {
            let one = (row.reason.clone(), row.message.clone());
            told.retain(|known| *known != one);
            told.push(one);
        }
        told.drain(..told.len().saturating_sub(TOLD));
        told
    }
}

fn tells_why(reason: &str, message: &str) -> bool {
    match reason {
        "Unhealthy"
        | "Failed"
        | "FailedMount"
        | "FailedAttachVolume"
        | "FailedMapVolume"
        | "InspectFailed"
        | "ErrImageNeverPull"
        | "FailedCreatePodSandBox"
        | "FailedPostStartHook"
        | "FailedSync" => true,
        // A pod that ends normally is "stopped".
        "Killing" => message.contains(" failed "),
        // What the pod's status says in the same words.
        "BackOff" => !message.contains("restarting failed container"),
        _ => false,
    }
}
