//! Whether PostgreSQL can still write to its disk: reads go on when that is full, so it is asked to write a
//! little. Where it cannot, also what takes the space.

use std::time::Duration;

use mcp_health_core::signals::{
    Failure, Reading,
    database::{DiskFull, SLOTS_SEEN},
};
use tokio_postgres::error::SqlState;

use super::{
    answers::Space,
    connection::{Connection, Refusal},
    failures, questions,
    remembered::{Seldom, full},
};

impl Connection {
    /// Has a temporary file written.
    pub(super) async fn spill(&self, seen: &mut Seldom, patience: Duration) -> Result<(), Failure> {
        match self.ask(&questions::spill(), patience).await {
            Ok(_) => seen.disk_full = Reading::Fresh(None),
            Err(refusal) => {
                let said = self.note(seen, &refusal)?;
                if full(&seen.disk_full).is_none() {
                    seen.disk_full = Reading::Unavailable(said);
                }
            }
        }
        Ok(())
    }

    /// What takes the space of a disk that is full, as far as it may be asked, and answers in time.
    pub(super) async fn space(&self, seen: &mut Seldom, patience: Duration) -> Result<(), Failure> {
        let Some(DiskFull { said, .. }) = full(&seen.disk_full).cloned() else { return Ok(()) };
        let mut answer = self.question::<Space>(&questions::space(true, SLOTS_SEEN), patience).await;
        if answer.as_ref().is_err_and(|refusal| refusal.is(&SqlState::INSUFFICIENT_PRIVILEGE)) {
            answer = self.question(&questions::space(false, SLOTS_SEEN), patience).await;
        }
        match answer {
            Ok(space) => seen.disk_full = Reading::Fresh(Some(space.view(said))),
            Err(refusal) => {
                self.note(seen, &refusal)?;
            }
        }
        Ok(())
    }

    /// Notes what a refusal tells of the database's own files, where it leaves the session as it was; as a
    /// sentence.
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
}
