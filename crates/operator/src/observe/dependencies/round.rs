//! One round of asking what one server depends on. What several objects ask alike is asked once, and all of
//! them hear the answer; no more is asked at the same time than is allowed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dependency_probe::redis;
use futures::future::join_all;
use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, RedisSignal};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::{
    super::{secrets::Secrets, stores::Stores, table::Key},
    Came, answered,
    question::{Declared, Question},
};
use crate::{endpoints::AllowList, telemetry::Metrics};

/// How often it is asked.
pub const INTERVAL: Duration = Duration::from_secs(15);
/// An answer is shared for so long: rounds vary by a tenth.
const SHARED: Duration = Duration::from_millis(13_400);
/// The same, of what is asked every five seconds.
const SHARED_URGENTLY: Duration = Duration::from_millis(4_400);

/// What was not asked for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(2);

/// An answer, or one that is on its way.
type Answer = Arc<OnceCell<(Timestamp, Came)>>;

/// What a question came to the last time.
struct Last {
    begun: Instant,
    answer: Answer,
    /// Of a Redis, what the next look is compared with.
    look: Arc<Mutex<Option<redis::Look>>>,
}

impl Default for Last {
    fn default() -> Self {
        Self { begun: Instant::now(), answer: Answer::default(), look: Arc::default() }
    }
}

/// Asks what servers depend on.
pub struct Rounds {
    secrets: Arc<Secrets>,
    allowed: AllowList,
    metrics: Arc<Metrics>,
    at_once: Semaphore,
    answers: Mutex<HashMap<Question, Last>>,
}

impl Rounds {
    /// By the operator's configuration.
    pub fn new(secrets: Arc<Secrets>, allowed: AllowList, metrics: Arc<Metrics>, at_once: usize) -> Self {
        Self { secrets, allowed, metrics, at_once: Semaphore::new(at_once.max(1)), answers: Mutex::default() }
    }

    /// Asks all that the server of an object depends on, but its PostgreSQL. True where the rules may make
    /// something else of it.
    pub async fn ask(&self, stores: &Stores, key: &Key, object: &McpServerHealth) -> bool {
        let Some(dependencies) = &stores.dependencies else { return false };
        dependencies.keep_to(key, object);
        let shared = if stores.urgent.is_set(key) { SHARED_URGENTLY } else { SHARED };
        let signals = &object.spec.signals;
        let redis = signals.redis.iter().map(|one| (RedisSignal::NAME, Declared::Redis(one)));
        let others = signals.dependencies.iter().map(|one| (one.name.as_str(), Declared::Other(one)));
        let asked = redis.chain(others).map(|(name, declared)| async move {
            let (about, question) = declared.question(&key.namespace, &self.secrets, &self.allowed).await;
            let (at, came) = match question {
                Ok(question) => self.answer(question, declared.kind(), shared).await,
                Err(why) => (Timestamp::now(), Err(why)),
            };
            dependencies.note(key, name, at, (about, came), answered(Some(object)))
        });
        join_all(asked).await.contains(&true)
    }

    /// The answer to a question, and when it was asked: now, or a moment ago by somebody else.
    async fn answer(&self, question: Question, kind: &'static str, shared: Duration) -> (Timestamp, Came) {
        let (answer, look) = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.retain(|_, last| last.begun.elapsed() < FORGOTTEN);
            let last = answers.entry(question.clone()).or_default();
            if last.begun.elapsed() >= shared {
                *last = Last { look: Arc::clone(&last.look), ..Last::default() };
            }
            (Arc::clone(&last.answer), Arc::clone(&last.look))
        };
        let looked = || look.lock().unwrap_or_else(PoisonError::into_inner);
        let asking = async {
            let _turn = self.at_once.acquire().await;
            let (at, began) = (Timestamp::now(), Instant::now());
            let before = looked().clone();
            let came = question.ask(before.as_ref(), &self.allowed).await;
            let came = came.map(|(asked, now)| {
                *looked() = now.or(before);
                asked
            });
            if let Ok(asked) = &came {
                let step = asked.result.as_ref().err().map(|failure| failure.step);
                self.metrics.checked(kind, step, began.elapsed());
            }
            (at, came)
        };
        answer.get_or_init(|| asking).await.clone()
    }
}
