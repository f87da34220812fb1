//! Chance, for what should not come all at once.

use std::hash::{BuildHasher, RandomState};

/// A number from 0 to 1, another each time.
#[allow(clippy::cast_precision_loss)] // It need not be exact.
pub fn draw() -> f64 {
    // Each has keys of its own.
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}
