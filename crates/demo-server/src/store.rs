//! Where assignments are kept: in memory, or in Postgres when `DATABASE_URL` is set.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::config::DatabaseConfig;
use crate::pool::Pool;
use crate::store_error::StoreError;

/// The store in memory keeps this many, so that load alone does not grow it for ever.
const MEMORY_LIMIT: usize = 10_000;

const CREATE_TABLE: &str = "BEGIN;
    SELECT pg_advisory_xact_lock(4702111);
    CREATE TABLE IF NOT EXISTS mcp_assignments (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        title text NOT NULL,
        assignee text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now());
    COMMIT";
const INSERT: &str =
    "INSERT INTO mcp_assignments (title, assignee) VALUES ($1, $2) RETURNING id, title, assignee, created_at";
const LIST: &str = "SELECT id, title, assignee, created_at FROM mcp_assignments ORDER BY id DESC LIMIT $1";
const SEARCH: &str = "SELECT id, title, assignee, created_at FROM mcp_assignments
    WHERE strpos(lower(title), lower($1)) > 0 ORDER BY id DESC LIMIT $2";

/// Takes as long as it is told, once, however many rows there are.
const SLOW: &str = "SELECT count(*), (SELECT true FROM pg_sleep($1)) FROM mcp_assignments";
const ONE: &str = "SELECT id, title, assignee, created_at FROM mcp_assignments WHERE id = $1";

/// Something somebody is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its number.
    pub id: i64,
    /// What is to be done.
    pub title: String,
    /// By whom; empty for nobody yet.
    pub assignee: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The assignments.
#[derive(Debug)]
pub enum Store {
    /// Lost when the process ends.
    Memory(Mutex<Memory>),
    /// Kept in a table.
    Postgres(Arc<Pool>),
}

/// The newest assignments, and the number of the last one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    assignments: VecDeque<Assignment>,
    last_id: i64,
}

impl Store {
    /// A store in memory.
    pub fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// A store in Postgres, once it has answered and has its table.
    pub async fn connect(config: DatabaseConfig) -> Result<Self, StoreError> {
        let pool = Arc::new(Pool::new(config));
        let connection = pool.get().await?;
        let created = tokio::time::timeout(pool.timeout(), connection.batch_execute(CREATE_TABLE)).await;
        created
            .map_err(|_| StoreError::QueryTimeout(pool.timeout(), "CREATE TABLE mcp_assignments"))?
            .map_err(|source| StoreError::Query { query: "CREATE TABLE mcp_assignments", source })?;
        drop(connection);
        Ok(Self::Postgres(pool))
    }

    /// The pool, if there is a database.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match self {
            Self::Memory(_) => None,
            Self::Postgres(pool) => Some(pool),
        }
    }

    /// Writes the assignments in memory to a file, and says how many. Those in Postgres are kept there.
    pub fn save(&self, file: &Path) -> io::Result<usize> {
        let Self::Memory(memory) = self else { return Ok(0) };
        let (state, count) = {
            let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            (serde_json::to_vec(&*memory)?, memory.assignments.len())
        };
        // Beside it first: a process that is ended meanwhile must not leave half a file.
        let unfinished = file.with_extension("unfinished");
        std::fs::write(&unfinished, state)?;
        std::fs::rename(&unfinished, file)?;
        Ok(count)
    }

    /// Takes the assignments of a file in place of those in memory, and says how many.
    pub fn restore(&self, file: &Path) -> io::Result<usize> {
        let Self::Memory(memory) = self else { return Ok(0) };
        let mut saved: Memory = serde_json::from_slice(&std::fs::read(file)?)?;
        saved.assignments.truncate(MEMORY_LIMIT);
        let count = saved.assignments.len();
        *memory.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        Ok(count)
    }

    /// Adds an assignment.
    pub async fn create(&self, title: &str, assignee: &str) -> Result<Assignment, StoreError> {
        match self {
            Self::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.last_id = memory.last_id.saturating_add(1);
                let assignment = Assignment {
                    id: memory.last_id,
                    title: title.to_owned(),
                    assignee: assignee.to_owned(),
                    created_at: Timestamp::now(),
                };
                memory.assignments.push_front(assignment.clone());
                memory.assignments.truncate(MEMORY_LIMIT);
                Ok(assignment)
            }
            Self::Postgres(pool) => {
                let rows = query(pool, INSERT, &[(&title, Type::TEXT), (&assignee, Type::TEXT)]).await?;
                // An INSERT of one row returns one row.
                rows.first().map(assignment).ok_or(StoreError::PoolClosed)
            }
        }
    }

    /// Asks Postgres what is of no use: a statement that takes long, and single rows one by one.
    pub async fn ask_in_vain(&self, slow: Option<Duration>, repeated: u32) -> Result<(), StoreError> {
        let Self::Postgres(pool) = self else { return Ok(()) };
        if let Some(delay) = slow {
            query(pool, SLOW, &[(&delay.as_secs_f64(), Type::FLOAT8)]).await?;
        }
        for id in 0..repeated {
            query(pool, ONE, &[(&i64::from(id), Type::INT8)]).await?;
        }
        Ok(())
    }

    /// The newest assignments.
    pub async fn list(&self, limit: u32) -> Result<Vec<Assignment>, StoreError> {
        match self {
            Self::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(memory.assignments.iter().take(limit as usize).cloned().collect())
            }
            Self::Postgres(pool) => Ok(query(pool, LIST, &[(&i64::from(limit), Type::INT8)])
                .await?
                .iter()
                .map(assignment)
                .collect()),
        }
    }

    /// The newest assignments with these words in their title.
    pub async fn search(&self, words: &str, limit: u32) -> Result<Vec<Assignment>, StoreError> {
        match self {
            Self::Memory(memory) => {
                let words = words.to_lowercase();
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let found = memory.assignments.iter().filter(|a| a.title.to_lowercase().contains(&words));
                Ok(found.take(limit as usize).cloned().collect())
            }
            Self::Postgres(pool) => {
                let rows =
                    query(pool, SEARCH, &[(&words, Type::TEXT), (&i64::from(limit), Type::INT8)]).await?;
                Ok(rows.iter().map(assignment).collect())
            }
        }
    }
}

/// Nothing is prepared by a name: behind a pooler, the next statement may meet another session.
async fn query(
    pool: &Arc<Pool>,
    query: &'static str,
    values: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, StoreError> {
    let connection = pool.get().await?;
    tokio::time::timeout(pool.timeout(), connection.query_typed(query, values))
        .await
        .map_err(|_| StoreError::QueryTimeout(pool.timeout(), query))?
        .map_err(|source| StoreError::Query { query, source })
}

fn assignment(row: &Row) -> Assignment {
    Assignment { id: row.get(0), title: row.get(1), assignee: row.get(2), created_at: row.get(3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_come_first_and_search_ignores_case() {
        let store = Store::in_memory();
        for title in ["Write the report", "Read the log", "Sign the Report"] {
            store.create(title, "").await.expect("created");
        }
        let titles = |found: Vec<Assignment>| found.into_iter().map(|a| a.title).collect::<Vec<_>>();
        assert_eq!(titles(store.list(2).await.expect("listed")), ["Sign the Report", "Read the log"]);
        let found = store.search("REPORT", 10).await.expect("found");
        assert_eq!(titles(found), ["Sign the Report", "Write the report"]);
    }
}
