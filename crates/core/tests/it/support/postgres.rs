//! A PostgreSQL with the sessions of the pods and of others, as the operator sees it every quarter of a minute.

use std::net::IpAddr;

use jiff::SignedDuration;
use mcp_health_api::SessionFence;
use mcp_health_core::signals::{
    Database, Reading,
    database::{BlockingChain, DiskFull, Recent, Session, SessionCounts, SessionState, Slot, Statement},
};

use super::moment;

/// Seconds between two looks.
const INTERVAL: i64 = 15;
/// Connections that every pod keeps, idle, for less than ten seconds each.
const POOLED: usize = 3;
/// Sessions of others.
const OTHERS: i64 = 8;
pub const MAX_CONNECTIONS: i64 = 100;
pub const RESERVED: i64 = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Postgres {
    pub now: i64,
    pub sessions: Vec<Session>,
    serial: i32,
    /// Others use nearly all connections.
    pub crowded: bool,
    /// Somebody else's session keeps the server's from going on, since then.
    pub locked: Option<i64>,
    /// A statement takes more than a second.
    pub slow: bool,
    /// Nothing more can be written.
    pub disk_full: bool,
    /// Checksums that failed.
    pub failures: i64,
    /// What the operator saw last.
    pub seen: Database,
    /// All that were ended.
    pub ended: Vec<Session>,
}

/// A session of the server's own, from this address, that began a transaction and has done nothing since.
pub fn left_alone(pid: i32, since: i64, client: IpAddr) -> Session {
    Session {
        xact_start: Some(moment(since)),
        query_start: Some(moment(since)),
        state: SessionState::IdleInTransaction,
        query: "UPDATE accounts SET balance = balance - $1 WHERE id = $2".to_owned(),
        ..idle(pid, since, client)
    }
}

/// A session of the server's own that does nothing.
pub fn idle(pid: i32, since: i64, client: IpAddr) -> Session {
    Session {
        pid,
        backend_start: moment(since - 5),
        state_change: Some(moment(since)),
        state: SessionState::Idle,
        user: "mcp".to_owned(),
        database: "mcp_prod".to_owned(),
        application: "mcp-server".to_owned(),
        client: Some(client.to_string()),
        is_client: true,
        query: "SELECT id FROM orders WHERE customer_id = $1".to_owned(),
        ..Session::default()
    }
}

/// A database in which all is well, without a session.
pub fn well(now: i64) -> Database {
    Database {
        words: "mcp_prod at postgres.mcp:5432".to_owned(),
        database: "mcp_prod".to_owned(),
        application: "mcp-server".to_owned(),
        version: 170_002,
        at: moment(now),
        may_end_sessions: true,
        max_connections: MAX_CONNECTIONS,
        reserved_connections: RESERVED,
        connections: OTHERS,
        statements: Reading::Fresh(vec![ran_on_average(3.0)]),
        checksum_failures: Some((0, None)),
        disk_full: Reading::Fresh(None),
        ..Database::default()
    }
}

/// A statement that ran as long lately as since it is counted.
fn ran_on_average(mean_ms: f64) -> Statement {
    Statement { mean_ms, calls: 100, recent: Some(ran(mean_ms)), ..Statement::default() }
}

/// Runs that took so long on average.
pub fn ran(mean_ms: f64) -> Recent {
    Recent { calls: 12, mean_ms, span: SignedDuration::from_mins(9) }
}

/// A disk that is full, mostly of what is kept for a replica that is gone.
pub fn full_disk() -> DiskFull {
    let said = "could not write to file \"base/pgsql_tmp/pgsql_tmp81.0\": No space left on device (53100)";
    DiskFull {
        said: said.to_owned(),
        database: Some(2 << 30),
        all: Some(2100 << 20),
        wal: Some(8 << 30),
        slots: vec![Slot { name: "standby".to_owned(), is_active: false, kept: 8000 << 20 }],
    }
}

impl Postgres {
    /// So many sessions of a pod begin a transaction, and are left alone.
    pub fn leak(&mut self, sessions: usize, client: IpAddr) {
        for _ in 0..sessions {
            self.serial += 1;
            self.sessions.push(left_alone(1000 + self.serial, self.now, client));
        }
    }

    /// Every second of the sessions goes on with its work, in another transaction.
    pub fn go_on(&mut self) {
        for session in self.sessions.iter_mut().step_by(2) {
            session.state = SessionState::Active;
            (session.state_change, session.xact_start) = (Some(moment(self.now)), Some(moment(self.now)));
        }
    }

    /// Connections of a pod that are in a transaction.
    pub fn held_by(&self, client: IpAddr) -> i32 {
        let client = Some(client.to_string());
        let held = self.sessions.iter().filter(|one| one.client == client && one.xact_start.is_some());
        i32::try_from(held.count()).unwrap()
    }

    /// What `pg_terminate_backend` ends of what was recorded: only what is all of that.
    pub fn end(&mut self, fence: &SessionFence) -> Vec<String> {
        let is_recorded = |one: &mut Session| {
            let xact = one.xact_start.map_or_else(|| "-".to_owned(), |at| at.to_string());
            let line = format!("{} {} {xact} {}", one.pid, one.backend_start, one.state_change.unwrap());
            fence.list.contains(&line)
                && fence.state == one.state.to_string()
                && (&fence.user, &fence.database, &fence.application)
                    == (&one.user, &one.database, &one.application)
        };
        let ended: Vec<Session> = self.sessions.extract_if(.., is_recorded).collect();
        let pids = ended.iter().map(|one| one.pid.to_string()).collect();
        self.ended.extend(ended);
        pids
    }

    /// Sessions end with their pods; the pools of those that are there go on.
    pub fn tick(&mut self, now: i64, pods: &[IpAddr]) {
        self.now = now;
        let is_there = |one: &Session| pods.iter().any(|pod| one.client == Some(pod.to_string()));
        self.sessions.retain(is_there);
        if now / INTERVAL * INTERVAL > self.seen.at.as_second() - moment(0).as_second() {
            self.seen = self.look(pods);
        }
    }

    fn look(&self, pods: &[IpAddr]) -> Database {
        let at = self.now - self.now % INTERVAL;
        let mut sessions = self.sessions.clone();
        for (number, pod) in pods.iter().enumerate() {
            for one in 0..POOLED {
                let pid = i32::try_from(100_000 + number * POOLED + one).unwrap();
                sessions.push(idle(pid, at - i64::try_from(one).unwrap(), *pod));
            }
        }
        let count = |is: &dyn Fn(&Session) -> bool| {
            i64::try_from(sessions.iter().filter(|one| is(one)).count()).unwrap()
        };
        let counts = SessionCounts {
            total: count(&|_| true),
            active: count(&|one| one.state == SessionState::Active),
            idle: count(&|one| one.state == SessionState::Idle),
            idle_in_transaction: count(&|one| one.state == SessionState::IdleInTransaction),
            waiting: 0,
        };
        let others = if self.crowded { 95 } else { OTHERS };
        let waits = self.locked.zip(sessions.last()).map(|(since, waiting)| {
            let root = Session {
                pid: 7,
                application: "reports".to_owned(),
                ..left_alone(7, since, IpAddr::from([10, 9, 9, 9]))
            };
            let waiting = vec![(waiting.clone(), SignedDuration::from_secs((at - since).max(0)))];
            BlockingChain { root, waiting, count: 1 }
        });
        let mean_ms = if self.slow { 1500.0 } else { 3.0 };
        Database {
            statements: Reading::Fresh(vec![ran_on_average(mean_ms)]),
            connections: (others + counts.total).min(MAX_CONNECTIONS - RESERVED),
            counts,
            sessions,
            chains: waits.into_iter().collect(),
            disk_full: Reading::Fresh(self.disk_full.then(full_disk)),
            checksum_failures: Some((self.failures, (self.failures > 0).then(|| moment(at)))),
            ..well(at)
        }
    }
}
