//! The looks at databases: when the [task that asks servers](super::super::probes) has one of an object due,
//! it is asked here, no more of them at the same time than is allowed; what it came to goes into the store.

use std::{sync::Arc, time::Duration};

use mcp_health_api::{Duration as ApiDuration, McpServerHealth, PostgresSignal};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    super::{secrets::Secrets, stores::Stores, table::Key},
    Databases,
    line::Identity,
    seen::Seen,
};
use crate::{
    allowed::may_lead_to,
    draw::draw,
    endpoints::{AllowList, Endpoint},
    telemetry::Metrics,
};

/// How often it is looked whether an object declares a database by now.
const DECLARED: Duration = Duration::from_secs(15);

/// The interval of what is urgent, in seconds.
const URGENT_INTERVAL: u32 = 5;

/// What is needed to look.
pub struct Looks {
    secrets: Arc<Secrets>,
    allowed: AllowList,
    metrics: Arc<Metrics>,
    at_once: Semaphore,
}

impl Looks {
    /// By the operator's configuration.
    pub fn new(secrets: Arc<Secrets>, allowed: AllowList, metrics: Arc<Metrics>, at_once: usize) -> Self {
        Self { secrets, allowed, metrics, at_once: Semaphore::new(at_once) }
    }

    /// One look for an object. Whether the rules may make something else of it, and the pause until the next
    /// time.
    pub async fn look(&self, stores: &Stores, key: &Key, object: &McpServerHealth) -> (bool, Duration) {
        let Some(databases) = &stores.databases else { return (false, DECLARED) };
        let Some(postgres) = &object.spec.signals.postgres else {
            databases.forget(key);
            return (false, DECLARED);
        };
        let is_news = match self.came(stores, databases, key, postgres).await {
            Ok(is_news) => is_news,
            Err(why) => noted(databases, key, postgres, |seen| seen.bar(why)),
        };
        (is_news, postgres.interval.span().unsigned_abs())
    }

    /// Asks, and notes what came of it. `Err` says why nothing is asked.
    async fn came(
        &self,
        stores: &Stores,
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
        // What is urgent is asked more often than the policy says, and answers are shared for less time.
        let is_urgent = stores.urgent.is_set(key);
        let often = PostgresSignal { interval: ApiDuration::from_secs(URGENT_INTERVAL), ..postgres.clone() };
        let asked = if is_urgent && often.interval < postgres.interval { &often } else { postgres };
        let (came, is_asked) = line.look(asked, &permit, draw()).await;
        let came = came?;
        if is_asked {
            let outcome =
                came.result.as_ref().err().map_or_else(|| "Ok".to_owned(), |why| format!("{:?}", why.step));
            self.metrics.probed("Postgres", outcome, began.elapsed());
        }
        Ok(noted(databases, key, postgres, |seen| seen.note(came)))
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
