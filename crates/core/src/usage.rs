//! usage: what containers used over time, and what that comes to. Series are bounded: recent samples are kept close
//! together, older ones further apart, so that an hour fits. Whole numbers only; what is missing is told apart from
//! what is well.

mod growth;
mod load;
mod measured;
mod series;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{IncidentType, McpServerHealthSpec};

pub use growth::{Growth, Leak, leaks};
pub use load::{Load, load};
pub use measured::STALE;
pub use series::remember;

use crate::{case::lasting_for, time::lapse};

/// How long memory must rise before it is a leak.
pub const LEAK_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// How long the CPU must be busy (guide 003, Application Monitoring).
pub const LOAD_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Within less time there are too few samples to tell anything by.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Over how long the rules look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageWindows {
    /// For a leak.
    pub leak: SignedDuration,
    /// For a CPU that is busy.
    pub load: SignedDuration,
}

impl UsageWindows {
    /// As the object wishes, and at least a minute.
    pub fn of(spec: &McpServerHealthSpec) -> Self {
        Self {
            leak: lasting_for(spec, IncidentType::MemoryLeak, LEAK_WINDOW).max(SHORTEST_WINDOW),
            load: lasting_for(spec, IncidentType::CpuSaturation, LOAD_WINDOW).max(SHORTEST_WINDOW),
        }
    }
}

/// When the first of these samples is too old to tell of now.
pub fn once_stale(seen: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
    lapse(seen, STALE)
}

/// Bytes as people compare them: `84.5 MiB`.
pub fn mib(bytes: i64) -> String {
    let tenths = i128::from(bytes) * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths.unsigned_abs() % 10)
}
