//! The logs that are asked for are fetched, a few at a time.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use kube::Client;
use mcp_health_core::signals::LastWords;

use super::{
    super::stores::Stores,
    RECENT, STEADY,
    queue::{AT_ONCE, Ask},
    words_of,
};
use crate::caught;

/// Fetches what is asked for, until the operator ends.
pub async fn listen(stores: Arc<Stores>, client: Client) {
    let queue = &stores.hearing.queue;
    let work = || async {
        loop {
            let ask = queue.next().await;
            answer(&stores, &client, &ask).await;
            queue.done(&ask.pod.namespace);
        }
    };
    join_all((0..AT_ONCE).map(|_| work())).await;
}

/// Fetches one log, and wakes the server where that is news.
pub async fn answer(stores: &Stores, client: &Client, ask: &Ask) {
    let now = Timestamp::now();
    if is_moot(stores, ask, now) {
        stores.hearing.note(ask, LastWords::NotAsked);
        return;
    }
    let words = if now.duration_since(ask.since) >= LastWords::LONGEST_WAIT {
        LastWords::Missing(format!("not fetched within {} s", LastWords::LONGEST_WAIT.as_secs()))
    } else {
        let words = caught::panic_of(words_of(client, ask)).await;
        words.unwrap_or_else(|why| {
            caught::count("Log", &format!("Pod {}/{}", ask.pod.namespace, ask.pod.name), &why);
            LastWords::Missing("the operator failed to read it".to_owned())
        })
    };
    if stores.hearing.note(ask, words) {
        stores.wake_target(&ask.deployment);
    }
}

/// Whether nobody needs this log any more: the pod is gone, or going; or it is ready, and this was its only
/// end of late, or it is ready for long enough.
fn is_moot(stores: &Stores, ask: &Ask, now: Timestamp) -> bool {
    let Some(row) = stores.pods.get(&ask.pod) else { return true };
    let pod = &row.pod;
    let Some(container) = pod.containers.iter().find(|one| one.name == ask.container) else { return true };
    let ends = container.recent_exits.iter().filter(|at| now.duration_since(**at) < RECENT).count();
    let is_over = pod.ready && (ends < 2 || now.duration_since(pod.ready_changed) >= STEADY);
    pod.uid != ask.uid || !pod.counts() || is_over
}
