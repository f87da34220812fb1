//! Sums of moments and spans that neither fail nor go back, whatever stands in an object.

use jiff::{SignedDuration, Timestamp};

/// So long after a moment; the end of time at the latest.
pub fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_add(span.max(SignedDuration::ZERO)).unwrap_or(Timestamp::MAX)
}

/// When the first of these moments is longer ago than `age`.
pub fn lapse(seen: impl Iterator<Item = Timestamp>, age: SignedDuration) -> Option<Timestamp> {
    Some(after(seen.min()?, age + SignedDuration::from_secs(1)))
}
