//! The scrape of pods: whom to ask, when.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use jiff::Timestamp;
use mcp_health_api::McpServerHealth;
use mcp_health_core::signals::Pod;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval},
};

use super::{
    super::{backoff::digest, stores::Stores, table::Key},
    Asked, Look, Scraped, TURN, get, path_of,
};

/// Pods that are asked at the same time.
const AT_ONCE: usize = 64;

/// Asks each server once a period, until the operator ends.
pub async fn keep(stores: Arc<Stores>) {
    let Some(scraped) = &stores.scraped else { return };
    let places = Semaphore::new(AT_ONCE);
    let turns = scraped.period.as_secs().max(1);
    let mut clock = interval(TURN);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut turn, mut busy, mut under_way) = (0, HashSet::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            _ = clock.tick() => {
                turn = (turn + 1) % turns;
                let objects = stores.judged.objects();
                if turn == 0 {
                    scraped.lock().retain(|key, _| objects.iter().any(|(one, _)| one == key));
                }
                for (key, object) in objects.into_iter().filter(|(key, _)| digest(&key) % turns == turn) {
                    if !busy.contains(&key) && let Some(look) = stores.look_of(scraped, key, object) {
                        busy.insert(look.key.clone());
                        under_way.push(ask(&stores, scraped, &places, look));
                    }
                }
            }
            Some(key) = under_way.next(), if !under_way.is_empty() => {
                busy.remove(&key);
                stores.judge_again([key], Timestamp::now());
            }
        }
    }
}

/// Asks all pods of a server, and notes each answer as it comes.
async fn ask(stores: &Stores, scraped: &Scraped, places: &Semaphore, look: Look) -> Key {
    join_all(look.pods.iter().map(async |pod| {
        // It is never closed.
        let _place = places.acquire().await;
        stores.requests.made_beside(&look.key, 1);
        let answer = get(pod.address, path_of(&look.object)).await;
        scraped.note(&look, pod, answer, Timestamp::now());
    }))
    .await;
    scraped.end(&look, |pod| stores.pods.get(&Key::new(&look.key.namespace, pod)).is_some());
    look.key
}

impl Stores {
    /// Whether an object's metrics are asked of its pods: its policy lets them be, and no Prometheus tells
    /// them.
    pub fn is_scraped(&self, object: &McpServerHealth) -> bool {
        let is_off = object.spec.signals.scrape.as_ref().is_some_and(|signal| !signal.enabled);
        self.scraped.is_some() && !is_off && !self.prometheus.is_asked_by(object)
    }

    /// Whom to ask for an object's metrics, where its turn has come.
    fn look_of(&self, scraped: &Scraped, key: Key, object: Arc<McpServerHealth>) -> Option<Look> {
        let target = Key::new(&key.namespace, &object.spec.target_ref.name);
        if !self.is_scraped(&object) || self.targets.older_than(&target, &key).is_some() {
            scraped.lock().remove(&key);
            return None;
        }
        let row = self.deployments.get(&target)?;
        let signal = object.spec.signals.scrape.as_ref();
        let what = digest(&(&row.target.template, format!("{signal:?}")));
        if !scraped.takes_part(&key, what, signal.is_some()) {
            return None;
        }
        let container = row.target.container(object.spec.container.as_deref());
        let own = object.spec.signals.scrape.as_ref().and_then(|signal| signal.port);
        let port = own.or_else(|| container?.port())?;
        let restarts = |pod: &Pod| {
            let mut all = pod.containers.iter();
            container.and_then(|own| all.find(|one| one.name == own.name)).map_or(0, |one| one.restarts)
        };
        let rows = self.pods_of(&key.namespace, &row.target.uid);
        let pods = rows.iter().filter(|(_, row)| row.pod.counts()).filter_map(|(_, row)| {
            Some(Asked {
                name: row.pod.name.clone(),
                address: SocketAddr::new(row.pod.address?, port),
                ready: row.pod.ready,
                restarts: restarts(&row.pod),
            })
        });
        let pods = pods.collect();
        Some(Look { key, object, pods, port })
    }
}
