//! The poller: at every tick, one poll of each Prometheus that is not still busy with the one before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream, stream::FuturesUnordered};
use http::HeaderValue;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Asked,
    answer::{Trouble, read},
    client::{Answered, Asking, bearer},
    hearing::Hearing,
    join::{Index, Known},
    plan::{Poll, Question, plan},
};
use crate::{
    config::Config,
    endpoints::Endpoint,
    observe::{deployments::DeploymentRow, services::namespace_group, stores::Stores, table::Key},
    telemetry::Metrics,
};

/// Questions that are asked at the same time, each with its companion.
const AT_ONCE: usize = 4;
/// Until there is an object to ask for.
const SOON: Duration = Duration::from_secs(1);

/// See the module.
pub struct Poller {
    asking: Asking,
    period: Duration,
    timeout: Duration,
    token_file: String,
    metrics: Arc<Metrics>,
}

/// What came back.
type Answer = Result<Answered, Trouble>;

/// What is known of all targets at a tick.
pub(super) struct Targets {
    index: Index,
    numbers: HashMap<Key, usize>,
}

impl Poller {
    /// A poller by the operator's configuration.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, String> {
        let timeout = config.prometheus_timeout.span().unsigned_abs().max(Duration::from_secs(1));
        let (own, allowed) = super::endpoints(config)?;
        let asking = Asking::new(&config.prometheus_ca_file, own, allowed, timeout)
            .map_err(|why| format!("--prometheus-ca-file: {why}"))?;
        Ok(Self {
            asking,
            period: config.prometheus_period.span().unsigned_abs().max(Duration::from_secs(1)),
            timeout,
            token_file: config.prometheus_token_file.clone(),
            metrics,
        })
    }

    /// Polls whenever the clock ticks, until the operator ends.
    pub async fn keep(self, stores: Arc<Stores>) {
        let mut clock = interval(self.period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut busy, mut polls) = (HashSet::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                _ = clock.tick() => {
                    let due = stores.polls();
                    if due.is_empty() {
                        clock.reset_after(SOON);
                        continue;
                    }
                    let targets = Arc::new(stores.known_targets());
                    for poll in due {
                        if busy.insert(poll.endpoint.clone()) {
                            polls.push(self.poll(&stores, Arc::clone(&targets), poll));
                        }
                    }
                }
                Some(endpoint) = polls.next() => {
                    busy.remove::<Endpoint>(&endpoint);
                }
            }
        }
    }

    /// Asks one Prometheus all that is to be asked, and has the rules look at what it tells.
    pub(super) async fn poll(&self, stores: &Arc<Stores>, targets: Arc<Targets>, poll: Poll) -> Endpoint {
        let began = Instant::now();
        let told = self.told(stores, &targets, &poll).await;
        if let Err(why) = &told {
            tracing::warn!(prometheus = %poll.endpoint, why, "Prometheus tells nothing; it is asked again");
        }
        let now = Timestamp::now();
        stores.prometheus.note(&poll, told, now);
        self.metrics.polled(began.elapsed().as_secs_f64());
        stores.judge_again(poll.askers.into_iter().map(|asker| asker.object), now);
        poll.endpoint
    }

    async fn told(
        &self,
        stores: &Stores,
        targets: &Targets,
        poll: &Poll,
    ) -> Result<Vec<super::hearing::Told>, String> {
        // The operator's own token is for its own Prometheus, not for what objects name.
        let is_own = stores.prometheus.own.as_ref() == Some(&poll.endpoint);
        let token = (is_own && !self.token_file.is_empty()).then(|| bearer(&self.token_file)).transpose()?;
        let numbers: Vec<_> =
            poll.askers.iter().map(|asker| targets.numbers.get(&asker.target).copied()).collect();
        let mut hearing = Hearing::new(poll, &targets.index, &numbers, Timestamp::now());
        // A time for all, so that a server that answers nothing is given up after two.
        let deadline = Instant::now() + self.timeout * 2;
        let token = token.as_ref();
        let asked: Vec<_> =
            poll.questions.iter().map(|one| self.ask(&poll.endpoint, token, one, deadline)).collect();
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut troubles = Vec::new();
        let mut is_answered = false;
        while let Some((question, values, seen)) = asked.next().await {
            let values = self.read(&values, question, &mut troubles);
            let seen = seen.as_ref().map(|seen| self.read(seen, question, &mut troubles));
            is_answered |= values.is_ok();
            hearing.hear(question, &values, seen.as_ref());
            // An answer may be long: whoever waits goes first.
            tokio::task::yield_now().await;
        }
        if is_answered {
            return Ok(hearing.end());
        }
        // Answers come in any order; why there are none is told in the same words.
        Err(troubles.into_iter().min().unwrap_or_else(|| "it was asked nothing".to_owned()))
    }

    /// The answer to a question, and its companion's.
    async fn ask<'a>(
        &self,
        endpoint: &Endpoint,
        token: Option<&HeaderValue>,
        question: &'a Question,
        deadline: Instant,
    ) -> (&'a Question, Answer, Option<Answer>) {
        let ask = |text| self.asking.ask(endpoint, token, text, deadline);
        let (text, companion) = (&question.text, question.companion());
        match companion {
            Some(companion) => {
                let (values, seen) = tokio::join!(ask(text), ask(companion));
                (question, values, Some(seen))
            }
            None => (question, ask(text).await, None),
        }
    }

    fn read<'a>(
        &self,
        answer: &'a Answer,
        question: &Question,
        troubles: &mut Vec<String>,
    ) -> Result<Vec<super::answer::Row<'a>>, Trouble> {
        let rows = match answer {
            Ok(answer) => read(answer.status, &answer.body),
            Err(trouble) => Err(trouble.clone()),
        };
        let outcome = match &rows {
            Ok(rows) if rows.is_empty() => "empty",
            Ok(_) => "ok",
            Err(Trouble::Refused(_)) => "refused",
            Err(Trouble::Partial(_)) => "partial",
            Err(Trouble::Failed(_)) => "failed",
        };
        self.metrics.queried(outcome);
        if let Err(trouble) = &rows {
            tracing::debug!(query = question.text, why = trouble.why(), "a query has no answer to go by");
            troubles.push(trouble.why().to_owned());
        }
        rows
    }
}

impl Stores {
    /// What is to be asked now; what is known of objects that ask no more is forgotten.
    pub(super) fn polls(&self) -> Vec<Poll> {
        let askers = self.judged.objects().into_iter().filter_map(|(object, spec)| {
            let Asked::At(endpoint) = self.prometheus.asked_by(&spec) else { return None };
            let target =
                Key { namespace: object.namespace.clone(), name: spec.spec.target_ref.name.as_str().into() };
            Some((endpoint, object, target, spec))
        });
        let askers: Vec<_> = askers.collect();
        self.prometheus.retain(&askers.iter().map(|(_, object, ..)| object.clone()).collect());
        plan(askers, &self.prometheus.naming)
    }

    /// What is known of all targets.
    pub(super) fn known_targets(&self) -> Targets {
        let rows = self.targets.targets().into_iter();
        let rows: Vec<_> = rows.filter_map(|target| Some((self.deployments.get(&target)?, target))).collect();
        let known = rows.iter().zip(self.services_of_all(&rows)).map(|((row, target), services)| {
            let sets = self.replica_sets.of_group(&Key::new(&target.namespace, &row.target.uid));
            let pods = sets.iter().flat_map(|(set, _)| self.pods.of_group(set));
            let pods = pods.filter(|(_, pod)| !pod.pod.finished);
            Known {
                namespace: target.namespace.clone(),
                deployment: target.name.clone(),
                pods: pods.map(|(key, pod)| (key.name.to_string(), pod.pod.address)).collect(),
                replica_sets: sets.iter().map(|(_, set)| set.revision.name.clone()).collect(),
                services,
            }
        });
        let index = Index::new(&known.collect::<Vec<_>>());
        let numbers = rows.into_iter().enumerate().map(|(number, (_, target))| (target, number));
        Targets { index, numbers: numbers.collect() }
    }

    /// The names of the Services that select the pods of each of these.
    fn services_of_all(&self, targets: &[(Arc<DeploymentRow>, Key)]) -> Vec<Vec<String>> {
        // By namespace and label: a Service is held against the few that share its rarest one.
        let mut labelled: HashMap<(&str, &str, &str), Vec<usize>> = HashMap::new();
        for (number, (row, target)) in targets.iter().enumerate() {
            for (name, value) in &row.pod_labels {
                labelled.entry((&*target.namespace, name, value)).or_default().push(number);
            }
        }
        let namespaces: HashSet<&str> = targets.iter().map(|(_, target)| &*target.namespace).collect();
        let mut names = vec![Vec::new(); targets.len()];
        for namespace in namespaces {
            for (key, service) in self.services.of_group(&namespace_group(namespace)) {
                let labels = service.selector.iter();
                let with =
                    labels.map(|(name, value)| labelled.get(&(namespace, name.as_str(), value.as_str())));
                let fewest = with.min_by_key(|all| all.map_or(0, Vec::len));
                for number in fewest.flatten().into_iter().flatten() {
                    if service.selects(&targets[*number].0.pod_labels) {
                        names[*number].push(key.name.to_string());
                    }
                }
            }
        }
        names
    }
}
