//! One look at a database, as one application has it: what changes with each second by one statement, and what costs
//! more by a few others, at most each minute.

use std::{collections::BTreeMap, time::Duration};

use mcp_health_core::{
    mcp::foreign,
    signals::{
        Failure, Reading,
        database::{
            Database, DiskFull, FREQUENT_SEEN, Frequent, SESSIONS_SEEN, STATEMENTS_SEEN, Statement,
            TABLES_SEEN, Table,
        },
    },
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::{
    advice,
    answers::{CountRow, Extension, Sessions, Statements, Upkeep},
    connection::{Connection, Refusal},
    failures, questions,
};

/// How long what costs more is good for.
const SELDOM: Duration = Duration::from_mins(1);
/// The most index candidates that are told.
const CANDIDATES: usize = 10;
/// The most statements of which it is remembered how often they ran.
const COUNTED: usize = 200;
/// What is said where nobody counts statements.
const NOT_INSTALLED: &str = "pg_stat_statements is not installed: set shared_preload_libraries = 'pg_stat_statements', \
     restart PostgreSQL, then CREATE EXTENSION pg_stat_statements in this database";

/// What was seen in the last minute, and what was seen of a pooler ever.
#[derive(Default)]
pub struct Remembered {
    seldom: Option<(Instant, Seldom)>,
    /// The process that answered last.
    pid: Option<i32>,
    pub(super) pooler: Option<String>,
}

/// What is asked for seldom.
#[derive(Clone, Default)]
pub(super) struct Seldom {
    tables: Vec<Table>,
    candidates: Vec<String>,
    settings: Vec<String>,
    statements: Reading<Vec<Statement>>,
    frequent: Vec<Frequent>,
    /// How often which statement had run by then.
    counts: Option<(Instant, BTreeMap<i64, i64>)>,
    calls: Option<i64>,
    damage: Option<String>,
    pub(super) disk_full: Reading<Option<DiskFull>>,
}

/// A disk that is known to be full.
pub(super) fn full(disk: &Reading<Option<DiskFull>>) -> Option<&DiskFull> {
    disk.fresh()?.as_ref()
}

impl Connection {
    /// Looks at the database as `application` has it; each question is answered within `patience`.
    pub async fn look(&mut self, application: &str, patience: Duration) -> Result<Database, Failure> {
        let question = questions::sessions(self.major, application, SESSIONS_SEEN);
        let answer: Sessions = match self.question(&question, patience).await {
            Ok(answer) => answer,
            Err(refusal) => return self.unread(application, &refusal),
        };
        self.watch_for_pooler(answer.pid);
        let (sees_statements, pooler) =
            (answer.sees_all || answer.owns == Some(true), self.remembered.pooler.clone());
        let view = answer.view(self.target.words());
        let seldom = match &self.remembered.seldom {
            Some((at, seldom)) if at.elapsed() < SELDOM => seldom.clone(),
            _ => {
                let seldom = self.seldom(view.version, sees_statements, patience).await?;
                self.remembered.seldom = Some((Instant::now(), seldom.clone()));
                seldom
            }
        };
        let Seldom { tables, candidates, settings, statements, frequent, calls, damage, disk_full, .. } =
            seldom;
        let index_candidates = candidates;
        Ok(Database {
            pooler,
            tables,
            index_candidates,
            settings,
            statements,
            frequent,
            calls,
            damage,
            disk_full,
            ..view
        })
    }

    /// What is told by a database that says of its own files, instead of an answer, that they are damaged or find no
    /// room; any other refusal is a failure.
    fn unread(&self, application: &str, refusal: &Refusal) -> Result<Database, Failure> {
        let mut seen = Seldom::default();
        let unread = self.note(&mut seen, refusal)?;
        let Seldom { damage, disk_full, .. } = seen;
        if damage.is_none() && full(&disk_full).is_none() {
            return Err(self.failure(refusal));
        }
        let (words, application) = (self.target.words(), application.to_owned());
        Ok(Database { words, application, damage, disk_full, unread: Some(unread), ..Database::default() })
    }

    /// The process that greets is the one that answers, unless somebody stands in between.
    fn watch_for_pooler(&mut self, pid: i32) {
        let before = self.remembered.pid.replace(pid);
        let why = if self.greeted_by.is_some_and(|greeted_by| greeted_by != pid) {
            "its session is not the one that it was greeted by"
        } else if before.is_some_and(|before| before != pid) {
            "one session after another answers"
        } else {
            return;
        };
        self.remembered.pooler = Some(format!("{why}: a pooler stands in between"));
    }

    async fn seldom(&self, version: i32, sees_all: bool, patience: Duration) -> Result<Seldom, Failure> {
        let mut seen = Seldom::default();
        self.spill(&mut seen, patience).await?;
        let question = questions::upkeep(TABLES_SEEN, CANDIDATES, &advice::SETTINGS);
        match self.question::<Upkeep>(&question, patience).await {
            Ok(mut upkeep) => {
                let extension = upkeep.extension.take();
                seen.settings = advice::advice(&upkeep.settings.take().unwrap_or_default(), version);
                (seen.tables, seen.candidates) = upkeep.view();
                self.statements(&mut seen, extension, sees_all, patience).await?;
            }
            Err(refusal) => {
                seen.statements = Reading::Unavailable(self.note(&mut seen, &refusal)?);
            }
        }
        self.space(&mut seen, patience).await?;
        Ok(seen)
    }

    async fn statements(
        &self,
        seen: &mut Seldom,
        extension: Option<Extension>,
        sees_all: bool,
        patience: Duration,
    ) -> Result<(), Failure> {
        let Some(extension) = extension else {
            seen.statements = Reading::Unavailable(NOT_INSTALLED.to_owned());
            return Ok(());
        };
        let question =
            questions::statements(&extension.schema, extension.version(), STATEMENTS_SEEN, COUNTED);
        seen.statements = match self.question::<Statements>(&question, patience).await {
            Ok(mut answer) => {
                seen.calls = answer.calls;
                let counts = answer.counts();
                let before = self.remembered.seldom.as_ref().and_then(|(_, seldom)| seldom.counts.as_ref());
                seen.frequent = before.map(|before| frequent(before, &counts)).unwrap_or_default();
                seen.counts = Some((Instant::now(), counts.iter().map(|one| (one.id, one.calls)).collect()));
                let statements = answer.view();
                if statements.is_empty() && !sees_all {
                    let why =
                        "statements of other roles cannot be seen: GRANT pg_monitor to the operator's role";
                    Reading::Unavailable(why.to_owned())
                } else {
                    Reading::Fresh(statements)
                }
            }
            // The extension is there, and the library is not loaded.
            Err(refusal) if refusal.is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                Reading::Unavailable(NOT_INSTALLED.to_owned())
            }
            Err(refusal) if refusal.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let schema = foreign(&extension.schema, None);
                Reading::Unavailable(format!(
                    "pg_stat_statements may not be read: GRANT USAGE ON SCHEMA {schema} to the operator's role"
                ))
            }
            Err(refusal) => Reading::Unavailable(self.note(seen, &refusal)?),
        };
        Ok(())
    }

    /// Notes what a refusal tells of the database's own files, where it leaves the session as it was; as a sentence.
    pub(super) fn note(&self, seen: &mut Seldom, refusal: &Refusal) -> Result<String, Failure> {
        let failure = self.failure(refusal);
        match refusal {
            Refusal::Said(error) if error.as_db_error().is_some() && !self.is_closed() => {
                let password = self.target.password();
                seen.damage = seen.damage.take().or_else(|| failures::damage(error, password));
                if let Some(said) = failures::disk_full(error, password) {
                    seen.disk_full = Reading::Fresh(Some(DiskFull { said, ..DiskFull::default() }));
                }
                Ok(failure.said)
            }
            Refusal::Unread => Ok(failure.said),
            _ => Err(failure),
        }
    }

    pub(super) async fn question<T: DeserializeOwned>(
        &self,
        question: &str,
        patience: Duration,
    ) -> Result<T, Refusal> {
        let rows = self.ask(question, patience).await?;
        rows.last().and_then(|text| serde_json::from_str(text).ok()).ok_or(Refusal::Unread)
    }
}

/// The statements that ran most often since they were counted last. Of one that was not among the most frequent then it
/// is not known how often it had run.
fn frequent((then, before): &(Instant, BTreeMap<i64, i64>), counts: &[CountRow]) -> Vec<Frequent> {
    let seconds = then.elapsed().as_secs_f64().max(0.001);
    let is_whole = before.len() < COUNTED;
    let ran = |one: &CountRow| {
        let before = before.get(&one.id).copied().or(is_whole.then_some(0))?;
        // Fewer than before: they are counted anew since.
        u32::try_from(one.calls.checked_sub(before)?).ok().filter(|ran| *ran > 0)
    };
    let mut all: Vec<_> = counts.iter().filter_map(|one| Some((ran(one)?, one))).collect();
    all.sort_by_key(|(ran, _)| std::cmp::Reverse(*ran));
    let view = |(ran, one): &(u32, &CountRow)| Frequent {
        id: one.id,
        query: one.query(),
        a_second: f64::from(*ran) / seconds,
    };
    all.iter().take(FREQUENT_SEEN).map(view).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn counts(all: &[(i64, i64)]) -> Vec<CountRow> {
        let rows = all.iter().map(|(id, calls)| {
            serde_json::json!({"id": id, "calls": calls, "query": format!("SELECT {id} FROM t{id}")})
        });
        serde_json::from_value(rows.collect()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_ran_most_between_two_looks_is_told_by_the_second_and_a_count_that_began_anew_is_not() {
        let before = (Instant::now(), BTreeMap::from([(1, 1000), (2, 50), (3, 900)]));
        tokio::time::advance(Duration::from_secs(10)).await;
        let told = frequent(&before, &counts(&[(1, 1010), (2, 650), (3, 10), (4, 30), (5, 0)]));
        let told: Vec<_> = told.iter().map(|one| (one.id, one.a_second, one.query.as_str())).collect();
        assert_eq!(
            told,
            [(2, 60.0, "SELECT ? FROM t2"), (4, 3.0, "SELECT ? FROM t4"), (1, 1.0, "SELECT ? FROM t1")]
        );
        // Of one that was not among so many it is not known how often it had run.
        let many = (before.0, (100..).take(COUNTED).map(|id| (id, 1)).collect());
        assert!(frequent(&many, &counts(&[(4, 30)])).is_empty());
    }
}
