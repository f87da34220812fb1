//! dependencies: which of what a server depends on is down at this moment, for the rules that ask whose fault it is.
//! What never answered the operator may have a wall in between: it counts where the server itself says the same.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Cause, IncidentType, McpServerHealthSpec, NamedDigest, PostgresSignal, RedisSignal};

use crate::{
    Case,
    signals::{AnswersSince, CircuitState, Dependency, Reading},
    time::after,
    words,
};

/// How old an answer may be.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// How long a dependency that never answered is waited for: it is asked at once, and then every five seconds.
const REACHED_WITHIN: SignedDuration = SignedDuration::from_secs(20);

/// The names of all that a policy declares its server to depend on.
pub fn declared(spec: &McpServerHealthSpec) -> impl Iterator<Item = &str> {
    let signals = &spec.signals;
    let postgres = signals.postgres.iter().map(|_| PostgresSignal::NAME);
    let redis = signals.redis.iter().map(|_| RedisSignal::NAME);
    postgres.chain(redis).chain(signals.dependencies.iter().map(|one| one.name.as_str()))
}

/// Whether what is known of a dependency speaks of now.
pub fn is_fresh(case: &Case, dependency: &Dependency) -> bool {
    let patience = patience(case.spec, &dependency.name);
    dependency.results.last().is_some_and(|(at, _)| case.now.duration_since(*at) <= patience)
}

/// How old what is known of a dependency may be.
pub(crate) fn patience(spec: &McpServerHealthSpec, name: &str) -> SignedDuration {
    let slow = spec.signals.postgres.as_ref().filter(|_| name == PostgresSignal::NAME);
    slow.map_or(PATIENCE, |postgres| postgres.interval.span().saturating_mul(4).max(PATIENCE))
}

/// The server itself says that a dependency does not answer: by an open circuit breaker of its name, or, of the
/// database, by what the operator has opened an incident for.
fn is_corroborated(case: &Case, dependency: &Dependency) -> bool {
    let circuits = case.signals.circuits.fresh().map(Vec::as_slice).unwrap_or_default();
    let open = |name: &str| circuits.iter().any(|one| one.name == name && one.state == CircuitState::Open);
    let mut incidents =
        case.status.incidents.iter().filter(|one| one.incident_type != IncidentType::DependencyDown);
    open(&dependency.name)
        || dependency.name == PostgresSignal::NAME
            && incidents.any(|one| one.cause == Cause::DatabaseConnection)
}

/// Those of the declared dependencies that are down at this moment.
pub fn down<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a Dependency> + use<'a> {
    let case = *case;
    let seen = case.signals.dependencies.fresh().map(Vec::as_slice).unwrap_or_default();
    let is_declared = move |one: &&Dependency| declared(case.spec).any(|name| name == one.name);
    let is_evidence = move |one: &&Dependency| one.ever_answered || is_corroborated(&case, one);
    let down = seen.iter().filter(is_declared).filter(move |one| one.is_down() && is_fresh(&case, one));
    down.filter(is_evidence)
}

/// The declared dependencies of which it is not known whether they answer since a fault began: they have not answered
/// since then, nor are they down by their last three answers. What never answered counts for a short time only: there may
/// be no way to it.
pub fn undecided<'a>(case: &Case<'a>, since: Timestamp) -> Vec<&'a str> {
    if case.signals.dependencies == Reading::Off {
        return Vec::new();
    }
    let seen = case.signals.dependencies.fresh().map(Vec::as_slice).unwrap_or_default();
    let is_awaited = after(since, REACHED_WITHIN) > case.now;
    let is_undecided = |name: &&str| {
        let one = seen.iter().find(|one| one.name == *name);
        let answered =
            |one: &Dependency| one.results.last().is_some_and(|(at, result)| result.is_ok() && *at >= since);
        let is_decided = one.is_some_and(|one| is_fresh(case, one) && (one.is_down() || answered(one)));
        let was_reached = one.map_or_else(|| has_answered(case, name), |one| one.ever_answered);
        !is_decided && (was_reached || is_awaited)
    };
    declared(case.spec).filter(is_undecided).collect()
}

/// Since when all declared dependencies answer, as far as each is asked and has ever answered: what pods
/// showed before may be the doing of one that did not. `None` where none is known to answer.
pub(crate) fn answer_since(case: &Case) -> Option<AnswersSince> {
    let seen = case.signals.dependencies.fresh()?;
    let counts = |one: &&Dependency| one.barred.is_none() && declared(case.spec).any(|name| name == one.name);
    let all = seen.iter().filter(counts).filter_map(|one| one.answers_since);
    let last = all.clone().max_by_key(|one| one.at)?;
    Some(AnswersSince { had_failed: all.into_iter().any(|one| one.had_failed), ..last })
}

/// Until when dependencies that never answered are waited for.
pub fn reached_until(since: Timestamp) -> Timestamp {
    after(since, REACHED_WITHIN)
}

/// Whether a dependency, as it is asked now, is among what has answered before.
pub fn is_known(remembered: &[NamedDigest], one: &Dependency) -> bool {
    one.known_as.as_ref().is_some_and(|known_as| remembered.contains(known_as))
}

/// By the status, a dependency has answered an operator before.
fn has_answered(case: &Case, name: &str) -> bool {
    let known = case.status.target.as_ref().map(|target| target.answered_dependencies.as_slice());
    known.unwrap_or_default().iter().any(|known| known.name == name)
}

/// The declared database is known to answer.
pub(crate) fn database_answers(case: &Case) -> bool {
    let seen = case.signals.dependencies.fresh().map(Vec::as_slice).unwrap_or_default();
    let database = seen.iter().find(|one| one.name == PostgresSignal::NAME);
    database.is_some_and(|one| one.answers() && is_fresh(case, one))
}

/// The first dependency that is down at this moment, and the step that failed, as a sentence.
pub fn down_words(case: &Case) -> Option<String> {
    let first = down(case).next()?;
    let why = first.failure().map(|why| format!(": {}", words::shorten(&why.to_string(), 160)));
    Some(format!("dependency {} is down: {} fails{}", first.name, first.words, why.unwrap_or_default()))
}
