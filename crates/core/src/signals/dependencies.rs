//! What a server depends on, as the operator finds it: whether it answers, which step failed where it does not, and
//! what is worth saying of it (guides 000, 001 and 004). A circuit breaker of the same name guards it.

use std::fmt;

use jiff::Timestamp;
use mcp_health_api::NamedDigest;

/// So many answers in a row make it well.
const WELL: usize = 2;
/// So many failures in a row make it down.
const DOWN: usize = 3;
/// How many answers are kept.
pub const KEPT: usize = 5;

/// How many other servers are named that lean on the same place.
pub const NAMED: usize = 8;

/// Something that the server depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// What is asked, for people: `GET http://external-api.mcp:8080/health`, `PostgreSQL mcp_prod at postgres.mcp:5432`.
    /// Without credentials.
    pub words: String,
    /// Where it is, so that two servers that lean on the same are known to: `postgres.mcp:5432`. Empty where it is not
    /// known yet.
    pub place: String,
    /// What tells it from another of its name: a digest of what is asked. `None` while it was not asked.
    pub known_as: Option<NamedDigest>,
    /// It answered this operator once, or one before it, as it is asked now. What never did may have a wall in between.
    pub ever_answered: bool,
    /// So many other servers lean on the same place.
    pub others: usize,
    /// The first of them, by their objects' names, with the namespace where that is another; at most [`NAMED`].
    pub shared_with: Vec<String>,
    /// The last answers, oldest first; at most [`KEPT`].
    pub results: Vec<(Timestamp, Result<(), Failure>)>,
    /// Since when it answers without a failure in between, by this operator's own looks.
    pub answers_since: Option<AnswersSince>,
    /// The certificate of its last TLS handshake.
    pub certificate: Option<Certificate>,
    /// What is worth saying of it beside that, as sentences without a subject, values included; the most telling first:
    /// `uses 1.9 GiB of 2 GiB, policy allkeys-lru`.
    pub remarks: Vec<String>,
    /// Why it is not asked at all: not on the allow-list, no Secret.
    pub barred: Option<String>,
}

/// Why a dependency did not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How far it got.
    pub step: CheckStep,
    /// What was seen, as a sentence without a subject, masked and bounded: `refuses the connection`.
    pub said: String,
}

/// Since when a dependency answers without a failure in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswersSince {
    /// The first answer of those.
    pub at: Timestamp,
    /// It failed before that; else this operator had not asked it before.
    pub had_failed: bool,
}

impl AnswersSince {
    /// The same, once it was asked again: at this moment, with this result. `had_failed`: the last answer was
    /// a failure.
    pub fn after(known: Option<Self>, at: Timestamp, is_well: bool, had_failed: bool) -> Option<Self> {
        is_well.then(|| known.unwrap_or(Self { at, had_failed }))
    }
}

/// The steps of asking a dependency, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckStep {
    /// Its name resolves.
    Name,
    /// There is a way to its address.
    Route,
    /// Somebody listens on its port.
    Port,
    /// A TLS session, or the protocol's own greeting, comes about.
    Handshake,
    /// Its certificate holds.
    Certificate,
    /// The credentials are taken.
    Login,
    /// What is asked is answered as it should be.
    Answer,
}

/// A certificate, as far as people ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for: its common name, or its first name.
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// It holds until then.
    pub not_after: Timestamp,
}

impl Failure {
    /// A failure, and what was seen of it.
    pub fn new(step: CheckStep, said: impl Into<String>) -> Self {
        Self { step, said: said.into() }
    }
}

impl Dependency {
    /// It answered the last times that it was asked.
    pub fn answers(&self) -> bool {
        !self.results.is_empty() && self.results.iter().rev().take(WELL).all(|(_, result)| result.is_ok())
    }

    /// It failed the last times that it was asked.
    pub fn is_down(&self) -> bool {
        self.results.len() >= DOWN && self.results.iter().rev().take(DOWN).all(|(_, result)| result.is_err())
    }

    /// It was asked often enough, and has not answered once: there may be a wall in between.
    pub fn never_answered(&self) -> bool {
        !self.ever_answered && self.is_down()
    }

    /// Its certificate, where the last answer came after a look at it.
    pub fn certificate(&self) -> Option<&Certificate> {
        let (_, last) = self.results.last()?;
        let was_shown = last.as_ref().err().is_none_or(|failure| failure.step >= CheckStep::Certificate);
        self.certificate.as_ref().filter(|_| was_shown)
    }

    /// Its last failure, unless an answer came after it.
    pub fn failure(&self) -> Option<&Failure> {
        self.results.last()?.1.as_ref().err()
    }
}

impl fmt::Display for CheckStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Route => "route",
            Self::Port => "port",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::Login => "login",
            Self::Answer => "answer",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.said, self.step)
    }
}
