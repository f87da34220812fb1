//! How often which statement had run by when, as `pg_stat_statements` counts it: what ran between looks is
//! the difference. It counts since it was reset, and a mean since then is slow for long after it was mended.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::SignedDuration;
use mcp_health_core::signals::database::{FREQUENT_SEEN, Frequent, Recent, STATEMENTS_SEEN, Statement};
use tokio::time::Instant;

use super::answers::{StatementRow, Statements};

/// Counts that are older are forgotten: what ran before tells nothing of now.
const WINDOW: Duration = Duration::from_mins(10);
/// The most counts that are kept: one each minute.
const KEPT: usize = 11;

/// What was counted in the last minutes, the oldest first; at most [`KEPT`] times so many as one answer
/// lists.
#[derive(Default)]
pub struct Counts {
    kept: VecDeque<Count>,
}

/// What was counted by one look.
struct Count {
    at: Instant,
    /// It holds all statements that there were.
    is_whole: bool,
    /// Calls, and milliseconds in all.
    by_id: BTreeMap<i64, (i64, f64)>,
}

impl Counts {
    /// The slowest statements by what ran lately, and those that ran most often since the last look; the
    /// answer is remembered for the next.
    pub fn of(&mut self, answer: &Statements) -> (Vec<Statement>, Vec<Frequent>) {
        let rows = answer.rows();
        while self.kept.len() >= KEPT || self.kept.front().is_some_and(|one| one.at.elapsed() > WINDOW) {
            self.kept.pop_front();
        }
        let frequent = self.kept.back().map(|last| last.frequent(rows)).unwrap_or_default();
        let mut slowest: Vec<(f64, &StatementRow, Option<Recent>)> = rows
            .iter()
            .map(|row| {
                let recent = self.recent(row, answer.counted_for());
                let could = match &recent {
                    Some(recent) if recent.calls > 0 => recent.mean_ms,
                    Some(_) => 0.0,
                    None => row.mean().max(row.max),
                };
                (could, row, recent)
            })
            .collect();
        slowest.sort_by(|(a, one, _), (b, other, _)| {
            b.total_cmp(a).then_with(|| other.mean().total_cmp(&one.mean()))
        });
        let slowest = slowest.into_iter().take(STATEMENTS_SEEN).map(|(_, row, recent)| row.view(recent));
        let slowest = slowest.collect();
        let by_id = rows.iter().map(|row| (row.id, (row.calls, row.total))).collect();
        self.kept.push_back(Count { at: Instant::now(), is_whole: answer.is_whole(), by_id });
        (slowest, frequent)
    }

    /// What ran of a statement since the oldest count that tells. `None` where none does.
    fn recent(&self, row: &StatementRow, counted_for: Option<Duration>) -> Option<Recent> {
        let mut later = (row.calls, row.total);
        let mut base = None;
        for count in self.kept.iter().rev() {
            let age = count.at.elapsed();
            // Counted anew since then: all that is counted ran after that.
            if counted_for.is_some_and(|counted_for| counted_for < age) {
                base = None;
                break;
            }
            match count.by_id.get(&row.id) {
                Some(before) if before.0 <= later.0 && before.1 <= later.1 => {
                    base = Some((*before, age));
                    later = *before;
                }
                Some(_) => {
                    base = Some(((0, 0.0), age));
                    break;
                }
                None if count.is_whole => {
                    base = Some(((0, 0.0), age));
                    break;
                }
                // It was not among those that were listed then.
                None => {}
            }
        }
        let anew = || counted_for.filter(|counted_for| *counted_for <= WINDOW).map(|since| ((0, 0.0), since));
        let ((calls, total), since) = base.or_else(anew)?;
        let calls = row.calls.saturating_sub(calls);
        #[allow(clippy::cast_precision_loss)] // To be judged by, not to be counted with.
        let mean_ms = if calls > 0 { (row.total - total) / calls as f64 } else { 0.0 };
        Some(Recent { calls, mean_ms, span: SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX) })
    }
}

impl Count {
    /// The statements that ran most often since. Of one that was not listed then it is not known how often it
    /// had run.
    fn frequent(&self, rows: &[StatementRow]) -> Vec<Frequent> {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        let ran = |row: &StatementRow| {
            let known = self.by_id.get(&row.id).map(|(calls, _)| *calls);
            let before = known.or(self.is_whole.then_some(0))?;
            // Fewer than before: they are counted anew since.
            u32::try_from(row.calls.checked_sub(before)?).ok().filter(|ran| *ran > 0)
        };
        let mut all: Vec<_> = rows.iter().filter_map(|row| Some((ran(row)?, row))).collect();
        all.sort_by_key(|(ran, row)| (std::cmp::Reverse(*ran), row.id));
        let view = |(ran, row): &(u32, &StatementRow)| Frequent {
            id: row.id,
            query: row.query(),
            a_second: f64::from(*ran) / seconds,
        };
        all.iter().take(FREQUENT_SEEN).map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use tokio::time::advance;

    use super::*;

    /// Statements by id, calls and milliseconds in all; `groups` are counted, listed or not.
    fn answer(all: &[(i64, i64, f64)], groups: usize, counted_for: f64) -> Statements {
        let rows = all.iter().map(|(id, calls, total)| {
            json!({"id": id, "calls": calls, "total": total, "max": 5000.0, "stddev": 0.0, "rows": 0,
                "query": format!("SELECT {id} FROM t{id}")})
        });
        let rows: Vec<_> = rows.collect();
        let answer = json!({"calls": 0, "groups": groups, "counted_for": counted_for, "listed": rows});
        serde_json::from_value(answer).unwrap()
    }

    const LONG: f64 = 1e6;

    async fn minute() {
        advance(Duration::from_mins(1)).await;
    }

    /// Calls, their mean and the seconds in which they ran, of the first statement.
    fn first(counts: &mut Counts, answer: &Statements) -> Option<(i64, f64, i64)> {
        let recent = counts.of(answer).0[0].recent?;
        Some((recent.calls, recent.mean_ms, recent.span.as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_ran_most_between_two_looks_is_told_by_the_second_and_a_count_that_began_anew_is_not() {
        let told = async |groups: usize| {
            let mut counts = Counts::default();
            let before = [(1, 1000, 0.0), (2, 50, 0.0), (3, 900, 0.0)];
            assert!(counts.of(&answer(&before, groups, LONG)).1.is_empty());
            advance(Duration::from_secs(10)).await;
            let now = [(1, 1010, 0.0), (2, 650, 0.0), (3, 10, 0.0), (4, 30, 0.0), (5, 0, 0.0)];
            let frequent = counts.of(&answer(&now, 5, LONG)).1;
            frequent.into_iter().map(|one| (one.id, one.a_second, one.query)).collect::<Vec<_>>()
        };
        let one = |id: i64, a_second: f64| (id, a_second, format!("SELECT ? FROM t{id}"));
        assert_eq!(told(3).await, [one(2, 60.0), one(4, 3.0), one(1, 1.0)]);
        // Of one that was not among those that were listed it is not known how often it had run.
        assert_eq!(told(4).await, [one(2, 60.0), one(1, 1.0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mean_is_of_what_ran_in_the_last_ten_minutes_and_what_was_mended_is_fast_after_that() {
        let mut counts = Counts::default();
        // Slow for long; nothing tells yet whether it still is.
        assert_eq!(first(&mut counts, &answer(&[(1, 100, 200_000.0)], 1, LONG)), None);
        minute().await;
        assert_eq!(first(&mut counts, &answer(&[(1, 102, 204_000.0)], 1, LONG)), Some((2, 2000.0, 60)));
        // It is mended, and runs often.
        minute().await;
        assert_eq!(first(&mut counts, &answer(&[(1, 502, 208_000.0)], 1, LONG)).unwrap().0, 402);
        for _ in 0..9 {
            minute().await;
            counts.of(&answer(&[(1, 502, 208_000.0)], 1, LONG));
        }
        // What ran before is forgotten, and it has not run since.
        minute().await;
        assert_eq!(first(&mut counts, &answer(&[(1, 502, 208_000.0)], 1, LONG)), Some((0, 0.0, 600)));
        assert!(counts.kept.len() <= KEPT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rare_statement_stays_told_for_as_long_as_the_window_and_no_longer() {
        let mut counts = Counts::default();
        counts.of(&answer(&[(1, 5, 10_000.0)], 1, LONG));
        minute().await;
        counts.of(&answer(&[(1, 6, 12_000.0)], 1, LONG));
        let mut seen = Vec::new();
        for _ in 0..11 {
            minute().await;
            seen.push(first(&mut counts, &answer(&[(1, 6, 12_000.0)], 1, LONG)).unwrap().0);
        }
        assert_eq!(seen, [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_anew_is_counted_from_there() {
        // All at once, a moment ago: what is counted since then is all that ran.
        let mut counts = Counts::default();
        assert_eq!(first(&mut counts, &answer(&[(1, 3, 6000.0)], 1, 90.0)), Some((3, 2000.0, 90)));
        minute().await;
        assert_eq!(first(&mut counts, &answer(&[(1, 9, 9000.0)], 1, 20.0)), Some((9, 1000.0, 20)));
        // One of them alone: it has run fewer times than before.
        let mut counts = Counts::default();
        counts.of(&answer(&[(1, 100, 200_000.0)], 1, LONG));
        minute().await;
        assert_eq!(first(&mut counts, &answer(&[(1, 4, 400.0)], 1, LONG)), Some((4, 100.0, 60)));
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_was_not_listed_before_nothing_is_known_unless_all_was() {
        for (groups, expected) in [(1, Some((7, 2000.0, 60))), (9, None)] {
            let mut counts = Counts::default();
            counts.of(&answer(&[(2, 1, 1.0)], groups, LONG));
            minute().await;
            assert_eq!(first(&mut counts, &answer(&[(1, 7, 14_000.0)], groups, LONG)), expected);
        }
    }
}
