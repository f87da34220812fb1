//! What is known of that which a server depends on.

use mcp_health_api::McpServerHealth;
use mcp_health_core::signals::{Dependency, Reading};

use super::{
    super::{probes::Probes, stores::Stores},
    NO_WAY,
};

impl Stores {
    /// What is known of that which the server of an object depends on; of its database, what its own source
    /// tells.
    pub fn depended_on(
        &self,
        object: &McpServerHealth,
        database: Option<&Dependency>,
    ) -> Reading<Vec<Dependency>> {
        let Some(dependencies) = &self.dependencies else { return Reading::Off };
        match dependencies.reading(object, database) {
            Reading::Fresh(_) if self.probes.as_ref().is_some_and(Probes::has_no_way) => {
                Reading::Unavailable(NO_WAY.to_owned())
            }
            reading => reading,
        }
    }
}
