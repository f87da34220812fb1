//! DependencyDown: something that the server depends on does not answer the operator.
//!
//! Judged by the operator's own look: the last three answers of a dependency failed, and the newest is fresh.
//! It closes when each that was down has answered twice in a row; one that is not asked any more, or barred,
//! closes nothing. What never answered may have a wall in between (a NetworkPolicy, the DNS of the operator's
//! own namespace): while the server does not say the same by a circuit breaker or by its last words, that is
//! told among the problems of evidence, and is no incident, nor is anything held for its sake.
//!
//! It is outside the server: nothing is done for it, and no pod is restarted, added or rolled back. What it
//! does not explain (an image that cannot be had, a kill at the memory limit, new pods that end before they
//! are Ready for another reason) is remediated all the same; so are new pods that fill the database
//! themselves.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, PostgresSignal, Severity, Subject, SubjectKind};

use super::{
    entry::{Class, Entry, Evidence, Needs, Rule, USUAL},
    forbidden::{STARTS, STARTS_AND_ROLLBACK},
};
use crate::{
    Case, Server, database,
    dependencies::{declared, down, is_fresh, patience},
    finding::{Finding, Judgement, is_about_the},
    signals::Dependency,
    time::lapse,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DependencyDown,
    rule: Rule::Plain(judge),
    class: Class::Dependency,
    needs: Needs::All(&[Evidence::Dependencies]),
    lasting: Some(LASTING),
    guide: &[("000", "Dependency Health Check")],
    ..USUAL
};

/// Three failures have taken their time already.
const LASTING: SignedDuration = SignedDuration::ZERO;

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(seen) = case.signals.dependencies.fresh() else { return Judgement::Unknown };
    let mut down: Vec<&Dependency> = down(case).collect();
    if down.is_empty() {
        return if is_over(case, seen) { Judgement::Clear } else { Judgement::Unknown };
    }
    let mut subjects: Vec<Subject> =
        down.iter().map(|one| Subject::new(SubjectKind::Dependency, &one.name)).collect();
    subjects.sort();
    // The database first; then what got least far.
    down.sort_by_key(|one| (one.name != PostgresSignal::NAME, one.failure().map(|why| why.step), since(one)));
    let of_database = down.iter().any(|one| one.name == PostgresSignal::NAME);
    let mut evidence: Vec<String> = down.iter().map(|one| describe(one)).collect();
    evidence.extend(down.iter().filter_map(|one| shared_words(one)));
    evidence.extend(
        down.iter()
            .filter(|one| !one.remarks.is_empty())
            .map(|one| format!("{} {}", one.name, words::shorten(&one.remarks.join("; "), 240))),
    );
    evidence.push(match server.ready() {
        0 => "no pod is ready; none is restarted: that would bring nothing back".to_owned(),
        ready => format!("{} ready, and left alone", words::count(ready, "pod")),
    });
    let last = down.iter().filter_map(|one| Some((one.results.last()?.0, patience(case.spec, &one.name))));
    let finding = Finding {
        subjects,
        lapses: last.filter_map(|(at, patience)| lapse([at].into_iter(), patience)).min(),
        // None of these brings a dependency back, and more pods would only ask it more.
        forbids: if database::is_filled_by_current(case, server) { STARTS } else { STARTS_AND_ROLLBACK },
        ..Finding::new(
            IncidentType::DependencyDown,
            if of_database { Cause::DatabaseConnection } else { Cause::DependencyDown },
            Severity::SEV2,
            down.iter().filter_map(|one| since(one)).min().unwrap_or(case.now),
            evidence,
        )
    };
    Judgement::Symptom { finding, lasting: LASTING }
}

/// What is not done while a database can write nothing more. A template that never worked is taken back all
/// the same.
pub(super) fn forbidden(server: &Server) -> &'static [ActionType] {
    if server.rollout_is_to_blame() { STARTS } else { STARTS_AND_ROLLBACK }
}

/// Whether all is known to be well: of what the open incident tells, and of what failed lately, each answers;
/// of the rest, each was asked.
fn is_over(case: &Case, seen: &[Dependency]) -> bool {
    let open = case.open(IncidentType::DependencyDown);
    declared(case.spec).all(|name| {
        let Some(one) = seen.iter().find(|one| one.name == name) else { return false };
        let told = open.is_some_and(|open| is_about_the(open, SubjectKind::Dependency, name));
        let failed = one.results.iter().any(|(_, result)| result.is_err());
        match open {
            Some(_) if told || (failed && one.ever_answered) => one.answers() && is_fresh(case, one),
            Some(_) => true,
            None => one.barred.is_some() || (is_fresh(case, one) && !one.never_answered()),
        }
    })
}

/// When the failures began, as far as they are kept.
fn since(one: &Dependency) -> Option<Timestamp> {
    let failures = one.results.iter().rev().take_while(|(_, result)| result.is_err());
    failures.last().map(|(at, _)| *at)
}

/// `dependency queue is down (port): RabbitMQ at rabbitmq.mcp:5672 failed the last 3 times, since 12:01:07:
/// 10.0.0.7:5672 refuses the connection`.
fn describe(one: &Dependency) -> String {
    let failures = one.results.iter().rev().take_while(|(_, result)| result.is_err()).count();
    let step = one.failure().map(|why| format!(" ({})", why.step)).unwrap_or_default();
    let said = one.failure().map(|why| format!(": {}", words::shorten(&why.said, 160))).unwrap_or_default();
    let since = since(one).map(|at| format!(" since {}", words::moment(at))).unwrap_or_default();
    format!(
        "dependency {} is down{step}: {} failed the last {failures} times,{since}{said}{}",
        one.name,
        words::shorten(&one.words, 120),
        first_words(one)
    )
}

/// What failed first, where it has become something else since: a queue grows, a port that refused is silent.
fn first_words(one: &Dependency) -> String {
    let first = one.results.iter().rev().map_while(|(_, result)| result.as_ref().err()).last();
    let other = first.filter(|first| one.failure().is_some_and(|last| last != *first));
    other.map(|first| format!("; at first: {}", words::shorten(&first.said, 120))).unwrap_or_default()
}

/// `3 other servers lean on postgres.mcp:5432: a, b, c`.
fn shared_words(one: &Dependency) -> Option<String> {
    let lean = match one.others {
        0 => return None,
        1 => "1 other server leans".to_owned(),
        more => format!("{more} other servers lean"),
    };
    let named = one.shared_with.join(", ");
    let more = if one.others > one.shared_with.len() { ", …" } else { "" };
    Some(words::shorten(&format!("{lean} on {}: {named}{more}", one.place), 400))
}
