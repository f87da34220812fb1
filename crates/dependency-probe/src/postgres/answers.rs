//! What PostgreSQL answered, and the view that is made of it. Nothing of an answer is taken at its word but
//! numbers, moments and names: texts are normalised, masked and bounded here.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use mcp_health_core::{
    mcp::foreign,
    signals::database::{
        Database, DatabaseTable, DiskFull, Grant, MissingGrant, Recent, SESSIONS_SEEN, SLOTS_SEEN, Session,
        SessionCounts, SessionState, Slot, Statement,
    },
};
use serde::Deserialize;

use super::{
    chains::{Waiting, chains},
    normalise::normalise,
};

/// The answer to `questions::sessions`.
#[derive(Deserialize)]
pub struct Sessions {
    at: Timestamp,
    /// The process of the session that answered.
    pub pid: i32,
    database: String,
    role: String,
    version: i32,
    started: Option<Timestamp>,
    pub sees_all: bool,
    signals_all: bool,
    /// The role has the rights of all that the application comes as. Absent without sessions of it.
    pub owns: Option<bool>,
    max_connections: i64,
    reserved: i64,
    connections: i64,
    counts: Counts,
    /// As it was asked for.
    application: String,
    rows: Option<Vec<SessionRow>>,
    waiting: Option<Vec<WaitingRow>>,
    statistics: Option<Statistics>,
    checksums: Option<Checksums>,
    replicas: Option<Vec<Replica>>,
    /// How far a server that only follows another is behind, in seconds.
    behind: Option<f64>,
}

#[derive(Deserialize)]
struct Counts {
    total: i64,
    active: i64,
    idle: i64,
    idle_in_transaction: i64,
    waiting: i64,
}

#[derive(Deserialize)]
struct SessionRow {
    pid: i32,
    database: Option<String>,
    user: Option<String>,
    application: Option<String>,
    client: Option<String>,
    is_client: bool,
    backend_start: Option<Timestamp>,
    xact_start: Option<Timestamp>,
    query_start: Option<Timestamp>,
    state_change: Option<Timestamp>,
    state: Option<String>,
    waits_for: Option<String>,
    privileged: bool,
    query: Option<String>,
}

#[derive(Deserialize)]
struct WaitingRow {
    pid: i32,
    since: Option<Timestamp>,
    blockers: Vec<i32>,
}

#[derive(Deserialize)]
struct Statistics {
    hit: i64,
    read: i64,
}

#[derive(Deserialize)]
struct Checksums {
    failures: Option<i64>,
    last: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Replica {
    name: Option<String>,
    behind: Option<f64>,
}

/// The answer to `questions::space`.
#[derive(Deserialize)]
pub struct Space {
    database: Option<i64>,
    all: Option<i64>,
    wal: Option<i64>,
    slots: Option<Vec<SlotRow>>,
}

#[derive(Deserialize)]
struct SlotRow {
    name: String,
    active: bool,
    kept: Option<i64>,
}

/// The answer to `questions::upkeep`.
#[derive(Deserialize)]
pub struct Upkeep {
    tables: Option<Vec<TableRow>>,
    candidates: Option<Vec<String>>,
    pub settings: Option<BTreeMap<String, Option<String>>>,
    /// Where statements are counted.
    pub extension: Option<Extension>,
}

#[derive(Deserialize)]
struct TableRow {
    name: String,
    live: i64,
    dead: i64,
    changed: i64,
    vacuumed: Option<Timestamp>,
    analyzed: Option<Timestamp>,
    scans: Option<i64>,
}

/// `pg_stat_statements`.
#[derive(Deserialize)]
pub struct Extension {
    /// Its schema, in quotes where it takes them.
    pub schema: String,
    version: String,
}

/// The answer to `questions::statements`.
#[derive(Deserialize)]
pub struct Statements {
    pub calls: Option<i64>,
    /// How many statements are counted, those among them that may not be seen as one.
    groups: usize,
    /// Seconds since all began to be counted.
    counted_for: Option<f64>,
    listed: Option<Vec<StatementRow>>,
}

/// A statement, as it is counted, whoever ran it.
#[derive(Deserialize)]
pub struct StatementRow {
    pub id: i64,
    query: Option<String>,
    pub calls: i64,
    /// Milliseconds in all.
    pub total: f64,
    pub max: f64,
    stddev: f64,
    rows: i64,
}

impl Sessions {
    /// What it tells of the application.
    pub fn view(self, words: String) -> Database {
        let rows = self.rows.unwrap_or_default();
        let all: Vec<Session> = rows.into_iter().map(SessionRow::view).collect();
        let waiting: Vec<Waiting> =
            self.waiting.unwrap_or_default().into_iter().map(WaitingRow::view).collect();
        let database = &self.database;
        let oldest = all.iter().filter(|one| one.is_client && one.database == *database);
        let oldest = oldest.filter(|one| one.pid != self.pid && one.xact_start.is_some());
        let oldest_transaction = oldest.min_by_key(|one| one.xact_start).cloned();
        let is_ours = |one: &&Session| {
            let is_client = one.is_client || !self.sees_all;
            one.application == self.application && one.database == *database && is_client
        };
        let sessions = all.iter().filter(is_ours).take(SESSIONS_SEEN).cloned().collect();
        let role = foreign(&self.role, None);
        let may_end_sessions = self.signals_all || self.owns == Some(true);
        let missing = [(Grant::Monitor, self.sees_all), (Grant::SignalBackend, may_end_sessions)];
        let missing = missing.into_iter().filter(|(_, is_granted)| !is_granted);
        let missing_grants = missing.map(|(grant, _)| MissingGrant { grant, role: role.clone() }).collect();
        let own = self.behind.map(|behind| ("this server itself".to_owned(), seconds(behind)));
        let replicas = self.replicas.unwrap_or_default().into_iter();
        let replicas = replicas.map(|one| {
            let name = one.name.map(|name| foreign(&name, None));
            (name.unwrap_or_else(|| "a replica".to_owned()), one.behind.and_then(seconds))
        });
        Database {
            words,
            chains: chains(&waiting, &all, self.at),
            sessions,
            oldest_transaction,
            database: self.database,
            application: self.application,
            version: self.version,
            at: self.at,
            started: self.started,
            missing_grants,
            may_end_sessions,
            max_connections: self.max_connections,
            reserved_connections: self.reserved,
            connections: self.connections,
            counts: SessionCounts {
                total: self.counts.total,
                active: self.counts.active,
                idle: self.counts.idle,
                idle_in_transaction: self.counts.idle_in_transaction,
                waiting: self.counts.waiting,
            },
            cache: self.statistics.map(|seen| (seen.hit, seen.hit.saturating_add(seen.read))),
            replicas: own.into_iter().chain(replicas).take(16).collect(),
            checksum_failures: self.checksums.and_then(|seen| Some((seen.failures?, seen.last))),
            ..Database::default()
        }
    }
}

impl SessionRow {
    fn view(self) -> Session {
        Session {
            pid: self.pid,
            backend_start: self.backend_start.unwrap_or_default(),
            xact_start: self.xact_start,
            query_start: self.query_start,
            state_change: self.state_change,
            state: self.state.as_deref().map(SessionState::of).unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            is_privileged: self.privileged,
            database: self.database.unwrap_or_default(),
            application: self.application.unwrap_or_default(),
            client: self.client,
            is_client: self.is_client,
            waits_for: self.waits_for.map(|text| foreign(&text, None)),
            query: self.query.map(|text| normalise(&text)).unwrap_or_default(),
        }
    }
}

impl WaitingRow {
    fn view(self) -> Waiting {
        Waiting { pid: self.pid, since: self.since, blockers: self.blockers }
    }
}

impl Space {
    /// What takes the space of a disk that is full, beside what was said of it.
    pub fn view(self, said: String) -> DiskFull {
        let slots = self.slots.unwrap_or_default().into_iter().filter_map(|row| {
            let kept = row.kept.filter(|kept| *kept > 0)?;
            Some(Slot { name: foreign(&row.name, None), is_active: row.active, kept })
        });
        let slots = slots.take(SLOTS_SEEN).collect();
        DiskFull { said, database: self.database, all: self.all, wal: self.wal, slots }
    }
}

impl Upkeep {
    /// The tables, and the index candidates.
    pub fn view(self) -> (Vec<DatabaseTable>, Vec<String>) {
        let table = |row: TableRow| DatabaseTable {
            name: foreign(&row.name, None),
            live_rows: row.live,
            dead_rows: row.dead,
            changed_rows: row.changed,
            vacuumed: row.vacuumed,
            analyzed: row.analyzed,
            sequential_scans: row.scans.unwrap_or_default(),
        };
        let candidates = self.candidates.unwrap_or_default().into_iter();
        let tables = self.tables.unwrap_or_default().into_iter().map(table).collect();
        (tables, candidates.map(|name| foreign(&name, None)).collect())
    }
}

impl Extension {
    /// `1.10` as two numbers.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or_default());
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
    }
}

impl Statements {
    /// Those that matter.
    pub fn rows(&self) -> &[StatementRow] {
        self.listed.as_deref().unwrap_or_default()
    }

    /// None was left out.
    pub fn is_whole(&self) -> bool {
        self.rows().len() == self.groups
    }

    /// For how long they are counted.
    pub fn counted_for(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.counted_for?).ok()
    }
}

impl StatementRow {
    /// The statement.
    pub fn query(&self) -> String {
        self.query.as_deref().map(normalise).unwrap_or_default()
    }

    /// Milliseconds of one run, on average since it is counted.
    pub fn mean(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // To be judged by, not to be counted with.
        let calls = self.calls.max(1) as f64;
        self.total / calls
    }

    /// The statement, with what ran of it lately.
    pub fn view(&self, recent: Option<Recent>) -> Statement {
        Statement {
            id: self.id,
            query: self.query(),
            calls: self.calls,
            total_ms: self.total,
            mean_ms: self.mean(),
            max_ms: self.max,
            stddev_ms: self.stddev,
            rows: self.rows,
            recent,
        }
    }
}

fn seconds(seconds: f64) -> Option<SignedDuration> {
    SignedDuration::try_from_secs_f64(seconds).ok()
}
