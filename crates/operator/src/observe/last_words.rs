//! Last words: the end of the log of a container that ended, and what the kubelet's Events say of a pod that does not
//! come up. Neither is in a pod's status, so both are asked for: once for each end, or for a pod that stays unready,
//! on their own, beside the tables. What comes wakes the server; a reconcile reads what is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod as KubernetesPod};
use kube::{
    Api, Client,
    api::{ListParams, LogParams},
};
use mcp_health_core::{
    last_words,
    mask::mask,
    signals::{Container, Exit, LastWords, Pod, Role},
};
use tokio::sync::Semaphore;

use super::{Stores, table::Key};

/// How long one answer may take. Nobody waits for it: a rule that wants it waits for less.
const DEADLINE: Duration = Duration::from_secs(2);
/// How many are asked for at the same time.
const AT_ONCE: usize = 4;
/// A container whose second end was heard, and that goes on to end, is not asked each time: what it says is the same.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// An end that is longer ago, seen by an operator that just started, is history.
const RECENT: SignedDuration = SignedDuration::from_mins(15);
/// When the Events of a pod that stays unready are asked for, after it became so.
const UNREADY: [SignedDuration; 3] =
    [SignedDuration::from_secs(10), SignedDuration::from_secs(30), SignedDuration::from_secs(90)];
/// How many lines of a log are asked for, and how many bytes: the last lines of the longest stack trace.
const LINES: (i64, i64) = (60, 64 * 1024);
/// How many Events are asked for, and how many are kept.
const EVENTS: (u32, usize) = (50, 6);

/// What was heard of one pod.
#[derive(Debug, Default)]
struct Heard {
    uid: String,
    containers: HashMap<String, Words>,
    troubles: Vec<(String, String)>,
    /// Since when it is unready, as far as its Events were asked for.
    unready: Option<Timestamp>,
}

/// What was heard of one container.
#[derive(Debug)]
struct Words {
    /// The end that was asked about.
    end: Timestamp,
    asked: Timestamp,
    /// How often it was asked about in a row.
    times: usize,
    said: LastWords,
}

/// Somebody to be asked about.
#[derive(Debug)]
pub(super) struct Ask {
    /// Who is to be woken.
    deployment: Key,
    pod: Key,
    uid: String,
    about: About,
}

#[derive(Debug)]
enum About {
    /// A container that ended, and whether its log is wanted beside the Events.
    End { container: String, log: bool },
    /// A pod that has been unready since then.
    Unready(Timestamp),
}

/// See the module.
#[derive(Default)]
pub struct Hearing {
    heard: Mutex<HashMap<Key, Heard>>,
    asks: OnceLock<UnboundedSender<Ask>>,
}

impl Hearing {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the questions go from now on.
    fn open(&self) -> UnboundedReceiver<Ask> {
        let (asks, asked) = unbounded();
        let _ = self.asks.set(asks);
        asked
    }

    fn ask(&self, ask: Ask) {
        if let Some(asks) = self.asks.get() {
            // Fails only when the operator is ending.
            let _ = asks.unbounded_send(ask);
        }
    }

    /// Adds to a pod of a server what was heard of it, and asks for what was not heard yet.
    pub fn add_to(&self, deployment: &Key, key: &Key, pod: &mut Pod, now: Timestamp) {
        let unready = !pod.ready && pod.counts() && pod.unschedulable.is_none();
        let mut all = self.lock();
        if !unready
            && !all.contains_key(key)
            && !pod.containers.iter().any(|one| recent_end(one, now).is_some())
        {
            return;
        }
        let heard = all.entry(key.clone()).or_default();
        if heard.uid != pod.uid {
            *heard = Heard { uid: pod.uid.clone(), ..Heard::default() };
        }
        let ask = |about: About| {
            let (deployment, pod, uid) = (deployment.clone(), key.clone(), pod.uid.clone());
            self.ask(Ask { deployment, pod, uid, about });
        };
        for container in &mut pod.containers {
            if let Some(exit) = recent_end(container, now)
                && heard.is_news(&container.name, exit.at, now)
            {
                let log = wants_log(exit);
                ask(About::End { container: container.name.clone(), log });
                heard.note_asked(&container.name, exit.at, now, log);
            }
            if let Some(known) = heard.containers.get(&container.name) {
                container.last_words = known.said.clone();
            }
        }
        if unready {
            let since = pod.ready_changed.max(pod.created);
            if heard.unready != Some(since) {
                heard.unready = Some(since);
                ask(About::Unready(since));
            }
            pod.troubles.clone_from(&heard.troubles);
        }
    }

    /// The pod is gone.
    pub fn forget(&self, pod: &Key) {
        self.lock().remove(pod);
    }

    /// Changes what was heard of a pod, if it is still the same. True where there is news.
    fn note(&self, ask: &Ask, note: impl FnOnce(&mut Heard) -> bool) -> bool {
        let mut all = self.lock();
        all.get_mut(&ask.pod).filter(|heard| heard.uid == ask.uid).is_some_and(note)
    }

    fn note_troubles(&self, ask: &Ask, troubles: Option<Vec<(String, String)>>) -> bool {
        let Some(troubles) = troubles else { return false };
        self.note(ask, |heard| std::mem::replace(&mut heard.troubles, troubles) != heard.troubles)
    }
}

impl Heard {
    /// The first end may have another reason than those that make a loop: the second is asked about at once.
    fn is_news(&self, container: &str, end: Timestamp, now: Timestamp) -> bool {
        self.containers.get(container).is_none_or(|known| {
            known.end != end && (known.times < 2 || now.duration_since(known.asked) >= PAUSE)
        })
    }

    /// From the third end on, the words of the one before are as good until the new ones are there.
    fn note_asked(&mut self, container: &str, end: Timestamp, now: Timestamp, log: bool) {
        let before = self.containers.remove(container);
        let before = before.filter(|known| now.duration_since(known.asked) < RECENT);
        let times = before.as_ref().map_or(0, |known| known.times) + 1;
        let said = match before.map(|known| known.said) {
            Some(LastWords::Lines(lines)) if log && times > 2 => LastWords::Lines(lines),
            _ if log => LastWords::Awaited(nearest_second(Timestamp::now())),
            _ => LastWords::NotAsked,
        };
        self.containers.insert(container.to_owned(), Words { end, asked: now, times, said });
    }
}

/// The end of a container that somebody may want to know more of.
fn recent_end(container: &Container, now: Timestamp) -> Option<&Exit> {
    let exit = container.last_exit.as_ref()?;
    // An init container that has done its work has not failed.
    let done = exit.code == 0 && container.role == Role::Init;
    (!done && now.duration_since(exit.at) < RECENT).then_some(exit)
}

/// Its termination message may have its last words already; and what never started said nothing.
fn wants_log(exit: &Exit) -> bool {
    exit.message.is_none() && !matches!(exit.reason.as_str(), "StartError" | "ContainerCannotRun")
}

/// Reconciles see whole seconds.
fn nearest_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second((at.as_millisecond() + 500).div_euclid(1000)).unwrap_or(at)
}

/// Asks whatever is asked, until the operator ends.
pub(super) async fn listen(stores: Arc<Stores>, client: Client) {
    let asked = stores.hearing.open();
    let places = Semaphore::new(AT_ONCE);
    asked.for_each_concurrent(None, |ask| answer(&stores, &client, &places, ask)).await;
}

async fn answer(stores: &Stores, client: &Client, places: &Semaphore, ask: Ask) {
    match &ask.about {
        About::End { container, log } => {
            let Ok(_place) = places.acquire().await else { return };
            let words = async { if *log { Some(words_of(client, &ask.pod, container).await) } else { None } };
            let (words, troubles) = futures::join!(words, events_of(client, &ask));
            let mut news = stores.hearing.note_troubles(&ask, troubles);
            if let Some(words) = words {
                news |= stores.hearing.note(&ask, |heard| {
                    let known = heard.containers.get_mut(container);
                    known.is_some_and(|known| std::mem::replace(&mut known.said, words) != known.said)
                });
            }
            if news {
                stores.wake_target(&ask.deployment);
            }
        }
        About::Unready(since) => {
            let now = Timestamp::now();
            let mut due =
                UNREADY.iter().filter_map(|after| since.checked_add(*after).ok()).collect::<Vec<_>>();
            // Of those that are past, once is enough.
            let past = due.iter().filter(|at| **at <= now).count();
            due.drain(..past.saturating_sub(1));
            for at in due {
                let pause = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
                tokio::time::sleep(pause).await;
                let row = stores.pods.get(&ask.pod);
                let still = row.is_some_and(|row| {
                    let pod = &row.pod;
                    pod.uid == ask.uid
                        && !pod.ready
                        && pod.counts()
                        && pod.ready_changed.max(pod.created) == *since
                });
                if !still {
                    return;
                }
                let Ok(_place) = places.acquire().await else { return };
                let troubles = events_of(client, &ask).await;
                if stores.hearing.note_troubles(&ask, troubles) {
                    stores.wake_target(&ask.deployment);
                }
            }
        }
    }
}

/// The last words of a container's last run.
async fn words_of(client: &Client, pod: &Key, container: &str) -> LastWords {
    let api = Api::<KubernetesPod>::namespaced(client.clone(), &pod.namespace);
    let params = |previous: bool| LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(LINES.0),
        limit_bytes: Some(LINES.1),
        ..LogParams::default()
    };
    let ask = async {
        // Between two runs there is no previous one yet; and once the pod is on its way out, the previous one is
        // another, which has been removed. Then the run that ended is the current: unless it was just replaced.
        let mut answer = api.logs(&pod.name, &params(true)).await;
        for previous in [false, true] {
            answer = match answer {
                Err(kube::Error::Api(status)) if status.code == 400 => {
                    api.logs(&pod.name, &params(previous)).await
                }
                Ok(log) if is_gone(&log) || log.trim().is_empty() => {
                    api.logs(&pod.name, &params(previous)).await
                }
                answer => return answer,
            };
        }
        answer
    };
    match tokio::time::timeout(DEADLINE, ask).await {
        Ok(Ok(log)) if is_gone(&log) => {
            LastWords::Missing("it was removed before it could be read".to_owned())
        }
        Ok(Ok(log)) => match last_words::of_log(&log) {
            lines if lines.is_empty() => LastWords::Missing("it wrote nothing before it ended".to_owned()),
            lines => LastWords::Lines(lines),
        },
        Ok(Err(error)) => LastWords::Missing(why(&error)),
        Err(_) => LastWords::Missing("its log did not arrive within 2s".to_owned()),
    }
}

/// Whether this is what the kubelet answers in a log's place, with status 200, where the run was removed.
fn is_gone(log: &str) -> bool {
    let answers = ["unable to retrieve container logs for ", "failed to try resolving symlinks in path "];
    answers.iter().any(|answer| log.starts_with(answer))
}

/// What the Events of a pod say of why it does not come up; `None` where they do not say.
async fn events_of(client: &Client, ask: &Ask) -> Option<Vec<(String, String)>> {
    let api = Api::<Event>::namespaced(client.clone(), &ask.pod.namespace);
    let params = ListParams::default().fields(&format!("involvedObject.uid={}", ask.uid)).limit(EVENTS.0);
    match tokio::time::timeout(DEADLINE, api.list(&params)).await {
        Ok(Ok(events)) => Some(troubles(events.items, Timestamp::now())),
        Ok(Err(error)) => {
            let (pod, why) = (&*ask.pod.name, why(&error));
            tracing::warn!(pod, why, "the Events of a pod cannot be listed");
            None
        }
        Err(_) => None,
    }
}

fn why(error: &kube::Error) -> String {
    mask(&crate::error::answer(error).map_or_else(|| error.to_string(), |status| status.message.clone()))
}

/// Those Events that tell why, each once, newest last.
fn troubles(events: Vec<Event>, now: Timestamp) -> Vec<(String, String)> {
    let mut told: Vec<(Timestamp, (String, String))> = events
        .into_iter()
        .filter_map(|event| {
            let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
            let seen = event.last_timestamp.as_ref().map(|at| at.0).or(series.map(|at| at.0));
            let seen = seen.or(event.event_time.as_ref().map(|at| at.0));
            let at = seen.or(event.metadata.creation_timestamp.as_ref().map(|at| at.0))?;
            let (reason, message) = (event.reason?, event.message?);
            (tells_why(&reason, &message) && now.duration_since(at) < RECENT)
                .then(|| (at, (reason, mask(message.trim()))))
        })
        .collect();
    told.sort();
    let mut kept: Vec<(String, String)> = Vec::new();
    for (_, one) in told {
        kept.retain(|known| *known != one);
        kept.push(one);
    }
    kept.drain(..kept.len().saturating_sub(EVENTS.1));
    kept
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
        // A pod that is deleted is killed as well.
        "Killing" => message.contains("probe"),
        // What the pod's status says in the same words.
        "BackOff" => !message.contains("restarting failed container"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_268_800 + second).unwrap()
    }

    fn pod(ends: &[i64]) -> Pod {
        let last = ends.last().map(|end| Exit {
            code: 1,
            reason: "Error".to_owned(),
            at: at(*end),
            started: None,
            message: None,
        });
        Pod {
            name: "a".to_owned(),
            uid: "u".to_owned(),
            revision: "r".to_owned(),
            created: at(0),
            deleting: false,
            finished: false,
            ready: true,
            ready_changed: at(0),
            was_ready: true,
            unschedulable: None,
            placement: None,
            address: None,
            containers: vec![Container {
                name: "server".to_owned(),
                role: Role::Main,
                restarts: i32::from(!ends.is_empty()),
                waiting: None,
                last_exit: last,
                recent_exits: ends.iter().map(|end| at(*end)).collect(),
                memory_limit: None,
                memory_request: None,
                last_words: LastWords::NotAsked,
            }],
            troubles: Vec::new(),
        }
    }

    struct Scene {
        hearing: Hearing,
        asked: UnboundedReceiver<Ask>,
    }

    impl Scene {
        fn new() -> Self {
            let hearing = Hearing::default();
            let asked = hearing.open();
            Self { hearing, asked }
        }

        /// The pod as a reconcile sees it, and what was asked.
        fn look(&mut self, mut pod: Pod, now: i64) -> (Pod, Vec<Ask>) {
            self.hearing.add_to(&Key::new("mcp", "server"), &Key::new("mcp", "a"), &mut pod, at(now));
            let mut asks = Vec::new();
            while let Ok(ask) = self.asked.try_recv() {
                asks.push(ask);
            }
            (pod, asks)
        }

        fn hear(&self, ask: &Ask, line: &str) {
            let words = LastWords::Lines(vec![line.to_owned()]);
            let heard = |heard: &mut Heard| {
                heard.containers.get_mut("server").unwrap().said = words;
                true
            };
            self.hearing.note(ask, heard);
        }
    }

    #[test]
    fn each_end_is_asked_about_once_and_from_the_third_on_not_in_quick_succession() {
        let mut scene = Scene::new();
        assert!(scene.look(pod(&[]), 0).1.is_empty(), "a healthy pod is left alone");
        let (seen, asks) = scene.look(pod(&[1]), 1);
        assert!(matches!(asks[..], [Ask { about: About::End { log: true, .. }, .. }]), "{asks:?}");
        assert!(matches!(seen.containers[0].last_words, LastWords::Awaited(_)));
        assert!(scene.look(pod(&[1]), 2).1.is_empty(), "asked already");
        scene.hear(&asks[0], "boom");
        let (seen, asks) = scene.look(pod(&[1, 3]), 3);
        assert_eq!(asks.len(), 1, "what makes a loop may have another reason than what began it");
        assert!(matches!(seen.containers[0].last_words, LastWords::Awaited(_)));
        scene.hear(&asks[0], "no database");
        let old = LastWords::Lines(vec!["no database".to_owned()]);
        let (seen, asks) = scene.look(pod(&[1, 3, 9]), 9);
        assert!(asks.is_empty(), "too soon after the last");
        assert_eq!(seen.containers[0].last_words, old);
        let (seen, asks) = scene.look(pod(&[1, 3, 9, 13]), 13);
        assert_eq!(asks.len(), 1);
        assert_eq!(seen.containers[0].last_words, old, "as good until then");
    }

    #[test]
    fn what_ended_long_ago_or_did_its_work_or_has_told_already_is_not_asked_for_its_log() {
        assert!(Scene::new().look(pod(&[1]), 1_000_000).1.is_empty());
        let mut done = pod(&[1]);
        done.containers[0].role = Role::Init;
        done.containers[0].last_exit.as_mut().unwrap().code = 0;
        assert!(Scene::new().look(done, 2).1.is_empty());
        let mut told = pod(&[1]);
        told.containers[0].last_exit.as_mut().unwrap().message = Some("boom".to_owned());
        let (seen, asks) = Scene::new().look(told, 2);
        assert!(matches!(asks[..], [Ask { about: About::End { log: false, .. }, .. }]), "{asks:?}");
        assert_eq!(seen.containers[0].last_words, LastWords::NotAsked);
    }

    #[test]
    fn what_was_heard_goes_with_the_pod_and_never_to_another_of_its_name() {
        let mut scene = Scene::new();
        let (_, asks) = scene.look(pod(&[1]), 1);
        let mut other = pod(&[2]);
        other.uid = "v".to_owned();
        scene.look(other.clone(), 2);
        scene.hearing.note(&asks[0], |_| panic!("it is another pod"));
        assert!(matches!(scene.look(other, 3).0.containers[0].last_words, LastWords::Awaited(_)));
        scene.hearing.forget(&Key::new("mcp", "a"));
        assert!(scene.hearing.lock().is_empty());
    }

    #[test]
    fn an_unready_pod_is_asked_about_once_for_each_time_that_it_is_so() {
        let mut scene = Scene::new();
        let unready = |since: i64| Pod { ready: false, ready_changed: at(since), ..pod(&[]) };
        let (_, asks) = scene.look(unready(0), 1);
        assert!(matches!(asks[..], [Ask { about: About::Unready(since), .. }] if since == at(0)), "{asks:?}");
        assert!(scene.look(unready(0), 5).1.is_empty());
        let troubles = vec![("FailedMount".to_owned(), "configmap \"x\" not found".to_owned())];
        assert!(scene.hearing.note_troubles(&asks[0], Some(troubles.clone())), "news");
        assert!(!scene.hearing.note_troubles(&asks[0], Some(troubles.clone())), "no news");
        assert_eq!(scene.look(unready(0), 12).0.troubles, troubles);
        assert!(scene.look(Pod { ready: true, ..unready(0) }, 13).0.troubles.is_empty());
        assert_eq!(scene.look(unready(20), 20).1.len(), 1);
    }

    #[test]
    fn of_the_events_those_are_kept_that_tell_why_each_once_and_masked() {
        let event = |second: i64, reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {}, "reason": reason, "message": message,
                "lastTimestamp": at(second).to_string(),
            }))
            .unwrap()
        };
        let mut events = vec![
            event(5, "Killing", "Container server failed startup probe, will be restarted"),
            event(1, "Scheduled", "Successfully assigned"),
            event(3, "Unhealthy", "Readiness probe failed: postgres://mcp:s3cret@db"),
            event(2, "Unhealthy", "Readiness probe failed: postgres://mcp:s3cret@db"),
            event(6, "Killing", "Stopping container server"),
            event(6, "BackOff", "Back-off restarting failed container server in pod a"),
            event(-2000, "FailedMount", "long ago"),
        ];
        let kept = troubles(events.clone(), at(10));
        let kept: Vec<_> = kept.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(
            kept,
            [
                "Readiness probe failed: postgres://***@db",
                "Container server failed startup probe, will be restarted"
            ]
        );
        events.extend((0..20).map(|second| event(second, "Failed", &format!("Error {second}"))));
        assert_eq!(troubles(events, at(30)).len(), EVENTS.1);
    }

    #[test]
    fn what_the_kubelet_says_of_a_removed_run_is_not_taken_for_its_log() {
        assert!(is_gone("unable to retrieve container logs for containerd://1b5877bbe035"));
        assert!(is_gone("failed to try resolving symlinks in path \"/var/log/pods/x/server/0.log\": lstat"));
        assert!(!is_gone("KeyError: 'DATABASE_URL'"));
    }
}
