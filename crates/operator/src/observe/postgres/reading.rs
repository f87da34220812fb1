//! What the database of a server tells.

use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, PostgresSignal};
use mcp_health_core::signals::{Database, Dependency, Reading};

use super::super::{stores::Stores, table::Key};

impl Stores {
    /// Has what an object's database came to counted as that of something which the server depends on.
    pub fn note_database(&self, object: &McpServerHealth, now: Timestamp) {
        let (_, database) = self.database_of(object, now);
        if let Some((dependencies, database)) = self.dependencies.as_ref().zip(database) {
            dependencies.take_in(&Key::of(object), database);
        }
    }

    /// What an object's database tells, and the database as something that the server depends on.
    pub fn database_of(
        &self,
        object: &McpServerHealth,
        now: Timestamp,
    ) -> (Reading<Database>, Option<Dependency>) {
        let Some((databases, postgres)) = self.databases.as_ref().zip(object.spec.signals.postgres.as_ref())
        else {
            return (Reading::Off, None);
        };
        let target = object.status.as_ref().and_then(|status| status.target.as_ref());
        let remembered = target.map(|target| target.answered_dependencies.as_slice()).unwrap_or_default();
        let objects = databases.objects();
        match objects.get(&Key::of(object)).filter(|seen| seen.asked == *postgres) {
            Some(seen) => (seen.reading(now), Some(seen.dependency(remembered))),
            None => (
                Reading::Unavailable("it was not asked yet".to_owned()),
                Some(Dependency { name: PostgresSignal::NAME.to_owned(), ..Dependency::default() }),
            ),
        }
    }
}
