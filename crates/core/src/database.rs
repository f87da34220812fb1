//! database: what PostgreSQL tells of one server: which of its sessions are the server's own, how long they do nothing,
//! and whether it lets anybody in. For the rules on databases, for those that ask whose fault it is, and for what ends
//! sessions. Ages are by PostgreSQL's own clock.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::IncidentType;

use crate::{
    Case, Server,
    case::lasting,
    mask::mask,
    signals::{
        Database,
        database::{BlockingChain, Session, SessionState},
    },
    words,
};

/// A transaction that does nothing for longer than this is left alone (guide 000, Connection Pool Exhausted).
pub const IDLE_IN_TRANSACTION: SignedDuration = SignedDuration::from_mins(5);
/// Who waits for a lock for longer than this is kept from working.
pub const WAITS: SignedDuration = SignedDuration::from_secs(60);
/// Whatever a database tells, nothing began longer ago.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// From this share of the connections that are not reserved on, a database is full, in percent.
pub const FULL_PERCENT: i64 = 90;

/// Where a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// From one of the server's pods.
    Pod(&'a str),
    /// From an address that the policy names.
    Named,
    /// From anywhere else: a pooler, an address that is translated on its way, somebody else.
    Elsewhere,
}

/// What the database of a server tells, where it may be relied on.
pub fn of<'a>(case: &Case<'a>) -> Option<&'a Database> {
    asked(case).filter(|database| database.unread.is_none())
}

/// The same, also where it told nothing but what is wrong with its own files.
pub fn asked<'a>(case: &Case<'a>) -> Option<&'a Database> {
    case.spec.signals.postgres.as_ref()?;
    case.signals.database.fresh()
}

/// How long a session may be idle in a transaction.
pub fn idle_limit(case: &Case) -> SignedDuration {
    lasting(case, IncidentType::DatabaseIdleInTransaction, IDLE_IN_TRANSACTION)
}

/// How long a session may wait for a lock.
pub fn wait_limit(case: &Case) -> SignedDuration {
    lasting(case, IncidentType::DatabaseBlockingLocks, WAITS)
}

/// Whether a session calls itself what the server's own do, in the server's database. Workers of PostgreSQL's, superusers
/// and replicas never count.
pub fn is_own(case: &Case, database: &Database, session: &Session) -> bool {
    let name = case.spec.signals.postgres.as_ref().map(|postgres| postgres.application_name.as_str());
    session.is_client
        && !session.is_privileged
        && !session.user.is_empty()
        && !session.database.is_empty()
        && session.pid > 0
        && name == Some(session.application.as_str())
        && session.database == database.database
}

/// The server's own sessions.
pub fn own<'a>(case: &Case<'a>, database: &'a Database) -> impl Iterator<Item = &'a Session> + use<'a> {
    let case = *case;
    database.sessions.iter().filter(move |session| is_own(&case, database, session))
}

/// Where a session comes from.
pub fn origin<'a>(case: &Case<'a>, session: &Session) -> Origin<'a> {
    let Some(client) = session.client.as_deref().and_then(address) else { return Origin::Elsewhere };
    let pods = case.signals.pods.fresh().map(Vec::as_slice).unwrap_or_default();
    let is_there = |at: &Option<IpAddr>| at.is_some_and(|at| at.to_canonical() == client);
    if let Some(pod) = pods.iter().find(|pod| !pod.finished && is_there(&pod.address)) {
        return Origin::Pod(&pod.name);
    }
    let named = case.spec.actions.end_database_sessions.iter().flat_map(|policy| &policy.clients);
    if named.into_iter().any(|network| contains(&network.0, client)) {
        Origin::Named
    } else {
        Origin::Elsewhere
    }
}

/// `10.0.0.7`, or as PostgreSQL may write it: `10.0.0.7/32`.
fn address(client: &str) -> Option<IpAddr> {
    client.split('/').next()?.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Whether a network, as `10.0.0.0/24`, holds an address. What is none holds nothing.
fn contains(network: &str, ip: IpAddr) -> bool {
    let (base, length) =
        network.split_once('/').map_or((network, None), |(base, length)| (base, Some(length)));
    let Ok(base) = base.parse::<IpAddr>() else { return false };
    let (base, ip, all) = match (base, ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => (u128::from(base.to_bits()), u128::from(ip.to_bits()), 32),
        (IpAddr::V6(base), IpAddr::V6(ip)) => (base.to_bits(), ip.to_bits(), 128),
        _ => return false,
    };
    let length = match length.map(str::parse::<u32>) {
        None => all,
        Some(Ok(length)) if length <= all => length,
        Some(_) => return false,
    };
    // A shift by all bits leaves nothing to compare.
    (base ^ ip).checked_shr(all - length).unwrap_or_default() == 0
}

/// How long a session has been in its state.
pub fn unchanged(database: &Database, session: &Session) -> Option<SignedDuration> {
    Some(database.at.duration_since(session.state_change?).max(SignedDuration::ZERO))
}

/// It is in a transaction, and has done nothing for longer than `limit`.
pub fn is_left_alone(database: &Database, session: &Session, limit: SignedDuration) -> bool {
    is_idle_in_transaction(session) && unchanged(database, session).is_some_and(|idle| idle > limit)
}

/// It is in a transaction, and does nothing.
pub fn is_idle_in_transaction(session: &Session) -> bool {
    session.xact_start.is_some()
        && matches!(session.state, SessionState::IdleInTransaction | SessionState::IdleInTransactionAborted)
}

/// It is in no transaction, and has done nothing for longer than `limit`.
pub fn is_unused(database: &Database, session: &Session, limit: SignedDuration) -> bool {
    session.state == SessionState::Idle
        && session.xact_start.is_none()
        && unchanged(database, session).is_some_and(|idle| idle > limit)
}

/// The connections that may be used by anybody; `None` where that is not known.
pub fn usable(database: &Database) -> Option<i64> {
    let usable = database.max_connections.checked_sub(database.reserved_connections.max(0))?;
    (database.max_connections > 0 && usable > 0).then_some(usable)
}

/// Whether nearly all of them are in use; `None` where that is not known.
pub fn is_full(database: &Database) -> Option<bool> {
    let usable = i128::from(usable(database)?);
    Some(i128::from(database.connections) * 100 >= usable * i128::from(FULL_PERCENT))
}

/// The same as a sentence, where they are.
pub fn full_words(database: &Database) -> Option<String> {
    let usable = usable(database).filter(|_| is_full(database) == Some(true))?;
    Some(format!(
        "{}: {} of {usable} connections are in use (max_connections {}, {} reserved; threshold {FULL_PERCENT} %)",
        name(database),
        database.connections,
        database.max_connections,
        database.reserved_connections
    ))
}

/// The database is full, and most of its sessions are those of pods of the template in force, which another one worked
/// without: this revision fills it.
pub fn is_filled_by_current(case: &Case, server: &Server) -> bool {
    let Some(database) = of(case).filter(|database| is_full(database) == Some(true)) else { return false };
    let current = server.current_pods();
    let is_theirs = |session: &&Session| match origin(case, session) {
        Origin::Pod(name) => current.iter().any(|pod| pod.name == name),
        Origin::Named | Origin::Elsewhere => false,
    };
    let theirs = own(case, database).filter(is_theirs).count();
    let is_most = i64::try_from(theirs).is_ok_and(|theirs| theirs.saturating_mul(2) > database.connections);
    is_most && server.rollout_is_to_blame()
}

/// The chain's longest wait.
pub fn longest_wait(chain: &BlockingChain) -> SignedDuration {
    chain.waiting.iter().map(|(_, waits)| *waits).max().unwrap_or_default()
}

/// The chains that concern this server and last too long: a session of its own waits in them, or all wait for one.
pub fn blocked<'a>(case: &Case<'a>, database: &'a Database) -> Vec<&'a BlockingChain> {
    let limit = wait_limit(case);
    let concerns = |chain: &BlockingChain| {
        let mut all = chain.waiting.iter().map(|(session, _)| session).chain([&chain.root]);
        all.any(|session| is_own(case, database, session))
    };
    let mut chains: Vec<&BlockingChain> =
        database.chains.iter().filter(|chain| longest_wait(chain) > limit && concerns(chain)).collect();
    chains.sort_by_key(|chain| std::cmp::Reverse(longest_wait(chain)));
    chains
}

/// Why the database lets nobody in, or must be left alone, as a sentence.
pub fn shut_words(case: &Case) -> Option<String> {
    let database = asked(case)?;
    let shut = damage(case, database).or_else(|| disk_words(database));
    shut.or_else(|| full_words(of(case)?))
}

/// Why the database keeps this server from working, as a sentence.
pub fn hindrance(case: &Case) -> Option<String> {
    shut_words(case).or_else(|| {
        let database = of(case)?;
        let mut blocked = blocked(case, database).into_iter();
        let own = blocked.find(|chain| chain.waiting.iter().any(|(one, _)| is_own(case, database, one)))?;
        Some(chain_words(case, database, own))
    })
}

/// `5 sessions wait for a lock, the longest for 2m10s; all for pid 4711, …`.
pub fn chain_words(case: &Case, database: &Database, chain: &BlockingChain) -> String {
    let count = chain.count.max(chain.waiting.len());
    format!(
        "{} for a lock in {}, the longest for {}; all for {}",
        if count == 1 { "1 session waits".to_owned() } else { format!("{count} sessions wait") },
        name(database),
        words::span(longest_wait(chain)),
        describe(case, database, &chain.root)
    )
}

/// What the database finds damaged of its own, unless a person has dealt with it since, as a sentence.
pub fn damage(case: &Case, database: &Database) -> Option<String> {
    if let Some(damage) = &database.damage {
        return Some(format!("{}: {}", name(database), words::shorten(&mask(damage), 240)));
    }
    let (count, last) = database.checksum_failures.filter(|(count, _)| *count > 0)?;
    let is_settled = last.zip(case.signals.settled).is_some_and(|(last, settled)| last <= settled);
    let last = last.map(|last| format!(", the last at {last:.0}")).unwrap_or_default();
    let failed = if count == 1 { "1 page".to_owned() } else { format!("{count} pages") };
    (!is_settled).then(|| format!("{}: {failed} failed their checksum{last}", name(database)))
}

/// Whether a word of the server's own speaks of its database.
pub fn is_named_by(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    ["database", "postgres", "sql", "db_", "connection_pool"].iter().any(|one| word.contains(one))
}

/// That the database can write nothing more to its disk, as a sentence, where it is so.
pub fn disk_words(database: &Database) -> Option<String> {
    let full = database.full_disk()?;
    let said = words::shorten(&mask(&full.said), 240);
    Some(format!("{}: its disk is full, and nothing more can be written: {said}", name(database)))
}

/// Since when something is so that is so for `span` by PostgreSQL's clock, by the operator's; a year ago at most.
pub fn since(case: &Case, span: SignedDuration) -> Timestamp {
    case.now.saturating_sub(span.clamp(SignedDuration::ZERO, LONGEST)).unwrap_or(case.now)
}

/// `PostgreSQL mcp_prod at postgres.mcp:5432`.
pub fn name(database: &Database) -> String {
    if database.words.is_empty() {
        return "PostgreSQL".to_owned();
    }
    format!("PostgreSQL {}", words::shorten(&mask(&database.words), 100))
}

/// `pid 4711 of mcp (mcp-server, pod mcp-server-6f4c-x), idle in transaction for 12m: update accounts set …`.
pub fn describe(case: &Case, database: &Database, session: &Session) -> String {
    let foreign = |word: &str| words::shorten(&mask(word), 64);
    if session.pid == 0 {
        return "a prepared transaction".to_owned();
    }
    if !session.is_client && session.query.trim().is_empty() {
        return format!("pid {}, which is not to be seen", session.pid);
    }
    let from = match (origin(case, session), session.client.as_deref()) {
        (Origin::Pod(pod), _) => format!("pod {pod}"),
        (Origin::Named | Origin::Elsewhere, Some(client)) => foreign(client),
        (Origin::Named | Origin::Elsewhere, None) => "without an address".to_owned(),
    };
    let age =
        unchanged(database, session).map(|age| format!(" for {}", words::span(age))).unwrap_or_default();
    let query = words::shorten(&mask(session.query.trim()), 160);
    let query = if query.is_empty() { query } else { format!(": {query}") };
    format!(
        "pid {} of {} ({}, {from}), {}{age}{query}",
        session.pid,
        foreign(&session.user),
        foreign(&session.application),
        session.state
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_nonsense_holds_none() {
        for (network, client, holds) in [
            ("10.0.0.0/24", "10.0.0.7", true),
            ("10.0.0.0/24", "10.0.1.7", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("::/0", "fd00::1", true),
            ("::/0", "10.0.0.7", false),
            ("fd00::/8", "fd12::1", true),
            ("10.0.0.0/33", "10.0.0.1", false),
            ("10.0.0.0/-1", "10.0.0.1", false),
            ("", "10.0.0.1", false),
            ("mcp", "10.0.0.1", false),
            ("10.0.0.0/", "10.0.0.0", false),
        ] {
            let ip = address(client);
            assert_eq!(ip.map(|ip| contains(network, ip)), Some(holds), "{network} {client}");
        }
        assert_eq!(address("10.0.0.7/32"), address("::ffff:10.0.0.7"));
        assert_eq!(address("[local]"), None);
    }
}
