//! What the tests are written with: a world, what is seen of it, the operator's loop, and people's wishes.

pub mod garbage;
pub mod history;
pub mod measured;
pub mod operator;
pub mod policy;
pub mod postgres;
pub mod scene;
pub mod series;
pub mod watches;
pub mod world;

use jiff::Timestamp;

/// 2026-01-01T12:00:00Z: where the clock of the tests starts.
const START: i64 = 1_767_268_800;

/// So many seconds after the start.
pub fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}
