//! DatabasePoolExhausted: all connections to the database are in use, or waited for.
//!
//! Judged by the pools' own gauges, and by the database: nearly all of `max_connections` in use. What holds
//! the connections tells the cause: transactions that are left alone, connections that are not given back
//! though no more is asked for than before, more requests, or others.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Measure, Severity, Subject, SubjectKind};

use super::{
    by_metrics as by,
    entry::{Class, Entry, Evidence, Needs, Rule, USUAL},
    forbidden::{STARTS, STARTS_AND_ROLLBACK},
    rank,
};
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement, is_about},
    metrics::{Traffic, View},
    signals::{
        Database, Span,
        database::{Session, SessionState},
    },
    time::after,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DatabasePoolExhausted,
    rule: Rule::Plain(judge),
    class: Class::Sessions,
    needs: Needs::Any(&[Evidence::Metrics, Evidence::Database]),
    lasting: Some(LASTING),
    rank,
    runbook,
    guide: &[("000", "Connection Pool Exhausted"), ("004", "High Error Rate")],
    ..USUAL
};

/// A pool of connections is exhausted from this share in use, in percent.
const PERCENT: f64 = 90.0;
/// A moment's rush is none.
const LASTING: SignedDuration = SignedDuration::from_secs(30);
/// A connection that is held for longer, and does nothing, leaks (guide 000).
const LEAK: SignedDuration = SignedDuration::from_secs(60);
/// What does nothing for so long is at work no more; whether it leaks shows when it goes on.
const AT_WORK: SignedDuration = SignedDuration::from_secs(5);
/// Without a pool's own word, one that does nothing may just be in reserve for so long (guide 004, High Error
/// Rate).
pub(crate) const UNUSED: SignedDuration = SignedDuration::from_mins(10);
/// So many times as many requests as in the hour before are more.
const GROWTH: f64 = 1.2;
/// Sessions that are named in evidence.
const NAMED: usize = 3;

/// What the pools' gauges tell.
pub(super) struct Pools {
    /// Whether none is left.
    pub is_exhausted: bool,
    /// The values as a sentence.
    pub words: String,
}

/// What the pools' gauges tell; `None` where there are none.
pub(super) fn pools(view: &View) -> Option<Pools> {
    let gauge = |measure| view.total(measure, Span::Window);
    let waiting = gauge(Measure::DatabasePoolWaiters);
    if let Some(waiting) = waiting.filter(|waiting| *waiting > 0.0) {
        let words = format!("{} callers wait for a database connection", by::number(waiting));
        return Some(Pools { is_exhausted: true, words });
    }
    let in_use = gauge(Measure::DatabasePoolSize)
        .zip(gauge(Measure::DatabasePoolInUse))
        .filter(|(size, _)| *size > 0.0)
        .map(|(size, in_use)| Pools {
            is_exhausted: by::share(in_use, size) >= PERCENT,
            words: format!("{} of {} database connections are in use", by::number(in_use), by::number(size)),
        });
    let nobody = || Pools { is_exhausted: false, words: "nobody waits for a database connection".to_owned() };
    in_use.or_else(|| waiting.map(|_| nobody()))
}

fn judge(case: &Case, server: &Server) -> Judgement {
    let view = View::of(case, server);
    let seen = database::of(case);
    let pools = view.as_ref().and_then(pools);
    let exhausted = pools.as_ref().filter(|pools| pools.is_exhausted);
    let full = seen.and_then(database::full_words);
    if exhausted.is_none() && full.is_none() {
        return if is_over(case, server, view.as_ref(), pools.is_some()) {
            Judgement::Clear
        } else {
            Judgement::Unknown
        };
    }
    if let Some(until) = seen.and_then(|seen| shows_at(case, seen, exhausted.is_some())) {
        return Judgement::Suspected { until };
    }
    let mut evidence: Vec<String> = exhausted
        .map(|pools| format!("the server's pools: {} (threshold {} %)", pools.words, by::number(PERCENT)))
        .into_iter()
        .collect();
    let forbids = match &full {
        None => &[ActionType::Scale],
        // Pods of another template are well at this moment; and a template that never worked may be what
        // fills it.
        Some(_) if server.serving_beside().is_some() || server.rollout_is_to_blame() => STARTS,
        Some(_) => STARTS_AND_ROLLBACK,
    };
    let (cause, why) = cause(case, view.as_ref(), seen, exhausted.is_some(), full.is_some());
    evidence.extend(full);
    evidence.push(why);
    evidence.extend(seen.into_iter().flat_map(|seen| sessions(case, seen)));
    evidence.extend(
        view.as_ref()
            .map(|view| by::source(view, Measure::DatabasePoolInUse))
            .filter(|_| exhausted.is_some()),
    );
    let lapses = view.as_ref().filter(|_| exhausted.is_some());
    // What it was found by has to say that it is over.
    let subject = Subject::new(SubjectKind::ConnectionPool, &case.spec.target_ref.name);
    let finding = Finding {
        subjects: exhausted.map(|_| subject).into_iter().collect(),
        lapses: lapses.and_then(|view| {
            let of_gauges = [Measure::DatabasePoolWaiters, Measure::DatabasePoolInUse];
            of_gauges.into_iter().filter_map(|measure| by::lapses(view, measure)).min()
        }),
        forbids,
        ..Finding::new(IncidentType::DatabasePoolExhausted, cause, Severity::SEV2, case.now, evidence)
    };
    Judgement::Symptom { finding, lasting: LASTING }
}

/// Whether what is seen shows that connections are left: the database where it is declared, the gauges where
/// there are any, and whatever it was found by.
fn is_over(case: &Case, server: &Server, view: Option<&View>, has_gauges: bool) -> bool {
    let declared = case.spec.signals.postgres.is_some();
    let of_database = !declared || database::of(case).and_then(database::is_full) == Some(false);
    let open = case.open(IncidentType::DatabasePoolExhausted);
    let by_pools = open.is_some_and(|open| is_about(open, SubjectKind::ConnectionPool));
    let is_seen = |view: &View| {
        let measures = [Measure::DatabasePoolInUse, Measure::DatabasePoolWaiters];
        measures.into_iter().any(|measure| {
            view.sampled(measure).is_some() && by::silent_about(view, server, measure).is_empty()
        })
    };
    of_database && (!by_pools || (has_gauges && view.is_some_and(is_seen)))
}

/// Why, and what shows that it is so.
fn cause(
    case: &Case,
    view: Option<&View>,
    seen: Option<&Database>,
    by_pools: bool,
    is_full: bool,
) -> (Cause, String) {
    let growth = view.and_then(growth);
    let requests = growth.map_or_else(
        || "how many requests there were before is not known".to_owned(),
        |(now, before)| {
            format!("{} requests a second, {} in the hour before", by::number(now), by::number(before))
        },
    );
    let grew = growth.is_some_and(|(now, before)| now > before * GROWTH);
    if let Some(seen) = seen {
        let own: Vec<&Session> = database::own(case, seen).collect();
        let total = total(case, seen);
        let application = words::shorten(&seen.application, 64);
        let others = seen.connections.saturating_sub(total);
        if is_full && !by_pools && others > total {
            let why = format!(
                "{others} of {} connections are not of {application}: whose they are, a person finds out",
                seen.connections
            );
            return (Cause::OthersConnections, why);
        }
        let count = |is: &dyn Fn(&Session) -> bool| own.iter().filter(|one| is(one)).count();
        let left = count(&|one| database::is_left_alone(seen, one, LEAK));
        if is_most(left, total) {
            let why = format!(
                "{left} of {total} sessions of {application} are idle in transaction for more than {}",
                words::span(LEAK)
            );
            return (Cause::IdleTransactions, why);
        }
        let patience = if by_pools { LEAK } else { UNUSED };
        let unused = left + count(&|one| database::is_unused(seen, one, patience));
        if is_most(unused, total) && !grew {
            let why = format!(
                "{unused} of {total} sessions of {application} do nothing for more than {}, and no more is asked for \
                 than before: {requests}",
                words::span(patience)
            );
            return (Cause::ConnectionLeak, why);
        }
    }
    if grew {
        return (Cause::PoolTooSmall, format!("more is asked for than before: {requests}"));
    }
    (Cause::DatabasePool, format!("nothing tells what holds them: {requests}"))
}

/// How many sessions are the server's own: those that are seen one by one, and those that are only counted.
fn total(case: &Case, seen: &Database) -> i64 {
    seen.counts.total.max(i64::try_from(database::own(case, seen).count()).unwrap_or(i64::MAX))
}

/// Half of them, or more.
fn is_most(part: usize, of: i64) -> bool {
    part > 0 && i64::try_from(part).unwrap_or(i64::MAX).saturating_mul(2) >= of
}

/// When it shows whether what holds most connections is a leak: until then, no other reason is looked for.
fn shows_at(case: &Case, seen: &Database, by_pools: bool) -> Option<Timestamp> {
    let held = |than: SignedDuration| {
        database::own(case, seen).filter(move |one| {
            database::is_left_alone(seen, one, than) || (by_pools && database::is_unused(seen, one, than))
        })
    };
    let is_most = |than| is_most(held(than).count(), total(case, seen));
    // What was quiet begins anew this very moment.
    let open = case.open(IncidentType::DatabasePoolExhausted);
    let begins = open.is_some_and(|open| open.quiet_since.is_some());
    let at_work = if begins { SignedDuration::from_secs(-1) } else { AT_WORK };
    if !is_most(at_work) || is_most(LEAK) {
        return None;
    }
    let young = held(at_work).filter_map(|one| database::unchanged(seen, one)).filter(|age| *age <= LEAK);
    let left = LEAK.saturating_sub(young.max()?).max(AT_WORK);
    Some(after(case.now, left))
}

/// Requests a second, and in the hour before.
fn growth(view: &View) -> Option<(f64, f64)> {
    let rate = |span| match view.traffic_of(span) {
        Traffic::Some { per_second, .. } => Some(per_second),
        Traffic::None => Some(0.0),
        Traffic::Unknown => None,
    };
    Some((rate(Span::Window)?, rate(Span::Before)?))
}

/// `sessions of mcp-server: 45, of them 12 active, 28 idle, 5 idle in transaction` (guide 000), and those
/// that hold on for longest.
fn sessions(case: &Case, seen: &Database) -> Vec<String> {
    let counts = seen.counts;
    let mut evidence = vec![format!(
        "sessions of {}: {}, of them {} active, {} idle, {} idle in transaction, {} waiting for a lock",
        words::shorten(&seen.application, 64),
        counts.total,
        counts.active,
        counts.idle,
        counts.idle_in_transaction,
        counts.waiting
    )];
    let mut held: Vec<&Session> = database::own(case, seen)
        .filter(|one| database::is_idle_in_transaction(one) || one.state == SessionState::Idle)
        .filter(|one| database::unchanged(seen, one).is_some_and(|age| age > LEAK))
        .collect();
    held.sort_by_key(|one| {
        (!database::is_idle_in_transaction(one), std::cmp::Reverse(database::unchanged(seen, one)))
    });
    evidence.extend(held.iter().take(NAMED).map(|one| database::describe(case, seen, one)));
    evidence
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    match cause {
        Cause::IdleTransactions | Cause::ConnectionLeak => {
            &[ActionType::EndDatabaseSessions, ActionType::EndDatabaseSessions, ActionType::SetEnv]
        }
        Cause::PoolTooSmall => &[ActionType::SetEnv],
        _ => &[],
    }
}

/// While nobody is let in, nothing else helps; else what is wrong with the server itself comes first.
fn rank(finding: &Finding) -> u8 {
    if finding.forbids.contains(&ActionType::Rollback) { 0 } else { rank::of(finding.cause) }
}
