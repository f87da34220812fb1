//! Why the store, or the pool below it, did not answer.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection was free in time.
    #[error("no database connection was free within {0:?}")]
    PoolTimeout(Duration),
    /// The pool is gone: the server shuts down.
    #[error("the database pool is closed")]
    PoolClosed,
    /// The connection could not be made or was lost.
    #[error("database connection to {address} failed: {}", with_causes(.source))]
    Connect {
        /// Host and port, without credentials.
        address: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// A statement failed.
    #[error("database query failed: {}", with_causes(.source))]
    Query {
        /// The statement, which holds no values.
        query: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// A statement took too long.
    #[error("no answer from the database within {0:?}")]
    QueryTimeout(Duration, &'static str),
}

impl StoreError {
    /// The statement that failed, for the log.
    pub fn query(&self) -> Option<&'static str> {
        match self {
            Self::Query { query, .. } | Self::QueryTimeout(_, query) => Some(query),
            _ => None,
        }
    }
}

/// An error of the database says little without its causes.
fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
