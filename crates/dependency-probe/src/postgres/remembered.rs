//! What one look at a database leaves for the next.

use mcp_health_core::signals::{
    Reading,
    database::{DatabaseTable, DiskFull, Frequent, Statement},
};
use tokio::time::Instant;

use super::counts::Counts;

/// What was seen in the last minute, and what was seen of a pooler ever.
#[derive(Default)]
pub struct Remembered {
    pub(super) seldom: Option<(Instant, Seldom)>,
    pub(super) counts: Counts,
    /// The process that answered last.
    pub(super) pid: Option<i32>,
    pub(super) pooler: Option<String>,
}

/// What is asked for seldom.
#[derive(Clone, Default)]
pub(super) struct Seldom {
    pub(super) tables: Vec<DatabaseTable>,
    pub(super) candidates: Vec<String>,
    pub(super) settings: Vec<String>,
    pub(super) statements: Reading<Vec<Statement>>,
    pub(super) frequent: Vec<Frequent>,
    pub(super) calls: Option<i64>,
    pub(super) damage: Option<String>,
    pub(super) disk_full: Reading<Option<DiskFull>>,
}

/// A disk that is known to be full.
pub(super) fn full(disk: &Reading<Option<DiskFull>>) -> Option<&DiskFull> {
    disk.fresh()?.as_ref()
}
