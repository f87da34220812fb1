//! The poll of Alertmanager.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::{super::stores::Stores, PATIENCE, ask};
use crate::web;

/// Asks whenever the clock ticks, until the operator ends.
pub async fn keep(stores: Arc<Stores>) {
    let Some(alerts) = &stores.alerts else { return };
    let client = match web::trust("").and_then(|trust| web::client(&trust)) {
        Ok(client) => client,
        Err(why) => {
            alerts.fail(&format!("no TLS: {why}"));
            return std::future::pending().await;
        }
    };
    let mut clock = interval(alerts.period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if stores.targets.is_empty_in("") {
            continue;
        }
        match ask(&client, &alerts.url, PATIENCE).await {
            Ok(answer) => {
                let is_news = !alerts.is_fresh(Timestamp::now());
                let changed = alerts.take(answer, Timestamp::now());
                if is_news {
                    stores.judge_again(stores.targets.all(), Timestamp::now());
                }
                for namespace in changed {
                    stores.wake_namespace(&namespace);
                }
            }
            Err(why) => {
                if alerts.fail(&why) {
                    tracing::warn!(why, "Alertmanager does not answer; it is asked again");
                }
                stores.judge_again(stores.targets.all(), Timestamp::now());
            }
        }
    }
}
