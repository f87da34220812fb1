//! The end of the log of a container that ended. It is not in a pod's status, so it is fetched: once for each
//! end, beside the tables, from a bounded queue. What comes wakes the server; a reconcile reads what is
//! there.

pub mod fetch;
mod queue;
mod run;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use mcp_health_core::{
    last_words,
    mask::mask,
    signals::{Container, Exit, LastWords, Pod, Role},
};

use self::{
    queue::{Ask, Queue},
    run::{Run, is_gone},
};
use super::table::Key;

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The pause before the one further try of what failed for a moment.
const AGAIN: Duration = Duration::from_secs(1);
/// A container whose second end was heard, and that goes on to end, is not asked each time: what it says is
/// the same.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// An end that is longer ago, seen by an operator that just started, is history.
const RECENT: SignedDuration = SignedDuration::from_mins(15);
/// A pod that is ready for so long does not loop any more: why it ended before is moot.
const STEADY: SignedDuration = SignedDuration::from_secs(30);

/// What was heard of one pod.
#[derive(Debug, Default)]
struct Heard {
    uid: String,
    containers: HashMap<String, Words>,
}

/// What was heard of one container.
#[derive(Debug)]
struct Words {
    /// The run that was asked about.
    run: Run,
    asked: Timestamp,
    /// How often it was asked about in a row.
    times: usize,
    said: LastWords,
    /// The request was dropped because too many waited.
    dropped: bool,
}

/// See the module.
#[derive(Default)]
pub struct Hearing {
    heard: Mutex<HashMap<Key, Heard>>,
    queue: Queue,
}

impl Hearing {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to a pod what was heard of it.
    pub fn add_to(&self, key: &Key, pod: &mut Pod) {
        let all = self.lock();
        let Some(heard) = all.get(key).filter(|heard| heard.uid == pod.uid) else { return };
        for container in &mut pod.containers {
            if let Some(known) = heard.containers.get(&container.name) {
                container.last_words = known.said.clone();
            }
        }
    }

    /// Asks for what was not heard yet of a pod of a server.
    pub fn ask(&self, deployment: &Key, key: &Key, pod: &Pod, now: Timestamp) {
        let mut all = self.lock();
        if !all.contains_key(key) && !pod.containers.iter().any(|one| recent_end(one, now).is_some()) {
            return;
        }
        let heard = all.entry(key.clone()).or_default();
        if heard.uid != pod.uid {
            *heard = Heard { uid: pod.uid.clone(), ..Heard::default() };
        }
        let mut asks = Vec::new();
        for container in &pod.containers {
            if let Some(exit) = recent_end(container, now)
                && let run = run_of(container, exit)
                && heard.is_news(&container.name, run, now)
            {
                let log = wants_log(exit);
                let since = heard.note_asked(&container.name, run, now, log);
                asks.extend(log.then(|| Ask {
                    deployment: deployment.clone(),
                    pod: key.clone(),
                    uid: pod.uid.clone(),
                    container: container.name.clone(),
                    run,
                    unready: !pod.ready,
                    since,
                    order: 0,
                }));
            }
        }
        for ask in asks {
            let Some(dropped) = self.queue.push(ask) else { continue };
            let of_pod = all.get_mut(&dropped.pod).filter(|heard| heard.uid == dropped.uid);
            if let Some(words) = of_pod.and_then(|heard| heard.containers.get_mut(&dropped.container)) {
                words.dropped = true;
            }
        }
    }

    /// The pod is gone.
    pub fn forget(&self, pod: &Key) {
        self.lock().remove(pod);
    }

    /// Notes what came of a request, if its pod is still the same. True where that is new.
    fn note(&self, ask: &Ask, words: LastWords) -> bool {
        let mut all = self.lock();
        let heard = all.get_mut(&ask.pod).filter(|heard| heard.uid == ask.uid);
        let known = heard.and_then(|heard| heard.containers.get_mut(&ask.container));
        known.is_some_and(|known| std::mem::replace(&mut known.said, words) != known.said)
    }
}

impl Heard {
    /// The first end may have another reason than those that make a loop: the second is asked about at once.
    fn is_news(&self, container: &str, run: Run, now: Timestamp) -> bool {
        self.containers.get(container).is_none_or(|known| {
            let is_other =
                !known.run.is(run) && (known.times < 2 || now.duration_since(known.asked) >= PAUSE);
            is_other || known.dropped && matches!(known.said, LastWords::Awaited(_))
        })
    }

    /// Notes that a log is asked for, and returns since when it is awaited. From the third end on, what was
    /// heard of the one before is as good until the new log is there; and what is awaited still is awaited
    /// since the first request.
    fn note_asked(&mut self, container: &str, run: Run, now: Timestamp, log: bool) -> Timestamp {
        let before = self.containers.remove(container);
        let before = before.filter(|known| now.duration_since(known.asked) < RECENT);
        let again = before.as_ref().is_some_and(|known| known.run.is(run));
        let times = before.as_ref().map_or(0, |known| known.times) + usize::from(!again);
        let fresh = nearest_second(Timestamp::now());
        let (since, said) = match before.map(|known| known.said) {
            _ if !log => (fresh, LastWords::NotAsked),
            Some(LastWords::Awaited(since)) => (since, LastWords::Awaited(since)),
            Some(said @ (LastWords::Lines(_) | LastWords::Missing(_))) if times > 2 => (fresh, said),
            _ => (fresh, LastWords::Awaited(fresh)),
        };
        self.containers.insert(container.to_owned(), Words { run, asked: now, times, said, dropped: false });
        since
    }
}

/// The end of a container that somebody may want to know more of.
fn recent_end(container: &Container, now: Timestamp) -> Option<&Exit> {
    let exit = container.last_exit.as_ref()?;
    // An init container that has done its work has not failed.
    let done = exit.code == 0 && container.role == Role::Init;
    (!done && now.duration_since(exit.at) < RECENT).then_some(exit)
}

fn run_of(container: &Container, exit: &Exit) -> Run {
    let follows_another = container.ended && container.restarts > 0;
    Run { started: exit.started, end: exit.at, follows_another }
}

/// Its termination message may have its last words already; and what never started said nothing.
fn wants_log(exit: &Exit) -> bool {
    exit.message.is_none() && !matches!(exit.reason.as_str(), "StartError" | "ContainerCannotRun")
}

/// Reconciles see whole seconds.
fn nearest_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second((at.as_millisecond() + 500).div_euclid(1000)).unwrap_or(at)
}

/// The last lines of a container's last run.
async fn words_of(client: &Client, ask: &Ask) -> LastWords {
    let fetch = || {
        tokio::time::timeout(
            DEADLINE,
            run::log_of(client, (&ask.pod.namespace, &ask.pod.name), &ask.container, ask.run),
        )
    };
    let mut answer = fetch().await;
    if is_momentary(&answer) {
        tokio::time::sleep(AGAIN).await;
        answer = fetch().await;
    }
    match answer {
        Ok(Ok(log)) if is_gone(&log) => {
            LastWords::Missing("it was removed before it could be read".to_owned())
        }
        Ok(Ok(log)) => match last_words::of_log(&log) {
            lines if lines.is_empty() => LastWords::Missing("it wrote nothing before it ended".to_owned()),
            lines => LastWords::Lines(lines),
        },
        Ok(Err(error)) => LastWords::Missing(why(&error)),
        Err(_) => LastWords::Missing(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}

/// Whether a further try may come to something else: no answer, a server error, too many requests.
fn is_momentary<T, E>(answer: &Result<Result<T, kube::Error>, E>) -> bool {
    match answer {
        Ok(Ok(_)) => false,
        Ok(Err(error)) => {
            crate::error::answer(error).is_none_or(|status| status.code == 429 || status.code >= 500)
        }
        Err(_) => true,
    }
}

fn why(error: &kube::Error) -> String {
    mask(&crate::error::answer(error).map_or_else(|| error.to_string(), |status| status.message.clone()))
}
