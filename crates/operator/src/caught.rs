//! Panics and unreadable objects that are caught where one object is converted, judged or reconciled: they are that
//! object's condition, and nobody else's. Each is logged with the object's name, and counted.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use futures::FutureExt;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

/// What was caught, by where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CaughtLabels {
    at: &'static str,
}

static COUNTS: LazyLock<Family<CaughtLabels, Counter>> = LazyLock::new(Family::default);

/// The counts, for the registry of metrics.
pub fn counts() -> Family<CaughtLabels, Counter> {
    COUNTS.clone()
}

/// What `work` returns, or what it panicked with.
///
/// What it changed before a panic stays changed: the locks of the stores ignore poison, and the caller marks the object.
pub fn panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words(&*panic))
}

/// What a future returns, or what it panicked with.
pub async fn panic_of<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| words(&*panic))
}

/// Counts and logs what was caught.
pub fn count(at: &'static str, who: &str, why: &str) {
    COUNTS.get_or_create(&CaughtLabels { at }).inc();
    tracing::error!(at, who, why, "caught at one object; the others are not affected");
}

/// The message of a panic.
pub fn words(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}
