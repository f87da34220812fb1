//! How long watches last, for how long a quiet one is believed, and the pauses between tries.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{config::Config, draw::draw};

/// The `timeoutSeconds` of a watch: at least, at most.
const SECONDS: (u32, u32) = (25, 30);
/// A watch is stale so long after its last proof of life.
const STALE_AFTER: Duration = Duration::from_mins(1);
/// More watches are opened less often, and believed for longer.
const MANY: usize = 200;
/// By this factor.
const SLOWER: u32 = 4;
/// The kinds that are watched in each scope.
const KINDS: usize = 17;
/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// The longest pause that the API server is granted.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    factor: u32,
}

impl Pace {
    /// The pace of so many watches.
    pub const fn of_watches(watches: usize) -> Self {
        Self { factor: if watches > MANY { SLOWER } else { 1 } }
    }

    /// The pace of all watches of an operator with this configuration.
    pub fn of(config: &Config) -> Self {
        Self::of_watches(config.scopes().len().saturating_mul(KINDS))
    }

    /// The `timeoutSeconds` of the next watch; another each time, so that watches are not all opened at once.
    pub fn watch_seconds(self) -> u32 {
        let (least, most) = (f64::from(SECONDS.0 * self.factor), f64::from(SECONDS.1 * self.factor));
        // Between 25 and 120.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seconds = (least + (most - least) * draw()).round() as u32;
        seconds
    }

    /// How long after its last proof of life a watch is stale.
    pub const fn stale_after(self) -> Duration {
        STALE_AFTER.saturating_mul(self.factor)
    }

    /// How long after its last answer a source is stale that is asked each `period`, and may take `timeout` to answer:
    /// two periods and the time-out, at least as long as a watch.
    pub fn stale_after_polls(self, period: Duration, timeout: Duration) -> Duration {
        STALE_AFTER.max(period * 2 + timeout).saturating_mul(self.factor)
    }
}

/// The pauses between tries that fail: each twice as long as the one before, with jitter.
#[derive(Debug, Default)]
pub struct Retry {
    failures: u32,
}

impl Retry {
    /// The pause after another failure; `wanted` is what the API server asks for.
    pub fn pause(&mut self, wanted: Duration) -> Duration {
        let pause = PAUSES.0.saturating_mul(1 << self.failures.min(8)).min(PAUSES.1);
        self.failures = self.failures.saturating_add(1);
        pause.max(wanted.min(LONGEST_PAUSE)).mul_f64(0.75 + 0.5 * draw())
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Whether an answer of `at` is no older than `span`. One that seems to come from the future is not: the clock was set
/// back, and how old it is cannot be told.
pub fn is_recent(at: Timestamp, now: Timestamp, span: SignedDuration) -> bool {
    now.duration_since(at).abs() <= span
}
