//! The looking itself: one task for all databases. What is due is asked, a bounded number at a time; what it came to
//! goes into the store; and after it the rules are asked again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, PostgresSignal};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    super::{Stores, secrets::Secrets, table::Key},
    Databases,
    line::Identity,
    seen::Seen,
};
use crate::{
    allowed::may_lead_to,
    config::Config,
    endpoints::{AllowList, Endpoint},
    telemetry::Metrics,
};

/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(250);
/// How often it is looked which objects there are, in ticks.
const OBJECTS_EACH: u32 = 4;
/// Objects that are new are asked within this time.
const FIRST: Duration = Duration::from_secs(1);

/// What is needed to look.
pub struct Looking {
    stores: Arc<Stores>,
    secrets: Arc<Secrets>,
    allowed: AllowList,
    metrics: Arc<Metrics>,
    at_once: Semaphore,
    random: RandomState,
}

/// When an object's database is looked at next; `None` while it is.
type Due = HashMap<Key, Option<Instant>>;

impl Looking {
    /// By the operator's configuration.
    pub fn new(
        stores: Arc<Stores>,
        secrets: Arc<Secrets>,
        config: &Config,
        allowed: AllowList,
        metrics: Arc<Metrics>,
    ) -> Self {
        let at_once = Semaphore::new(config.probe_concurrency.max(1));
        Self { stores, secrets, allowed, metrics, at_once, random: RandomState::new() }
    }

    /// Looks until the operator ends.
    pub async fn keep(self) {
        let Some(databases) = &self.stores.databases else { return };
        let (mut due, mut looks, mut news) = (Due::new(), FuturesUnordered::new(), BTreeSet::new());
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                Some((key, next, is_news)) = looks.next() => {
                    if is_news {
                        news.insert(Key::clone(&key));
                    }
                    if let Some(due) = due.get_mut(&key) {
                        *due = Some(next);
                    }
                }
                _ = clock.tick() => {
                    if ticks.is_multiple_of(OBJECTS_EACH) {
                        self.keep_to(databases, &mut due);
                    }
                    ticks = ticks.wrapping_add(1);
                    let now = Instant::now();
                    for (key, due) in &mut due {
                        if due.is_some_and(|due| due <= now) {
                            *due = None;
                            looks.push(self.look(databases, key.clone()));
                        }
                    }
                    self.stores.tell(std::mem::take(&mut news), Timestamp::now());
                }
            }
        }
    }

    /// Takes up the objects that are new, and lets those go that are gone.
    fn keep_to(&self, databases: &Databases, due: &mut Due) {
        let known: HashSet<Key> = self.stores.targets.all().into_iter().collect();
        let declares = |object: &McpServerHealth| object.spec.signals.postgres.is_some();
        let objects = self.stores.judged.objects().into_iter();
        let declaring: HashSet<Key> = objects
            .filter(|(key, object)| known.contains(key) && declares(object))
            .map(|(key, _)| key)
            .collect();
        due.retain(|key, _| declaring.contains(key));
        for key in &declaring {
            let first = || Some(Instant::now() + FIRST.mul_f64(self.draw(key)));
            due.entry(key.clone()).or_insert_with(first);
        }
        databases.keep_to(&declaring);
    }

    /// One look for an object: when the next is due, and whether the rules may make something else of it.
    async fn look(&self, databases: &Databases, key: Key) -> (Key, Instant, bool) {
        let begun = Instant::now();
        let object = self.stores.judged.object(&key);
        let Some(postgres) = object.as_ref().and_then(|object| object.spec.signals.postgres.as_ref()) else {
            return (key, begun + FIRST, false);
        };
        let pause = postgres.interval.span().unsigned_abs();
        let is_news = match self.came(databases, &key, postgres).await {
            Ok(is_news) => is_news,
            Err(why) => noted(databases, &key, postgres, |seen| seen.bar(why)),
        };
        let next = begun + pause.mul_f64(0.9 + 0.2 * self.draw((&key, begun)));
        (key, next, is_news)
    }

    /// Asks, and notes what came of it. `Err` says why nothing is asked.
    async fn came(
        &self,
        databases: &Databases,
        key: &Key,
        postgres: &PostgresSignal,
    ) -> Result<bool, String> {
        let url = self.secrets.get(&key.namespace, &postgres.connection_secret_ref).await?;
        let authorities = match &postgres.ca_secret_ref {
            Some(of) => Some(self.secrets.get(&key.namespace, of).await?),
            None => None,
        };
        let identity = Identity { url, authorities };
        let line = databases.line(&identity)?;
        for (host, port) in line.target.hosts() {
            self.allowed.check(&Endpoint::of(host, *port))?;
        }
        noted(databases, key, postgres, |seen| {
            let words = format!("PostgreSQL {}", line.target.words());
            seen.ask_over(&identity, words, line.target.place());
        });
        let _turn = self.at_once.acquire().await;
        let began = Instant::now();
        let permit = |address| may_lead_to(&self.allowed, address);
        let (came, is_asked) = line.look(postgres, &permit, self.draw((key, began))).await;
        let came = came?;
        if is_asked {
            let outcome =
                came.result.as_ref().err().map_or_else(|| "Ok".to_owned(), |why| format!("{:?}", why.step));
            self.metrics.probed("Postgres", outcome, began.elapsed());
        }
        Ok(noted(databases, key, postgres, |seen| seen.note(came)))
    }

    /// A number from 0 to 1.
    #[allow(clippy::cast_precision_loss)] // It need not be exact.
    fn draw(&self, of: impl std::hash::Hash) -> f64 {
        (self.random.hash_one(of) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What is remembered of an object's database; nothing of what it wanted asked before.
fn noted<T>(
    databases: &Databases,
    key: &Key,
    postgres: &PostgresSignal,
    with: impl FnOnce(&mut Seen) -> T,
) -> T {
    let mut objects = databases.objects();
    let seen = objects.entry(key.clone()).or_insert_with(|| Seen::new(postgres));
    if seen.asked != *postgres {
        *seen = Seen::new(postgres);
    }
    with(seen)
}
