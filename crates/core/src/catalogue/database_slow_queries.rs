//! DatabaseSlowQueries: statements in the server's database take longer than a second on average. Advice for
//! whoever writes the statements: nothing is ever done.
//!
//! Judged by what ran between looks, over ten minutes at the most: `pg_stat_statements` counts since it was
//! reset, and by that mean a statement would be slow for long after an index was made. It is over when what
//! runs of it is fast, or when it did not run at all for so long. What it says in the first minute is no
//! evidence of now: it neither opens nor closes (but where all is counted for less than ten minutes). The
//! mean since then is told beside.

use jiff::SignedDuration;
use mcp_health_api::{Cause, IncidentType, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, Evidence, Needs, Rule, USUAL},
};
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement},
    mask::mask,
    metrics::{Traffic, View},
    signals::{
        Database, Reading,
        database::{DatabaseTable, Recent, Statement},
    },
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DatabaseSlowQueries,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Database]),
    at_zero: true,
    guide: &[("004", "Database Tuning"), ("000", "Performance Degradation")],
    ..USUAL
};

/// A statement is slow, in milliseconds on average (guide 000).
const SLOW: f64 = 1000.0;
/// It is worth a look from here on (guide 004).
const TUNING: f64 = 100.0;
/// Slow statements that are named in evidence.
const NAMED: usize = 2;
/// A table of which this share was changed since, and this many rows, is planned for by old statistics: what
/// autovacuum waits for by itself, and as long again.
const STALE_SHARE: i64 = 5;
const STALE_ROWS: i64 = 1000;
/// For one request, a statement that runs so often is asked for row by row (guide 000, N+1) …
const REPEATED: f64 = 10.0;
/// … where there are so many requests a second that they tell.
const FEWEST_A_SECOND: f64 = 0.1;
/// Indexes that are named for one statement.
const INDEXES: usize = 3;
/// A cache that finds fewer of a hundred blocks is too small.
const CACHE_PERCENT: f64 = 90.0;
/// Fewer blocks tell nothing.
const FEWEST_BLOCKS: i64 = 100_000;
/// A transaction that is open for longer keeps dead rows from being removed.
const LONG: SignedDuration = SignedDuration::from_hours(1);

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(seen) = database::of(case) else { return Judgement::Unknown };
    let Reading::Fresh(statements) = &seen.statements else { return Judgement::Unknown };
    let above = |least: f64| {
        let ran = statements.iter().filter_map(|one| Some((one, one.recent.filter(|ran| ran.calls > 0)?)));
        let mut all: Vec<(&Statement, Recent)> = ran.filter(|(_, ran)| ran.mean_ms > least).collect();
        all.sort_by(|(_, a), (_, b)| b.mean_ms.total_cmp(&a.mean_ms));
        all
    };
    let slow = above(SLOW);
    let Some((first, ran)) = slow.first() else {
        // No run was slower than its slowest.
        let may_be = |one: &Statement| one.recent.is_none() && (one.max_ms > SLOW || one.mean_ms > SLOW);
        return if statements.iter().any(may_be) { Judgement::Unknown } else { Judgement::Clear };
    };
    let view = View::of(case, server);
    let (cause, why) = cause(seen, first, view.as_ref());
    let mut evidence: Vec<String> = slow.iter().take(NAMED).map(|(one, ran)| describe(one, *ran)).collect();
    evidence.splice(1..1, why);
    evidence.push(format!(
        "{} above {SLOW} ms on average, {} above {TUNING} ms, of what ran in the last {} (by pg_stat_statements)",
        words::count(slow.len(), "statement"),
        above(TUNING).len(),
        words::span(ran.span)
    ));
    evidence.extend(mended(statements));
    evidence.extend(repeated(seen, view.as_ref()).filter(|_| cause != Cause::RepeatedStatement));
    evidence.extend(upkeep(seen));
    evidence.extend(settings(seen));
    Judgement::Found(Finding::new(
        IncidentType::DatabaseSlowQueries,
        cause,
        Severity::SEV4,
        case.now,
        evidence,
    ))
}

/// `slower than that since they are counted, and not lately: 1 statement ran faster, 2 did not run`.
fn mended(statements: &[Statement]) -> Option<String> {
    let was = statements.iter().filter(|one| one.mean_ms > SLOW);
    let is = was.filter_map(|one| one.recent).filter(|ran| ran.calls == 0 || ran.mean_ms <= SLOW);
    let (idle, fast): (Vec<Recent>, Vec<Recent>) = is.partition(|ran| ran.calls == 0);
    (!idle.is_empty() || !fast.is_empty()).then(|| {
        format!(
            "slower than that since they are counted, and not lately: {} ran faster, {} did not run",
            words::count(fast.len(), "statement"),
            idle.len()
        )
    })
}

/// `2300 ms on average in 12 runs of the last 9m (threshold 1000 ms); since it is counted 1500 ms ± 20, 120
/// calls, 276 s in all, 9000 ms at most: select …`.
fn describe(one: &Statement, ran: Recent) -> String {
    format!(
        "{} ms on average in {} of the last {} (threshold {SLOW} ms); since it is counted {} ms ± {}, {} calls, {} s in \
         all, {} ms at most: {}",
        by::number(ran.mean_ms),
        words::count(usize::try_from(ran.calls).unwrap_or_default(), "run"),
        words::span(ran.span),
        by::number(one.mean_ms),
        by::number(one.stddev_ms),
        one.calls,
        by::number(one.total_ms / 1000.0),
        by::number(one.max_ms),
        words::shorten(&mask(one.query.trim()), 200)
    )
}

/// Why the slowest takes long, as far as can be told, and what may help.
fn cause(seen: &Database, slowest: &Statement, view: Option<&View>) -> (Cause, Vec<String>) {
    let named = tables(&slowest.query);
    let of_it = |table: &&DatabaseTable| named.iter().any(|name| is_table(name, &table.name));
    if let Some(table) = seen.tables.iter().filter(of_it).find(|table| is_stale(table)) {
        return (Cause::StaleStatistics, vec![stale_words(table)]);
    }
    let read_whole = |name: &str| {
        let mut known = seen.tables.iter().filter(|table| is_table(name, &table.name));
        // Of a table that is not listed, nothing speaks against it.
        known.all(|table| table.sequential_scans > 0)
    };
    let columns: Vec<String> = seen
        .index_candidates
        .iter()
        .filter_map(|one| one.rsplit_once('.'))
        .filter(|(table, _)| named.iter().any(|name| is_table(name, table) && read_whole(name)))
        .filter(|(_, column)| identifiers(&slowest.query).any(|word| word == column.to_ascii_lowercase()))
        .take(INDEXES)
        .map(|(table, column)| {
            format!("CREATE INDEX CONCURRENTLY ON {} ({})", by::foreign(table), by::foreign(column))
        })
        .collect();
    if !columns.is_empty() {
        let advice = format!(
            "an index may help, then ANALYZE; try it with EXPLAIN first, the statistics are a hint only: {}",
            columns.join("; ")
        );
        return (Cause::MissingIndex, vec![advice]);
    }
    if let Some(words) = repeated(seen, view) {
        return (Cause::RepeatedStatement, vec![words]);
    }
    let advice = "EXPLAIN (ANALYZE, BUFFERS) of it tells where its time goes".to_owned();
    (Cause::SlowStatement, vec![advice])
}

/// `one statement runs 40 times for each request …: select …`.
fn repeated(seen: &Database, view: Option<&View>) -> Option<String> {
    let Traffic::Some { per_second, .. } = view?.traffic() else { return None };
    let most = seen.frequent.iter().filter(|one| one.a_second.is_finite());
    let most = most.max_by(|a, b| a.a_second.total_cmp(&b.a_second))?;
    let each = most.a_second / per_second;
    (per_second >= FEWEST_A_SECOND && each >= REPEATED).then(|| {
        format!(
            "one statement runs {} times for each request ({} against {} a second): one that asks for all rows at once \
             would do (N+1): {}",
            by::number(each),
            by::number(most.a_second),
            by::number(per_second),
            words::shorten(&mask(most.query.trim()), 160)
        )
    })
}

/// What else the database wants done.
fn upkeep(seen: &Database) -> Option<String> {
    let stale = seen.tables.iter().find(|table| is_stale(table)).map(stale_words);
    let dead =
        seen.tables.iter().find(|table| table.dead_rows > STALE_ROWS && table.dead_rows > table.live_rows);
    let dead = dead.map(|table| {
        format!(
            "table {} holds {} dead rows beside {} live ones: VACUUM (ANALYZE)",
            by::foreign(&table.name),
            table.dead_rows,
            table.live_rows
        )
    });
    let oldest = seen.oldest_transaction.as_ref().and_then(|oldest| {
        let age = seen.at.duration_since(oldest.xact_start?);
        (age > LONG).then(|| {
            format!(
                "the oldest transaction is open for {} (pid {} of {}): until it ends, no dead row is removed",
                words::span(age),
                oldest.pid,
                by::foreign(&oldest.user)
            )
        })
    });
    let parts: Vec<String> = [stale, dead, oldest].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The cache, and settings that differ from what guide 004 advises.
fn settings(seen: &Database) -> Option<String> {
    let cache = seen.cache.filter(|(_, asked)| *asked >= FEWEST_BLOCKS).and_then(|(found, asked)| {
        #[allow(clippy::cast_precision_loss)] // To be read, not to be counted with.
        let percent = by::share(found.max(0) as f64, asked as f64);
        (percent < CACHE_PERCENT)
            .then(|| format!("the cache finds {} % of the blocks (shared_buffers)", by::number(percent)))
    });
    let all: Vec<String> = cache
        .into_iter()
        .chain(seen.settings.iter().take(6).map(|one| words::shorten(&mask(one), 120)))
        .collect();
    (!all.is_empty()).then(|| format!("settings: {}", all.join("; ")))
}

fn is_stale(table: &DatabaseTable) -> bool {
    table.changed_rows > STALE_ROWS && table.changed_rows > table.live_rows / STALE_SHARE
}

fn stale_words(table: &DatabaseTable) -> String {
    let last = match table.analyzed {
        Some(at) => format!("since {at:.0}"),
        None => "and none were ever taken".to_owned(),
    };
    format!(
        "statistics of table {name} are out of date: {} rows changed beside {} live ones {last}: ANALYZE {name}",
        table.changed_rows,
        table.live_rows,
        name = by::foreign(&table.name)
    )
}

/// `public.orders` is `orders`.
fn is_table(name: &str, table: &str) -> bool {
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_ascii_lowercase();
    bare(name) == bare(table)
}

/// The tables that a statement names.
fn tables(query: &str) -> Vec<String> {
    let words: Vec<String> = identifiers(query).collect();
    let after = words.windows(2).filter(|pair| {
        matches!(pair[0].as_str(), "from" | "join" | "update" | "into" | "only" | "table")
            && !matches!(pair[1].as_str(), "only" | "select" | "lateral")
    });
    let mut tables: Vec<String> = after.map(|pair| pair[1].clone()).collect();
    tables.dedup();
    tables
}

/// The words of a statement, in lower case: names as they are, with their schema, without quotes.
fn identifiers(query: &str) -> impl Iterator<Item = String> + use<'_> {
    query
        .split(|one: char| !(one.is_alphanumeric() || matches!(one, '_' | '.' | '"' | '$')))
        .map(|word| word.replace('"', "").to_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .flat_map(|word| {
            // `orders.customer_id` names its column, too.
            let column = word.rsplit_once('.').map(|(_, column)| column.to_owned());
            [Some(word), column].into_iter().flatten()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_and_columns_of_a_statement_are_read_from_it() {
        let query = r#"SELECT o.id, "o"."total" FROM public.orders o JOIN "customers" c ON c.id = o.customer_id WHERE x=$1"#;
        assert_eq!(tables(query), ["public.orders", "customers"]);
        assert!(identifiers(query).any(|word| word == "customer_id"));
        assert_eq!(tables("update only stock set n = n - $1"), ["stock"]);
        assert_eq!(tables("select $1 from (select $2)"), [""; 0]);
        assert_eq!(tables(""), [""; 0]);
        assert!(is_table("public.orders", "orders") && is_table("orders", "public.Orders"));
        assert!(!is_table("orders", "public.orders_old"));
    }
}
