//! EndDatabaseSessions: ends sessions of the server's own that do nothing and hold something (guides 000,
//! Connection Pool Exhausted, and 004, High Error Rate): those that are idle in a transaction beyond the
//! limit; those that are just idle only while connections are exhausted; of a chain of locks, its root alone.
//! Each is recorded by all that tells it from others, and ended only while it is still that. Never one at
//! work, of a superuser, of PostgreSQL's own, or of which it is not known that it comes from the server's
//! pods. Nothing can be taken back; what leaves them so is for a person to find.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{
    ActionType, Attempt, Cause, Effect, FollowUp, IncidentType, SESSIONS_LIMIT, SessionFence, Step,
};

use super::plan::{Action, Asked, NOTHING, Plan, Planned, Touches, mark_target, no_undo, step};
use crate::{
    Case,
    catalogue::{IS_UNUSED_AFTER, is_endable_root},
    database::{self, Origin},
    mask::mask,
    signals::{
        Database,
        database::{Grant, Session, SessionState},
    },
    time::after,
    words,
};

pub const ACTION: Action = Action {
    action: ActionType::EndDatabaseSessions,
    touches: Touches { sessions: true, ..NOTHING },
    plan,
    undo: no_undo,
    did,
    follow_up,
};

/// The most groups in one attempt: its steps are bounded, and the mark is one.
const GROUPS: usize = 7;
/// Sessions that are old enough within this time after the first are ended with it.
const GATHERS: SignedDuration = SignedDuration::from_secs(15);
/// How long what helped is watched: a leak shows again by then.
pub const WATCHED: SignedDuration = SignedDuration::from_hours(1);
/// Until a session is old enough, it is not looked at more often.
const LOOKS_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The sessions' role, and their state: all of a group are ended by one statement.
type Group<'a> = (&'a str, SessionState);

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let Some(seen) = database::of(case) else {
        let why = case.signals.problem_of_database();
        let why = why.unwrap_or_else(|| "spec.signals.postgres names no database".to_owned());
        return Planned::impossible("DatabaseNotSeen", why);
    };
    if let Some(pooler) = &seen.pooler {
        return Planned::impossible("PoolerBetween", pooler_words(case, seen, pooler));
    }
    let wanted = wanted(asked, seen);
    if wanted.is_empty() {
        return none_wanted(asked, seen);
    }
    let (own, strange): (Vec<&Session>, Vec<&Session>) =
        wanted.into_iter().partition(|one| database::origin(case, one) != Origin::Elsewhere);
    if own.is_empty() {
        let client = strange.iter().find_map(|one| one.client.as_deref()).unwrap_or("no address");
        return Planned::impossible(
            "UnknownClients",
            format!(
                "{} to end, from {}, which is no pod of this server: a pooler, a translated address, or somebody else \
                 under the same application name; spec.actions.endDatabaseSessions.clients may name it, unless it is a \
                 pooler, which can end what is left alone itself (PgBouncer: idle_transaction_timeout)",
                words::count(strange.len(), "session"),
                words::shorten(&mask(client), 64)
            ),
        );
    }
    if !seen.may_end_sessions {
        return Planned::impossible("GrantMissing", grant_words(seen));
    }
    if let Some(until) = gathers(asked, seen) {
        let why = "more sessions have soon done nothing for as long: they are ended together".to_owned();
        return Planned::Later { until, why };
    }
    let steps = steps(asked, seen, &own);
    let ended: usize =
        steps.iter().filter_map(|one| one.sessions.as_ref()).map(|fence| fence.list.len()).sum();
    let left_out = strange.len() + own.len() - ended;
    Planned::Ready(Plan {
        action: ActionType::EndDatabaseSessions,
        what: format!(
            "end {} in {}{}",
            words::count(ended, "session"),
            database::name(seen),
            if left_out > 0 { format!(", and leave {left_out} others") } else { String::new() }
        ),
        why: format!("{} ({}): {}", incident.name(), incident.cause, most_words(case, &own)),
        steps: [mark_target(server.target)].into_iter().chain(steps).collect(),
        undoes: None,
    })
}

/// What is to be ended, wherever it comes from; those that do nothing for longest first.
fn wanted<'a>(asked: &Asked<'a>, seen: &'a Database) -> Vec<&'a Session> {
    let case = asked.case;
    let mut wanted: Vec<&Session> = if asked.incident.incident_type == IncidentType::DatabaseBlockingLocks {
        let roots = database::blocked(case, seen).into_iter().map(|chain| &chain.root);
        roots.filter(|root| is_endable_root(case, seen, root)).collect()
    } else {
        let limit = database::idle_limit(case);
        let exhausted = asked.diagnosis.finding(IncidentType::DatabasePoolExhausted).is_some();
        database::own(case, seen)
            .filter(|one| {
                database::is_left_alone(seen, one, limit)
                    || (exhausted && database::is_unused(seen, one, IS_UNUSED_AFTER))
            })
            .collect()
    };
    wanted.sort_by_key(|one| (!database::is_idle_in_transaction(one), one.state_change, one.pid));
    wanted.dedup_by_key(|one| one.pid);
    wanted
}

/// Of sessions that were left alone one soon after the other, the first is old enough before the others:
/// until when to wait for these. Never for long, whatever else comes.
fn gathers(asked: &Asked, seen: &Database) -> Option<Timestamp> {
    let case = asked.case;
    if asked.incident.incident_type == IncidentType::DatabaseBlockingLocks {
        return None;
    }
    let limit = database::idle_limit(case);
    let (soon, longest) = (GATHERS.min(limit / 4), GATHERS.min(limit / 4).saturating_mul(2));
    let idle = database::own(case, seen).filter(|one| database::is_idle_in_transaction(one));
    let ages: Vec<SignedDuration> = idle.filter_map(|one| database::unchanged(seen, one)).collect();
    let over = ages.iter().max()?.saturating_sub(limit);
    let left =
        ages.iter().map(|age| limit.saturating_sub(*age)).filter(|left| !left.is_negative() && *left < soon);
    let left = left.max().filter(|_| !over.is_negative() && over < longest)?;
    Some(after(case.now, left.max(LOOKS_AGAIN)))
}

/// None is old enough, or there is none at all.
fn none_wanted(asked: &Asked, seen: &Database) -> Planned {
    let case = asked.case;
    let limit = database::idle_limit(case);
    let leaks = asked.incident.cause == Cause::ConnectionLeak;
    let left = database::own(case, seen).filter_map(|one| {
        let idle = database::unchanged(seen, one)?;
        match one.state {
            _ if database::is_idle_in_transaction(one) => Some((limit.saturating_sub(idle), limit)),
            SessionState::Idle if leaks => Some((IS_UNUSED_AFTER.saturating_sub(idle), IS_UNUSED_AFTER)),
            _ => None,
        }
    });
    match left.min().filter(|_| asked.incident.incident_type != IncidentType::DatabaseBlockingLocks) {
        Some((left, limit)) => Planned::Later {
            until: after(case.now, left.max(LOOKS_AGAIN)),
            why: format!("no session has done nothing for more than {} yet", words::span(limit)),
        },
        None => Planned::impossible(
            "NoSessionToEnd",
            "no session of the server's own does nothing for long enough: one at work is never ended",
        ),
    }
}

/// What the operator is connected to lends sessions: which is whose, and which is its own, changes meanwhile.
fn pooler_words(case: &Case, seen: &Database, pooler: &str) -> String {
    let secret = case.spec.signals.postgres.as_ref().map(|postgres| &postgres.connection_secret_ref);
    let secret = secret.map(|of| format!("Secret {} (key {})", of.name, of.key)).unwrap_or_default();
    format!(
        "{}: {}: which session is whose cannot be told through it, and none is ended; a person ends what is left alone, \
         at PostgreSQL or by the pooler (PgBouncer: idle_transaction_timeout); where {secret} names PostgreSQL itself, the \
         operator ends what comes from the server's own pods",
        database::name(seen),
        words::shorten(&mask(pooler), 160)
    )
}

fn grant_words(seen: &Database) -> String {
    match seen.missing_grants.iter().find(|one| one.grant == Grant::SignalBackend) {
        Some(missing) => words::shorten(&mask(&missing.to_string()), 240),
        None => "sessions may not be ended: GRANT pg_signal_backend TO the role that the operator comes as"
            .to_owned(),
    }
}

/// A step for each group: one statement ends them.
fn steps(asked: &Asked, seen: &Database, own: &[&Session]) -> Vec<Step> {
    let mut groups: BTreeMap<Group, Vec<&Session>> = BTreeMap::new();
    for session in own {
        groups.entry((&session.user, session.state)).or_default().push(session);
    }
    let mut groups: Vec<(Group, Vec<&Session>)> = groups.into_iter().collect();
    groups
        .sort_by_key(|(group, sessions)| (group.1 == SessionState::Idle, std::cmp::Reverse(sessions.len())));
    let fence = |((user, state), sessions): &(Group, Vec<&Session>)| SessionFence {
        database: seen.database.clone(),
        user: (*user).to_owned(),
        application: seen.application.clone(),
        state: state.to_string(),
        list: sessions.iter().filter_map(|one| line(one)).take(SESSIONS_LIMIT).collect(),
    };
    let step = |group| Step {
        object: Some(format!("Database/{}", seen.database)),
        sessions: Some(fence(group)),
        from: None,
        resource_version: None,
        ..step(Effect::EndSessions, asked.server.target)
    };
    groups.iter().take(GROUPS).map(step).collect()
}

/// `4711 2026-11-21T10:00:00.000001Z 2026-11-21T10:07:00.5Z 2026-11-21T10:07:01Z`.
fn line(session: &Session) -> Option<String> {
    let xact = session.xact_start.map_or_else(|| "-".to_owned(), |at| at.to_string());
    Some(format!("{} {} {xact} {}", session.pid, session.backend_start, session.state_change?))
}

/// `198 of 200 come from pod mcp-server-6f4c-x; most stopped after: update accounts set …`.
fn most_words(case: &Case, own: &[&Session]) -> String {
    let mut by_client: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_query: BTreeMap<&str, usize> = BTreeMap::new();
    for session in own {
        let client = match database::origin(case, session) {
            Origin::Pod(pod) => format!("pod {pod}"),
            Origin::Named | Origin::Elsewhere => {
                words::shorten(session.client.as_deref().unwrap_or_default(), 64)
            }
        };
        *by_client.entry(client).or_default() += 1;
        *by_query.entry(session.query.trim()).or_default() += 1;
    }
    let client = by_client.iter().max_by_key(|(_, count)| **count);
    let query = by_query.iter().filter(|(query, _)| !query.is_empty()).max_by_key(|(_, count)| **count);
    let all = own.len();
    let mut words: Vec<String> = client
        .map(|(client, count)| match all {
            1 => format!("it comes from {client}"),
            _ => format!("{count} of {all} come from {client}"),
        })
        .into_iter()
        .collect();
    words.extend(query.map(|(query, _)| format!("last statement: {}", words::shorten(&mask(query), 160))));
    words.join("; ")
}

fn ended(attempt: &Attempt) -> impl Iterator<Item = (&Step, &SessionFence)> {
    attempt.steps.iter().filter_map(|step| Some((step, step.sessions.as_ref()?)))
}

fn did(attempt: &Attempt) -> String {
    let count = ended(attempt).map(|(_, fence)| fence.list.len()).sum();
    let database = ended(attempt).next().map(|(_, fence)| format!(" in database {}", fence.database));
    let notes: Vec<&str> = ended(attempt).filter_map(|(step, _)| step.note.as_deref()).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    format!("asked for the end of {}{}{notes}", words::count(count, "session"), database.unwrap_or_default())
}

/// Whatever left them so does it again: for an hour, it is a person's to find.
fn follow_up(_: &Case, attempt: &Attempt) -> Option<FollowUp> {
    ended(attempt).next()?;
    let message = format!(
        "find what leaves sessions so ({}): it begins transactions, or takes connections, and does not end them; \
         watched for {}",
        attempt.why,
        words::span(WATCHED)
    );
    Some(FollowUp { attempt: attempt.id.clone(), message, take_back_at: None })
}

/// Until when it is watched whether what was ended comes again; `None` of an attempt that ended nothing.
pub fn watched_until(attempt: &Attempt) -> Option<Timestamp> {
    ended(attempt).next()?;
    let from = attempt.finished_at.as_ref().unwrap_or(&attempt.recorded_at);
    Some(after(from.0, WATCHED))
}
