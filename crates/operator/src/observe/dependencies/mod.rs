//! What servers depend on: whether it answers, and what is worth saying of it. Asked by the [rounds](round)
//! of the task that asks servers themselves, and PostgreSQL by a [source of its own](super::postgres); what
//! came of it is in memory, by object, and each look at a server reads it here.
//!
//! What never answered may have a wall in between; and whoever finds that there is a way to nothing at all
//! has lost its own: neither is evidence (DESIGN §10). That something has answered is kept in the status.

mod question;
mod reading;
pub mod round;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use dependency_probe::Asked;
use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{McpServerHealth, NamedDigest, PostgresSignal};
use mcp_health_core::{
    dependencies::{declared, is_known},
    digest,
    signals::{AnswersSince, CheckStep, DEPENDENCY_KEPT, Dependency, LEANING_NAMED, Reading},
};

use super::{list_watch::is_recent, table::Key};

/// What is said while the operator's own way is at fault.
const NO_WAY: &str = "nothing that any server depends on can be reached: the operator's own network";
/// Of at least so many servers, and so many places, none must be reachable.
const ALL: (usize, usize) = (2, 3);
/// Digits of a digest.
const DIGITS: usize = 6;

/// What is asked, as far as people and other servers may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// For people: `GET http://external-api.mcp:8080/health`. Without credentials.
    pub words: String,
    /// Where it is: `external-api.mcp:8080`.
    pub place: String,
    /// All that makes it another question when it changes, without credentials.
    pub question: String,
}

/// What asking came to; `Err` where it may not be asked, with the reason for people.
pub type Came = Result<Asked, String>;

/// What one dependency of one object came to.
#[derive(Clone, Debug, Default)]
struct Seen(Dependency);

#[derive(Default)]
struct Inner {
    by_object: HashMap<Key, BTreeMap<String, Seen>>,
    /// By place: the objects whose servers lean on it.
    leaning: HashMap<String, BTreeSet<Key>>,
}

/// See the module.
#[derive(Default)]
pub struct Dependencies {
    inner: Mutex<Inner>,
    /// Nothing can be reached: that is the operator's own way.
    no_way: AtomicBool,
}

/// What has answered this operator or one before it, by the status of an object.
fn answered(object: Option<&McpServerHealth>) -> &[NamedDigest] {
    let target = object.and_then(|object| object.status.as_ref()?.target.as_ref());
    target.map(|target| target.answered_dependencies.as_slice()).unwrap_or_default()
}

impl Seen {
    /// Notes what it came to. True where the rules may make something else of it.
    fn note(&mut self, name: &str, at: Timestamp, about: Option<About>, came: Came) -> bool {
        let Self(seen) = self;
        name.clone_into(&mut seen.name);
        if let Some(about) = about {
            let known_as = Some(NamedDigest::new(name, digest::short(about.question.as_bytes(), DIGITS)));
            if seen.known_as != known_as {
                // What was answered until then says nothing of it.
                *seen = Dependency { name: name.to_owned(), known_as, ..Dependency::default() };
            }
            (seen.words, seen.place) = (about.words, about.place);
        }
        let asked = match came {
            Ok(asked) => asked,
            Err(why) => {
                seen.results.clear();
                seen.answers_since = None;
                return seen.barred.replace(why.clone()) != Some(why);
            }
        };
        if seen.results.last().is_some_and(|(last, _)| *last >= at) {
            // An answer that is shared, and known already.
            return false;
        }
        let Asked { result, certificate, remarks } = asked;
        let is_news = seen.barred.take().is_some()
            || seen.results.is_empty()
            || result.is_err()
            || seen.results.iter().any(|(_, before)| before.is_err())
            || certificate.is_some() && certificate != seen.certificate;
        seen.ever_answered |= result.is_ok();
        let had_failed = seen.failure().is_some();
        seen.answers_since = AnswersSince::after(seen.answers_since, at, result.is_ok(), had_failed);
        seen.certificate = certificate.or_else(|| seen.certificate.take());
        seen.remarks = remarks;
        let surplus = (seen.results.len() + 1).saturating_sub(DEPENDENCY_KEPT);
        seen.results.drain(..surplus);
        seen.results.push((at, result));
        is_news
    }
}

impl Inner {
    /// Changes what is known of a dependency, and keeps to who leans on what.
    fn with<T>(&mut self, key: &Key, name: &str, change: impl FnOnce(&mut Seen) -> T) -> T {
        let seen = self.by_object.entry(key.clone()).or_default().entry(name.to_owned()).or_default();
        let before = seen.0.place.clone();
        let came = change(seen);
        let place = seen.0.place.clone();
        if place != before {
            let mut others = self.by_object.get(key).into_iter().flat_map(BTreeMap::values);
            if !others.any(|Seen(one)| one.place == before) {
                self.leave(&before, key);
            }
            if !place.is_empty() {
                self.leaning.entry(place).or_default().insert(key.clone());
            }
        }
        came
    }

    fn leave(&mut self, place: &str, key: &Key) {
        if let Some(leaning) = self.leaning.get_mut(place) {
            leaning.remove(key);
            if leaning.is_empty() {
                self.leaning.remove(place);
            }
        }
    }

    fn forget(&mut self, key: &Key, is_left: impl Fn(&str) -> bool) {
        let Some(all) = self.by_object.get_mut(key) else { return };
        let gone: Vec<Seen> = all.extract_if(.., |name, _| !is_left(name)).map(|(_, seen)| seen).collect();
        let left: BTreeSet<String> = all.values().map(|Seen(one)| one.place.clone()).collect();
        if all.is_empty() {
            self.by_object.remove(key);
        }
        for Seen(one) in gone.iter().filter(|Seen(one)| !left.contains(&one.place)) {
            self.leave(&one.place, key);
        }
    }
}

impl Dependencies {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a dependency of an object came to at this moment. `remembered` is what its status says of
    /// what has answered before. True where the rules may make something else of it.
    fn note(
        &self,
        key: &Key,
        name: &str,
        at: Timestamp,
        (about, came): (Option<About>, Came),
        remembered: &[NamedDigest],
    ) -> bool {
        let mut inner = self.lock();
        inner.with(key, name, |seen| {
            let is_news = seen.note(name, at, about, came);
            seen.0.ever_answered |= is_known(remembered, &seen.0);
            is_news
        })
    }

    /// What another source knows of a dependency, as a whole.
    pub fn take_in(&self, key: &Key, dependency: Dependency) {
        let name = dependency.name.clone();
        self.lock().with(key, &name, |seen| *seen = Seen(dependency));
    }

    /// Forgets what is not declared any more.
    pub fn keep_to(&self, key: &Key, object: &McpServerHealth) {
        self.lock().forget(key, |name| declared(&object.spec).any(|one| one == name));
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, object: &Key) {
        self.lock().forget(object, |_| false);
    }

    /// Looks whether the operator's own way is at fault: no name resolves; or there is no way to any place,
    /// nor to any server. True where that is news.
    pub fn look_at_own_way(&self, servers_are_reached: bool) -> bool {
        let inner = self.lock();
        let (mut servers, mut places) = (0, BTreeSet::new());
        let (mut no_way, mut no_name) = (true, true);
        for all in inner.by_object.values() {
            let mut asked = all.values().filter(|Seen(one)| one.ever_answered).peekable();
            servers += usize::from(asked.peek().is_some());
            for Seen(one) in asked {
                let step = one.failure().map(|failure| failure.step);
                no_name &= step == Some(CheckStep::Name);
                no_way &= matches!(step, Some(CheckStep::Name | CheckStep::Route));
                places.insert(one.place.as_str());
            }
        }
        let lost = no_name || (no_way && !servers_are_reached);
        let lost = lost && servers >= ALL.0 && places.len() >= ALL.1;
        let is_news = self.no_way.swap(lost, Relaxed) != lost;
        if is_news && lost {
            tracing::warn!(servers, places = places.len(), "{NO_WAY}; it is no evidence until then");
        }
        is_news
    }

    /// Whether the status of an object has yet to be told what has answered.
    pub fn is_to_be_kept(&self, key: &Key, object: &McpServerHealth) -> bool {
        let inner = self.lock();
        let Some(all) = inner.by_object.get(key) else { return false };
        let Some(target) = object.status.as_ref().and_then(|status| status.target.as_ref()) else {
            return false;
        };
        let mut answered =
            all.values().filter(|Seen(one)| one.ever_answered).filter_map(|Seen(one)| one.known_as.as_ref());
        answered.any(|known_as| !target.answered_dependencies.contains(known_as))
    }

    /// By place, until when the certificate there holds.
    pub fn certificates(&self) -> BTreeMap<String, Timestamp> {
        let inner = self.lock();
        let all = inner.by_object.values().flat_map(BTreeMap::values);
        let certified =
            all.filter_map(|Seen(one)| Some((one.place.clone(), one.certificate.as_ref()?.not_after)));
        certified.filter(|(place, _)| !place.is_empty()).collect()
    }

    /// What is known of all that an object declares; of its database, what is given.
    fn reading(&self, object: &McpServerHealth, database: Option<&Dependency>) -> Reading<Vec<Dependency>> {
        if declared(&object.spec).next().is_none() {
            return Reading::Off;
        }
        if self.no_way.load(Relaxed) {
            return Reading::Unavailable(NO_WAY.to_owned());
        }
        let (key, inner) = (Key::of(object), self.lock());
        let remembered = answered(Some(object));
        let view = |name: &str| {
            let of_source = database.filter(|database| database.name == name);
            let known = || Some(&inner.by_object.get(&key)?.get(name)?.0);
            let Some(seen) = of_source.or_else(known) else {
                return Dependency { name: name.to_owned(), ..Dependency::default() };
            };
            let mut view = seen.clone();
            view.ever_answered |= is_known(remembered, &view);
            if view.is_down() {
                let leaning = inner.leaning.get(&view.place).into_iter().flatten();
                let mut others: Vec<&Key> = leaning.filter(|other| **other != key).collect();
                view.others = others.len();
                // Those of the same namespace first.
                others.sort_by_key(|other| (other.namespace != key.namespace, *other));
                view.shared_with = others
                    .into_iter()
                    .take(LEANING_NAMED)
                    .map(|other| {
                        let is_near = other.namespace == key.namespace;
                        let far = || format!("{}/{}", other.namespace, other.name);
                        if is_near { other.name.to_string() } else { far() }
                    })
                    .collect();
            }
            view
        };
        Reading::Fresh(declared(&object.spec).map(view).collect())
    }
}

/// Two rounds, and the longest time that an answer may take.
const STALE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// The same, worth what its age allows: what a round has not asked for so long is not known any more. (What
/// is known of PostgreSQL is as old as its own source says.)
pub fn aged(reading: Reading<Vec<Dependency>>, now: Timestamp) -> Reading<Vec<Dependency>> {
    let Reading::Fresh(all) = reading else { return reading };
    let asked = all.iter().filter(|one| one.barred.is_none() && one.name != PostgresSignal::NAME);
    let oldest = asked.filter_map(|one| Some(one.results.last()?.0)).min();
    match oldest {
        Some(at) if !is_recent(at, now, STALE_AFTER) => Reading::Stale { value: all, at },
        _ => Reading::Fresh(all),
    }
}
