//! What PostgreSQL tells of the sessions, statements and state behind one application (guides 000, 001 and 004). All
//! lists are bounded, and all queries are normalised: no literal of a statement comes as far as this.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::reading::Reading;

/// The most sessions of the application that are listed, the oldest transactions first.
pub const SESSIONS_SEEN: usize = 400;
/// The most blocking chains that are listed, the longest wait first.
pub const CHAINS_SEEN: usize = 8;
/// The most statements that are listed, the slowest by what ran lately first (guide 004: worst 20).
pub const STATEMENTS_SEEN: usize = 20;
/// The most statements that are listed for how often they run.
pub const FREQUENT_SEEN: usize = 5;
/// The most replication slots that are listed, those that keep most first.
pub const SLOTS_SEEN: usize = 4;
/// The most tables that are listed.
pub const TABLES_SEEN: usize = 10;

/// What the operator's role may not do for want of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGrant {
    /// The role that is not granted.
    pub grant: Grant,
    /// The operator's role, as it may be shown.
    pub role: String,
}

/// A role of PostgreSQL's own that the operator's may be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `pg_monitor`.
    Monitor,
    /// `pg_signal_backend`.
    SignalBackend,
}

impl fmt::Display for MissingGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, grant) = match self.grant {
            Grant::Monitor => ("sessions of other roles cannot be seen", "pg_monitor"),
            Grant::SignalBackend => ("sessions cannot be ended", "pg_signal_backend"),
        };
        write!(f, "{what}: GRANT {grant} TO {}", self.role)
    }
}

/// One database, as one application has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Database {
    /// For people: `mcp_prod at postgres.mcp:5432`. Without credentials.
    pub words: String,
    /// `current_database()`.
    pub database: String,
    /// What the application's sessions call themselves.
    pub application: String,
    /// `server_version_num`: 150014.
    pub version: i32,
    /// PostgreSQL's own clock when it was asked. Ages are by this, whatever the operator's clock says.
    pub at: Timestamp,
    /// When the server was started.
    pub started: Option<Timestamp>,
    /// What the role may not do.
    pub missing_grants: Vec<MissingGrant>,
    /// It may end sessions of the application's roles.
    pub may_end_sessions: bool,
    /// What shows that a pooler stands between the operator and PostgreSQL: process ids are not what they seem.
    pub pooler: Option<String>,
    /// `max_connections`.
    pub max_connections: i64,
    /// `superuser_reserved_connections`, and `reserved_connections` since PostgreSQL 16.
    pub reserved_connections: i64,
    /// Sessions of clients, whoever's, in all databases.
    pub connections: i64,
    /// The application's sessions, by state.
    pub counts: SessionCounts,
    /// The application's sessions; at most [`SESSIONS_SEEN`], those in the oldest transactions first, then those that are
    /// unchanged for longest.
    pub sessions: Vec<Session>,
    /// Who waits for whom, in this database; at most [`CHAINS_SEEN`].
    pub chains: Vec<BlockingChain>,
    /// The oldest transaction of any client in this database.
    pub oldest_transaction: Option<Session>,
    /// The slowest statements in this database, by `pg_stat_statements`; at most [`STATEMENTS_SEEN`].
    /// Unavailable where it is not installed, or may not be read: a sentence that says what to do.
    pub statements: Reading<Vec<Statement>>,
    /// The statements that ran most often between the last two looks, with how often; at most [`FREQUENT_SEEN`]. None
    /// before the second look, and where statements are not counted.
    pub frequent: Vec<Frequent>,
    /// All calls of statements in this database since they are counted.
    pub calls: Option<i64>,
    /// Blocks found in the cache, and blocks asked for, since they are counted.
    pub cache: Option<(i64, i64)>,
    /// The tables with most dead rows, or with statistics that are out of date; at most [`TABLES_SEEN`].
    pub tables: Vec<DatabaseTable>,
    /// Columns in the schema `public` that an index may help (guide 000: many values, weak correlation), as
    /// `table.column`; a hint only.
    pub index_candidates: Vec<String>,
    /// How far the replicas are behind: name, and how long.
    pub replicas: Vec<(String, Option<SignedDuration>)>,
    /// Failed checksums, since they are counted, and the last; `None` where checksums are off.
    pub checksum_failures: Option<(i64, Option<Timestamp>)>,
    /// SQLSTATE XX001 or XX002 that a question of the operator's came to, with the message.
    pub damage: Option<String>,
    /// Whether PostgreSQL can still write files: `None` where a temporary one could be written a minute ago at most.
    /// Unavailable where nothing tells.
    pub disk_full: Reading<Option<DiskFull>>,
    /// Why its sessions could not be read though it answers, as a sentence: nothing but `damage` and `disk_full` is told
    /// then.
    pub unread: Option<String>,
    /// Settings that differ from what the guides advise, each as a sentence (guide 004; scaled, advice only).
    pub settings: Vec<String>,
}

impl Database {
    /// Its disk, where that is known to be full.
    pub fn full_disk(&self) -> Option<&DiskFull> {
        self.disk_full.fresh()?.as_ref()
    }
}

/// A disk that PostgreSQL can write nothing more to, and what takes the space, as far as it may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFull {
    /// PostgreSQL's own message (SQLSTATE 53100).
    pub said: String,
    /// Bytes of this database.
    pub database: Option<i64>,
    /// Bytes of all databases.
    pub all: Option<i64>,
    /// Bytes of the write-ahead log.
    pub wal: Option<i64>,
    /// Replication slots for whose sake the write-ahead log is kept; at most [`SLOTS_SEEN`].
    pub slots: Vec<Slot>,
}

/// A replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Somebody reads from it at this moment.
    pub is_active: bool,
    /// Bytes of the write-ahead log that are kept for it.
    pub kept: i64,
}

/// How many sessions there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// All.
    pub total: i64,
    /// Running a statement.
    pub active: i64,
    /// Doing nothing.
    pub idle: i64,
    /// In a transaction, and doing nothing.
    pub idle_in_transaction: i64,
    /// Waiting for a lock.
    pub waiting: i64,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// Its process.
    pub pid: i32,
    /// When it began.
    pub backend_start: Timestamp,
    /// When its transaction began.
    pub xact_start: Option<Timestamp>,
    /// When its last statement began.
    pub query_start: Option<Timestamp>,
    /// When its state changed last.
    pub state_change: Option<Timestamp>,
    /// What it does.
    pub state: SessionState,
    /// The role that it came as.
    pub user: String,
    /// That role is a superuser, or may replicate: never ended.
    pub is_privileged: bool,
    /// Its database.
    pub database: String,
    /// What it calls itself.
    pub application: String,
    /// The address that it comes from; absent for a socket of the machine itself.
    pub client: Option<String>,
    /// It is a session of a client (`client backend`), not a worker of PostgreSQL's own.
    pub is_client: bool,
    /// What it waits for: `Lock/transactionid`.
    pub waits_for: Option<String>,
    /// Its last statement, normalised and bounded to 200 characters.
    pub query: String,
}

/// What a session does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// Runs a statement.
    Active,
    /// Does nothing.
    Idle,
    /// In a transaction, and does nothing.
    IdleInTransaction,
    /// In a transaction that has failed, and does nothing.
    IdleInTransactionAborted,
    /// Any other, or not to be seen.
    #[default]
    Other,
}

/// Sessions that wait for each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockingChain {
    /// The session that waits for nobody, and for which all others wait. Process 0 is a prepared transaction.
    pub root: Session,
    /// The sessions that wait, by how far they are from the root, with the time that each waits.
    pub waiting: Vec<(Session, SignedDuration)>,
    /// How many sessions wait, listed or not.
    pub count: usize,
}

/// A statement, as `pg_stat_statements` counts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    /// Its id.
    pub id: i64,
    /// Normalised, bounded to 200 characters.
    pub query: String,
    /// How often it ran since it is counted, as all that follows.
    pub calls: i64,
    /// Milliseconds in all.
    pub total_ms: f64,
    /// Milliseconds of one run, on average.
    pub mean_ms: f64,
    /// Milliseconds of the slowest run.
    pub max_ms: f64,
    /// The deviation from the mean, in milliseconds.
    pub stddev_ms: f64,
    /// Rows that it brought in all.
    pub rows: i64,
    /// What ran of it in the last minutes; `None` where nothing tells yet, which a minute does.
    pub recent: Option<Recent>,
}

/// What ran of a statement between looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    /// How often it ran.
    pub calls: i64,
    /// Milliseconds of one of these runs, on average.
    pub mean_ms: f64,
    /// In this time.
    pub span: SignedDuration,
}

/// A statement, and how often it ran between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frequent {
    /// Its id.
    pub id: i64,
    /// Normalised, bounded to 200 characters.
    pub query: String,
    /// Calls a second.
    pub a_second: f64,
}

/// A table, as far as its upkeep goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabaseTable {
    /// `schema.name`.
    pub name: String,
    /// Rows that are there.
    pub live_rows: i64,
    /// Rows that are gone, and take space.
    pub dead_rows: i64,
    /// Rows changed since statistics were taken.
    pub changed_rows: i64,
    /// When it was vacuumed last, by hand or by itself.
    pub vacuumed: Option<Timestamp>,
    /// When its statistics were taken last.
    pub analyzed: Option<Timestamp>,
    /// How often it was read from end to end.
    pub sequential_scans: i64,
}

impl SessionState {
    /// By the word of `pg_stat_activity`.
    pub fn of(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "idle" => Self::Idle,
            "idle in transaction" => Self::IdleInTransaction,
            "idle in transaction (aborted)" => Self::IdleInTransactionAborted,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::IdleInTransactionAborted => "idle in transaction (aborted)",
            Self::Other => "not to be seen",
        })
    }
}
