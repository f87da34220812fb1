//! One look at a database, as one application has it: what changes with each second by one statement, and
//! what costs more by a few others, at most each minute.

use std::time::Duration;

use mcp_health_core::{
    mcp::foreign,
    signals::{
        Failure, Reading,
        database::{Database, SESSIONS_SEEN, TABLES_SEEN},
    },
};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::{
    advice,
    answers::{Extension, Sessions, Statements, Upkeep},
    connection::{Connection, Refusal},
    questions,
    remembered::{Seldom, full},
};

/// How long what costs more is good for.
const SELDOM: Duration = Duration::from_mins(1);
/// The most index candidates that are told.
const CANDIDATES: usize = 10;
/// The most statements of each kind, the most frequent, the slowest and so on, of which it is remembered how
/// often they ran.
const COUNTED: usize = 60;
/// What is said where nobody counts statements.
const NOT_INSTALLED: &str = "pg_stat_statements is not installed: set shared_preload_libraries = 'pg_stat_statements', \
     restart PostgreSQL, then CREATE EXTENSION pg_stat_statements in this database";

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
        let Seldom { tables, candidates, settings, statements, frequent, calls, damage, disk_full } = seldom;
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

    /// What is told by a database that says of its own files, instead of an answer, that they are damaged or
    /// find no room; any other refusal is a failure.
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

    async fn seldom(&mut self, version: i32, sees_all: bool, patience: Duration) -> Result<Seldom, Failure> {
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
        &mut self,
        seen: &mut Seldom,
        extension: Option<Extension>,
        sees_all: bool,
        patience: Duration,
    ) -> Result<(), Failure> {
        let Some(extension) = extension else {
            seen.statements = Reading::Unavailable(NOT_INSTALLED.to_owned());
            return Ok(());
        };
        let question = questions::statements(&extension.schema, extension.version(), COUNTED);
        seen.statements = match self.question::<Statements>(&question, patience).await {
            Ok(answer) => {
                seen.calls = answer.calls;
                let statements;
                (statements, seen.frequent) = self.remembered.counts.of(&answer);
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
}
