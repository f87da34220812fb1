//! A heartbeat that metrics show: a server whose event loop hangs stops beating.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;

/// Beats until the server ends, except while the fault `stop-heartbeat` is on.
pub async fn beat(app: Arc<App>) {
    let mut ticks = interval(app.config.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !app.faults.is_on("stop-heartbeat") {
            app.metrics.heartbeat(Timestamp::now(), app.config.heartbeat);
        }
    }
}
