//! What PostgreSQL is asked: each question is one `SELECT` of one JSON document, so that one look is one
//! statement.

use std::{fmt::Write, time::Duration};

/// Every statement of the operator's own bears it, so that it can be told from others'.
pub const MARK: &str = "/* mcp-health-operator */";
/// The most of a statement's text that is fetched, in characters: what is told of it is shorter by far.
const TEXT: usize = 1000;
/// The most sessions that wait for a lock of which it is asked for whom.
const WAITING: usize = 100;
/// Rows that are more than `work_mem` holds, so that they are written to a file.
const SPILLED: usize = 20_000;

/// A text as SQL, whatever it contains and whatever the settings say of quotes.
pub fn text(text: &str) -> String {
    let mut hex = String::with_capacity(2 * text.len());
    for byte in text.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    format!("convert_from(decode('{hex}', 'hex'), 'UTF8')")
}

/// A question with its limits. Sent as one simple query, it is one transaction: what is set in it ends with
/// it, whoever lends the session, and so does the transaction, whatever goes wrong.
pub fn limited(question: &str, patience: Duration) -> String {
    let millis = patience.as_millis().max(1);
    format!(
        "SET LOCAL search_path = pg_catalog; SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = \
         {millis}; SET LOCAL jit = off; SET LOCAL lock_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}; {question}"
    )
}

/// Whether a file can still be written where the database's own are: a temporary one of some hundred kB, that
/// is gone with its statement. Allowed to everybody, also read-only and on a server that only follows
/// another. Each minute.
pub fn spill() -> String {
    format!(
        "SET LOCAL work_mem = '64kB'; SET LOCAL temp_tablespaces = ''; SELECT {MARK} count(*) FROM generate_series(1, {SPILLED})"
    )
}

/// What takes the space of a disk that is full. The write-ahead log may be listed by `pg_monitor` alone.
pub fn space(with_wal: bool, slots: usize) -> String {
    let wal = if with_wal { "(SELECT sum(size)::int8 FROM pg_ls_waldir())" } else { "NULL" };
    format!(
        "SELECT {MARK} json_build_object('database', pg_database_size(current_database()),
  'all', CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
    (SELECT sum(pg_database_size(oid))::int8 FROM pg_database) END,
  'wal', {wal},
  'slots', (SELECT json_agg(json_build_object('name', slot_name, 'active', active, 'kept', kept)) FROM (
    SELECT slot_name, active, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()
      ELSE pg_current_wal_lsn() END, restart_lsn)::int8 AS kept
    FROM pg_replication_slots WHERE restart_lsn IS NOT NULL ORDER BY 3 DESC NULLS LAST LIMIT {slots}) most))"
    )
}

/// The sessions of an application, who waits for whom, and what else costs little. Each look.
pub fn sessions(major: i32, application: &str, listed: usize) -> String {
    let application = text(application);
    // Since when a lock is waited for is known from 14 on; before, since when at the earliest.
    let since = if major >= 14 {
        "(SELECT min(l.waitstart) FROM pg_locks l WHERE l.pid = activity.pid AND NOT l.granted)"
    } else {
        "NULL"
    };
    // Roles without pg_read_all_stats see of others' sessions whose they are, and nothing else.
    format!(
        "WITH activity AS MATERIALIZED (
  SELECT a.pid, a.datid, a.datname, a.usename, a.usesysid, a.application_name, a.client_addr, a.backend_type,
    a.backend_start, a.xact_start, a.query_start, a.state_change, a.state, a.wait_event_type, a.wait_event,
    coalesce(r.rolsuper OR r.rolreplication, true) AS privileged, a.query
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
), clients AS (
  SELECT * FROM activity WHERE usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
), app AS (
  SELECT * FROM clients WHERE datname = current_database() AND application_name = {application}
), waiting AS MATERIALIZED (
  SELECT pid, pg_blocking_pids(pid) AS blockers, coalesce({since}, query_start) AS since FROM activity
  WHERE wait_event_type = 'Lock' AND datname = current_database() ORDER BY query_start LIMIT {WAITING}
), listed AS (
  SELECT pid FROM (SELECT pid FROM app ORDER BY xact_start NULLS LAST, state_change LIMIT {listed}) first
  UNION SELECT pid FROM waiting UNION SELECT unnest(blockers) FROM waiting
  UNION (SELECT pid FROM clients WHERE datname = current_database() AND xact_start IS NOT NULL
    AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1)
)
SELECT {MARK} json_build_object(
  'at', clock_timestamp(), 'pid', pg_backend_pid(), 'database', current_database(), 'role', current_user,
  'version', current_setting('server_version_num')::int, 'started', pg_postmaster_start_time(),
  'sees_all', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  'signals_all', pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),
  'owns', (SELECT bool_and(pg_has_role(usesysid, 'USAGE')) FROM app),
  'max_connections', current_setting('max_connections')::int,
  'reserved', current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0),
  'connections', (SELECT count(*) FROM clients),
  'counts', (SELECT json_build_object('total', count(*), 'active', count(*) FILTER (WHERE state = 'active'),
    'idle', count(*) FILTER (WHERE state = 'idle'),
    'idle_in_transaction', count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
    'waiting', count(*) FILTER (WHERE wait_event_type = 'Lock')) FROM app),
  'application', {application},
  'rows', (SELECT json_agg(json_build_object('pid', pid, 'database', datname, 'user', usename, 'application',
    application_name, 'client', host(client_addr), 'is_client', coalesce(backend_type, '') = 'client backend',
    'backend_start', backend_start, 'xact_start', xact_start, 'query_start', query_start, 'state_change', state_change,
    'state', state, 'waits_for', wait_event_type || '/' || wait_event, 'privileged', privileged,
    'query', CASE WHEN datid = (SELECT oid FROM pg_database WHERE datname = current_database())
      THEN left(query, {TEXT}) END) ORDER BY xact_start NULLS LAST, state_change)
    FROM activity WHERE pid IN (SELECT pid FROM listed)),
  'waiting', (SELECT json_agg(json_build_object('pid', pid, 'since', since, 'blockers', blockers)) FROM waiting),
  'statistics', (SELECT json_build_object('hit', blks_hit, 'read', blks_read) FROM pg_stat_database
    WHERE datname = current_database()),
  'checksums', (SELECT json_build_object('failures', sum(checksum_failures), 'last', max(checksum_last_failure))
    FROM pg_stat_database WHERE datname = current_database() OR datid = 0),
  'replicas', (SELECT json_agg(json_build_object('name', coalesce(nullif(application_name, ''), host(client_addr)),
    'behind', extract(epoch FROM replay_lag)::float8)) FROM pg_stat_replication),
  'behind', CASE WHEN pg_is_in_recovery() THEN
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END
)"
    )
}

/// Tables, index candidates, settings, and where statements are counted. Each minute.
pub fn upkeep(tables: usize, candidates: usize, settings: &[&str]) -> String {
    let names: Vec<String> = settings.iter().map(|name| format!("'{name}'")).collect();
    // A negative n_distinct is a share of the rows. What an index begins with is no candidate for another.
    format!(
        "SELECT {MARK} json_build_object(
  'tables', (SELECT json_agg(json_build_object('name', schemaname || '.' || relname, 'live', n_live_tup, 'dead',
    n_dead_tup, 'changed', n_mod_since_analyze, 'vacuumed', greatest(last_vacuum, last_autovacuum), 'analyzed',
    greatest(last_analyze, last_autoanalyze), 'scans', seq_scan)) FROM (SELECT * FROM pg_stat_user_tables
    ORDER BY greatest(n_dead_tup, n_mod_since_analyze) DESC LIMIT {tables}) most),
  'candidates', (SELECT json_agg(name) FROM (SELECT name FROM (SELECT s.tablename || '.' || s.attname AS name,
    CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * greatest(c.reltuples, 0) ELSE s.n_distinct END AS distinct_values
    FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname
    WHERE s.schemaname = 'public' AND abs(s.correlation) < 0.1 AND NOT s.inherited
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum)) candidate
    WHERE distinct_values > 100 ORDER BY distinct_values DESC LIMIT {candidates}) best),
  'settings', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN ({names})),
  'extension', (SELECT json_build_object('schema', quote_ident(n.nspname), 'version', e.extversion)
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements')
)",
        names = names.join(", ")
    )
}

/// The statements of this database that matter: of each kind so many, those that ran most often, that took
/// most time in all, that are slowest by mean and by their slowest run; and the calls of all. `schema` is a
/// name in quotes, as SQL; columns are called otherwise since 1.8, and since when is counted is told from 1.9
/// on.
pub fn statements(schema: &str, version: (u32, u32), listed: usize) -> String {
    let (total, max, stddev) = if version >= (1, 8) {
        ("total_exec_time", "max_exec_time", "stddev_exec_time")
    } else {
        ("total_time", "max_time", "stddev_time")
    };
    let counted_for = if version >= (1, 9) {
        format!(
            "(SELECT extract(epoch FROM clock_timestamp() - stats_reset)::float8 FROM {schema}.pg_stat_statements_info)"
        )
    } else {
        "NULL".to_owned()
    };
    format!(
        "WITH counted AS MATERIALIZED (
  SELECT queryid AS id, min(left(query, {TEXT})) AS query, sum(calls)::int8 AS calls, sum({total}) AS total,
    max({max}) AS max, max({stddev}) AS stddev, sum(rows)::int8 AS rows
  FROM {schema}.pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND coalesce(query, '') NOT LIKE '%{MARK}%' AND coalesce(query, '') NOT LIKE 'SET LOCAL %' GROUP BY queryid
), seen AS (
  SELECT * FROM counted WHERE id IS NOT NULL AND query <> '<insufficient privilege>'
), picked AS (
  (SELECT id FROM seen ORDER BY calls DESC LIMIT {listed}) UNION (SELECT id FROM seen ORDER BY total DESC LIMIT {listed})
  UNION (SELECT id FROM seen ORDER BY total / greatest(calls, 1) DESC LIMIT {listed})
  UNION (SELECT id FROM seen ORDER BY max DESC LIMIT {listed})
)
SELECT {MARK} json_build_object('calls', (SELECT sum(calls)::int8 FROM counted), 'groups', (SELECT count(*) FROM counted),
  'counted_for', {counted_for}, 'listed', (SELECT json_agg(json_build_object('id', id, 'query', query, 'calls', calls,
  'total', total, 'max', max, 'stddev', stddev, 'rows', rows)) FROM seen WHERE id IN (SELECT id FROM picked)))"
    )
}
