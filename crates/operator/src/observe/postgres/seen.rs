//! What looks at one object's database came to, as far as it is remembered: in memory only, and bounded.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{NamedDigest, PostgresSignal};
use mcp_health_core::{
    digest,
    signals::{AnswersSince, Certificate, DEPENDENCY_KEPT, Database, Dependency, Failure, Reading},
    words,
};

use super::line::{Came, Identity};

/// Answers that are missing for so many intervals, and this time, are no evidence any more.
const LATE: (i32, SignedDuration) = (3, SignedDuration::from_secs(30));
/// Digits of a digest.
const DIGITS: usize = 6;
/// Fewer answers than these tell nothing: that they become enough is news.
const ENOUGH: usize = 3;

/// See the module.
pub struct Seen {
    /// What the object wanted asked.
    pub asked: PostgresSignal,
    /// The line that it is asked over.
    pub identity: Option<Identity>,
    words: String,
    place: String,
    /// It answered once, as it is asked now.
    ever_answered: bool,
    last: Option<(Timestamp, Result<Arc<Database>, Failure>)>,
    results: Vec<(Timestamp, Result<(), Failure>)>,
    answers_since: Option<AnswersSince>,
    certificate: Option<Certificate>,
    /// Why it is not asked.
    barred: Option<String>,
}

impl Seen {
    /// Nothing was asked yet.
    pub fn new(asked: &PostgresSignal) -> Self {
        Self {
            asked: asked.clone(),
            identity: None,
            words: "PostgreSQL".to_owned(),
            place: String::new(),
            ever_answered: false,
            last: None,
            results: Vec::new(),
            answers_since: None,
            certificate: None,
            barred: None,
        }
    }

    /// It is asked over this line from now on. What another place answered says nothing of this one.
    pub fn ask_over(&mut self, identity: &Identity, words: String, place: String) {
        if self.place != place || self.words != words {
            self.results.clear();
            self.answers_since = None;
            (self.last, self.certificate, self.ever_answered) = (None, None, false);
        }
        (self.words, self.place) = (words, place);
        if self.identity.as_ref() != Some(identity) {
            self.identity = Some(identity.clone());
        }
    }

    /// Notes why it may not be asked. True where that is news.
    pub fn bar(&mut self, why: String) -> bool {
        self.results.clear();
        (self.last, self.answers_since) = (None, None);
        self.identity = None;
        self.barred.replace(why.clone()) != Some(why)
    }

    /// Notes what a look came to. True where the rules may make something else of it.
    pub fn note(&mut self, came: Came) -> bool {
        let Came { at, result, certificate } = came;
        let was_quiet = self.last.as_ref().is_some_and(|(_, before)| match (before, &result) {
            (Ok(before), Ok(now)) => is_quiet(before) && is_quiet(now) && is_alike(before, now),
            _ => false,
        });
        let is_news = self.barred.take().is_some()
            || self.results.len() < ENOUGH
            || result.is_err()
            || self.results.iter().any(|(_, before)| before.is_err())
            || self.certificate != certificate
            || !was_quiet;
        if self.results.last().is_none_or(|(last, _)| *last < at) {
            let surplus = (self.results.len() + 1).saturating_sub(DEPENDENCY_KEPT);
            self.results.drain(..surplus);
            let had_failed = self.results.last().is_some_and(|(_, last)| last.is_err());
            self.answers_since = AnswersSince::after(self.answers_since, at, result.is_ok(), had_failed);
            self.results.push((at, result.as_ref().map(|_| ()).map_err(Clone::clone)));
        }
        self.certificate = certificate;
        self.ever_answered |= result.is_ok();
        self.last = Some((at, result));
        is_news
    }

    /// What the database tells.
    pub fn reading(&self, now: Timestamp) -> Reading<Database> {
        if let Some(why) = &self.barred {
            return Reading::Unavailable(why.clone());
        }
        let late = self.asked.interval.span().saturating_mul(LATE.0).saturating_add(LATE.1);
        match &self.last {
            None => Reading::Unavailable("it was not asked yet".to_owned()),
            Some((at, Ok(seen))) if now.duration_since(*at) > late => {
                Reading::Stale { value: Database::clone(seen), at: *at }
            }
            Some((_, Ok(seen))) => Reading::Fresh(Database::clone(seen)),
            Some((_, Err(failure))) => Reading::Unavailable(format!("{} {failure}", self.words)),
        }
    }

    /// The database as something that the server depends on.
    /// `remembered` is what has answered this operator or one before it.
    pub fn dependency(&self, remembered: &[NamedDigest]) -> Dependency {
        let name = PostgresSignal::NAME;
        let known_as = NamedDigest::new(name, digest::short(self.words.as_bytes(), DIGITS));
        let seen = self.last.as_ref().and_then(|(_, result)| result.as_ref().ok());
        Dependency {
            name: name.to_owned(),
            ever_answered: self.ever_answered || remembered.contains(&known_as),
            known_as: (!self.place.is_empty()).then_some(known_as),
            words: self.words.clone(),
            place: self.place.clone(),
            results: self.results.clone(),
            answers_since: self.answers_since,
            certificate: self.certificate.clone(),
            remarks: seen.map(|seen| remarks(seen)).unwrap_or_default(),
            barred: self.barred.clone(),
            ..Dependency::default()
        }
    }
}

fn remarks(seen: &Database) -> Vec<String> {
    if seen.unread.is_some() {
        return Vec::new();
    }
    let mut remarks = vec![format!("has {} of {} connections taken", seen.connections, seen.max_connections)];
    remarks.extend(seen.replicas.iter().filter_map(|(name, behind)| {
        let behind = behind.filter(|behind| *behind > SignedDuration::from_secs(10))?;
        Some(format!("has {name} {} behind", words::span(behind)))
    }));
    remarks.truncate(4);
    remarks
}

/// Nothing in it that time alone makes worse.
fn is_quiet(seen: &Database) -> bool {
    let counts = &seen.counts;
    counts.idle_in_transaction == 0
        && counts.waiting == 0
        && seen.chains.is_empty()
        && seen.connections * 2 < seen.max_connections
        && seen.damage.is_none()
        && seen.unread.is_none()
        && seen.full_disk().is_none()
}

/// The rules see no difference between the two, but in who does what at the moment.
fn is_alike(one: &Database, other: &Database) -> bool {
    let of =
        |seen: &Database| (seen.checksum_failures, seen.may_end_sessions, seen.pooler.clone(), seen.started);
    of(one) == of(other)
        && one.missing_grants == other.missing_grants
        && one.statements == other.statements
        && one.frequent == other.frequent
        && one.tables == other.tables
        && one.settings == other.settings
        && one.disk_full == other.disk_full
}
