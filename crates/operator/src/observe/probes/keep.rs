//! The asking itself: one task for all servers. What is due is asked, a bounded number at a time; what it
//! came to goes into the store; and after it the rules are asked again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use jiff::Timestamp;
use mcp_health_api::{Duration as ApiDuration, HttpSignal, McpServerHealth, McpSignal};
use mcp_health_core::signals::{Fault, FaultKind, ProbePath, ProbeQuestion, ProbeResult};
use mcp_probe::{Address, Endpoint, Outcome, SessionUse};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    super::{
        backoff::digest,
        dependencies::round::{self, Rounds},
        deployments::DeploymentRow,
        postgres::looks::Looks,
        secrets::Secrets,
        stores::Stores,
        table::Key,
        urgent,
    },
    Probes, circuits, health, mcp,
    mcp::{Probers, Question, Turn},
    schedule::{Schedule, Topic},
    seen::{Came, Rate, Server},
    way::Way,
    ways::{still_ready, ways},
};
use crate::{config::Config, endpoints::AllowList, telemetry::Metrics};

/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(250);
/// How often it is looked which objects there are, in ticks.
const OBJECTS_EACH: u32 = 4;
/// How often metrics are told of certificates and of requests, in ticks.
const CERTIFICATES_EACH: u32 = 60;
/// An object that was not looked at yet is tried again so soon.
const SOON: Duration = Duration::from_secs(1);
/// A longer interval is looked at so often: it may have become shorter.
const LONGEST: Duration = Duration::from_secs(30);
/// How long what is under way at the end may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The questions that one probe of MCP asks.
const OF_MCP: [ProbeQuestion; 3] = [ProbeQuestion::Mcp, ProbeQuestion::Tools, ProbeQuestion::Canary];

/// What is needed to ask.
pub struct Asking {
    stores: Arc<Stores>,
    at_once: Semaphore,
    probers: Probers,
    secrets: Arc<Secrets>,
    rounds: Rounds,
    looks: Looks,
    metrics: Arc<Metrics>,
}

/// The ways by which MCP is asked in one round.
struct Turns<'a> {
    key: &'a Key,
    due: &'a [Way],
    lender: Option<&'a ProbePath>,
    /// It is not known whether the server lets more than one client in.
    is_unknown: bool,
}

/// What a round came to.
struct Round {
    what: (Key, Topic, u64),
    begun: Instant,
    pause: Duration,
    /// The rules may make something else of it.
    is_news: bool,
}

impl Asking {
    /// By the operator's configuration.
    pub fn new(
        stores: Arc<Stores>,
        secrets: Arc<Secrets>,
        config: &Config,
        allowed: AllowList,
        metrics: Arc<Metrics>,
    ) -> Self {
        // What does not answer takes its time, and keeps no server from being asked.
        let at_once = config.probe_concurrency.max(1);
        Self {
            stores,
            at_once: Semaphore::new(at_once),
            probers: Probers::default(),
            rounds: Rounds::new(Arc::clone(&secrets), allowed.clone(), Arc::clone(&metrics), at_once),
            looks: Looks::new(Arc::clone(&secrets), allowed, Arc::clone(&metrics), at_once),
            secrets,
            metrics,
        }
    }

    /// Asks until the operator ends; then ends the sessions that servers keep for it.
    pub async fn keep(self) {
        let Some(probes) = &self.stores.probes else { return };
        let mut schedule = Schedule::default();
        let (mut rounds, mut goodbyes) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut news = BTreeSet::new();
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                () = probes.ending.notified() => break,
                Some(round) = rounds.next() => {
                    let Round { what, begun, pause, is_news } = round;
                    if !schedule.knows(&what.0) {
                        // It went while it was asked: what came of that is forgotten, too.
                        goodbyes.push(self.forget(probes, what.0));
                        continue;
                    }
                    if is_news {
                        news.insert(what.0.clone());
                    }
                    schedule.again(what, begun, pause);
                }
                Some(()) = goodbyes.next() => {}
                _ = clock.tick() => {
                    if ticks.is_multiple_of(OBJECTS_EACH) {
                        let gone = schedule.keep_to(self.stores.targets.all(), Instant::now());
                        goodbyes.extend(gone.into_iter().map(|key| self.forget(probes, key)));
                        if let Some(databases) = &self.stores.databases {
                            databases.hang_up();
                        }
                    }
                    if ticks.is_multiple_of(CERTIFICATES_EACH)
                        && let Some(dependencies) = &self.stores.dependencies
                    {
                        self.metrics.certify(dependencies.certificates());
                    }
                    if ticks.is_multiple_of(CERTIFICATES_EACH) {
                        let counts = self.stores.requests.counts().into_iter();
                        let text = |part: Option<&Arc<str>>| part.map_or("", |part| part).to_owned();
                        self.metrics.count_requests(counts.map(|(key, made)| {
                            let (space, name) = key.as_ref().map(|key| (&key.namespace, &key.name)).unzip();
                            (text(space), text(name), made)
                        }));
                    }
                    ticks = ticks.wrapping_add(1);
                    schedule.hasten(&self.stores.urgent.take_new(), Instant::now());
                    for what in schedule.take_due(Instant::now()) {
                        rounds.push(self.round(probes, what));
                    }
                    self.stores.tell(std::mem::take(&mut news), Timestamp::now());
                }
            }
        }
        // What is cut off in the middle may leave a session behind.
        let _ = timeout(LAST_ANSWERS, rounds.collect::<Vec<_>>()).await;
        self.probers.end().await;
        probes.ended.notify_one();
    }

    /// Forgets an object that is gone, and ends the sessions that its server keeps.
    fn forget(&self, probes: &Probes, key: Key) -> impl Future<Output = ()> {
        probes.forget(&key);
        if let Some(dependencies) = &self.stores.dependencies {
            dependencies.forget(&key);
        }
        if let Some(databases) = &self.stores.databases {
            databases.forget(&key);
        }
        self.stores.urgent.set(&key, false);
        self.stores.requests.forget(&key);
        self.probers.forget(key)
    }

    async fn round(&self, probes: &Probes, what: (Key, Topic, u64)) -> Round {
        let begun = Instant::now();
        let (key, topic, _) = &what;
        let done = async {
            let object = self.stores.judged.object(key)?;
            let target = Key::new(&key.namespace, &object.spec.target_ref.name);
            let row = self.stores.deployments.get(&target)?;
            probes.of(key, &row.target.uid, &object, |server| {
                server.ask(&mcp_of(&object), &http_of(&object));
            });
            Some(match topic {
                Topic::Mcp => self.mcp(probes, key, &object, &row).await,
                Topic::Http => self.http(probes, key, &object, &row).await,
                Topic::Dependencies => (self.rounds.ask(&self.stores, key, &object).await, round::INTERVAL),
                Topic::Postgres => {
                    let looked = self.looks.look(&self.stores, key, &object).await;
                    self.stores.note_database(&object, Timestamp::now());
                    looked
                }
            })
        };
        let (is_news, pause) = done.await.unwrap_or((false, SOON));
        let is_urgent =
            matches!(topic, Topic::Dependencies | Topic::Postgres) && self.stores.urgent.is_set(key);
        let pause = pause.min(if is_urgent { urgent::PAUSE } else { LONGEST });
        // While it is not known whether they answer, each answer may decide.
        Round { begun, pause, is_news: is_news || is_urgent, what }
    }

    /// MCP, by all ways. Whether that is news, and the pause until the next time.
    async fn mcp(
        &self,
        probes: &Probes,
        key: &Key,
        object: &McpServerHealth,
        row: &DeploymentRow,
    ) -> (bool, Duration) {
        let (mcp, declared) = (mcp_of(object), object.spec.signals.mcp.is_some());
        let pause = pause(mcp.interval);
        let ways = if mcp.enabled { ways(&self.stores, object, row, mcp.port) } else { Vec::new() };
        let uid = &row.target.uid;
        if probes.of(key, uid, object, |server| server.is_early(Topic::Mcp, mcp.interval.span())) {
            return (false, pause);
        }
        let of = format!("{} {} {:?} {:?}", row.target.template, mcp.path, mcp.port, mcp.transport);
        let is_single = probes.of(key, uid, object, |server| {
            server.clients.keep_to(of);
            server.clients.single().is_some()
        });
        let ways = if is_single { Vec::new() } else { ways };
        self.probers.keep_to(key, &ways).await;
        if ways.is_empty() {
            probes.of(key, uid, object, |server| server.keep_to(&OF_MCP, &ways));
            return (false, pause);
        }
        let question = match Question::new(&mcp, &key.namespace, &self.secrets).await {
            Ok(question) => question,
            Err(why) => {
                let is_news = probes
                    .of(key, uid, object, |server| server.mcp_trouble.replace(why.clone()) != Some(why));
                return (is_news, pause);
            }
        };
        let what = digest(&(&row.target.template, format!("{mcp:?}"), &question.token));
        let due = probes.of(key, uid, object, |server| {
            server.see(ProbeQuestion::Mcp, &ways);
            server.keep_to(&OF_MCP, &ways);
            let due = server.due(ProbeQuestion::Mcp, &ways, rate(mcp.interval, declared), what);
            server.afford(ProbeQuestion::Mcp, due, self.stores.requests.left(key))
        });
        if due.is_empty() {
            return (false, pause);
        }
        let is_unknown = probes.of(key, uid, object, |server| server.clients.is_unknown());
        let remembers = |with: &mut dyn FnMut(&mut Server)| probes.of(key, uid, object, with);
        let turns = Turns { key, due: &due, lender: only_pod(&ways), is_unknown };
        let (came, is_single) = self.mcp_in_turn(&turns, &question, remembers).await;
        if is_single {
            // Clients come first: what the operator holds ends at once.
            self.probers.forget(key.clone()).await;
        }
        let due = still_ready(&self.stores, &key.namespace, due);
        let is_news = probes.of(key, uid, object, |server| {
            let had_trouble = server.mcp_trouble.take().is_some();
            note_all(server, &due, came) || had_trouble || is_single
        });
        (is_news, pause)
    }

    /// MCP, by all ways that are due: one pod before all others while it is not known whether it lets
    /// others in; Services last: they borrow. What each came to, and whether the server serves one client
    /// at a time.
    async fn mcp_in_turn(
        &self,
        turns: &Turns<'_>,
        question: &Question<'_>,
        remembers: impl Fn(&mut dyn FnMut(&mut Server)),
    ) -> (Vec<Vec<Came>>, bool) {
        let Turns { key, due, lender, is_unknown } = *turns;
        let first = usize::from(is_unknown);
        let of_pods = due.iter().filter(|way| matches!(way.path, ProbePath::Pod(_))).count().max(first);
        let (mut came, mut is_single) = (Vec::new(), false);
        for group in [&due[..first], &due[first..of_pods], &due[of_pods..]] {
            if is_single {
                break;
            }
            let asked = group.iter().map(|way| self.mcp_by(key, way, lender, question, &remembers));
            for (all, found_single) in join_all(asked).await {
                came.push(all);
                is_single |= found_single;
            }
        }
        (came, is_single)
    }

    /// MCP, by one way: what each question came to, and whether the server serves one client at a time.
    async fn mcp_by(
        &self,
        key: &Key,
        way: &Way,
        lender: Option<&ProbePath>,
        question: &Question<'_>,
        remembers: &impl Fn(&mut dyn FnMut(&mut Server)),
    ) -> (Vec<Came>, bool) {
        let _turn = self.at_once.acquire().await;
        let (at, began) = (Timestamp::now(), Instant::now());
        let address = match way_to(way, question.mcp.timeout).await {
            Ok(address) => address,
            Err(fault) => {
                let came = self.came(ProbeQuestion::Mcp, at, began.elapsed(), Err(fault), None);
                return (vec![came], false);
            }
        };
        let endpoint = mcp::endpoint(address, way, question.mcp);
        let (mut tools, mut session) = (false, SessionUse::End);
        remembers(&mut |server| {
            (tools, session) = (server.is_unsettled(&way.path), server.clients.session_use(&way.path));
        });
        let borrows = matches!(way.path, ProbePath::Service(_)) && !way.leads_elsewhere;
        let lender = lender.filter(|_| borrows);
        let turn = Turn { way, endpoint, tools, session, lender };
        let outcome = match self.probers.ask(key, turn, question, &self.secrets).await {
            Ok(outcome) => outcome,
            Err(why) => {
                let fault = Fault { kind: FaultKind::Unreachable, said: why };
                let came = self.came(ProbeQuestion::Mcp, at, began.elapsed(), Err(fault), None);
                return (vec![came], false);
            }
        };
        self.stores.requests.spent(key, outcome.requests);
        let mut is_single = false;
        remembers(&mut |server| {
            server.note_requests(ProbeQuestion::Mcp, way, outcome.requests);
            match &outcome.result {
                Ok(()) if outcome.is_shared => server.clients.note_shared(),
                Ok(()) => {}
                Err(fault) => is_single = server.clients.note(&way.path, at, outcome.took, fault),
            }
        });
        (self.came_of(at, outcome), is_single)
    }

    /// Health by all ways, and circuit breakers by its pods.
    async fn http(
        &self,
        probes: &Probes,
        key: &Key,
        object: &McpServerHealth,
        row: &DeploymentRow,
    ) -> (bool, Duration) {
        let (http, declared) = (http_of(object), object.spec.signals.http.is_some());
        let pause = pause(http.interval);
        let ways = if http.enabled { ways(&self.stores, object, row, http.port) } else { Vec::new() };
        let uid = &row.target.uid;
        if probes.of(key, uid, object, |server| server.is_early(Topic::Http, http.interval.span())) {
            return (false, pause);
        }
        let rate = rate(http.interval, declared);
        let what = digest(&(&row.target.template, format!("{http:?}")));
        let (due, tellers) = probes.of(key, uid, object, |server| {
            server.see(ProbeQuestion::Health, &ways);
            server.keep_to(&[ProbeQuestion::Health], &ways);
            let due = server.due(ProbeQuestion::Health, &ways, rate, what);
            let due = server.afford(ProbeQuestion::Health, due, self.stores.requests.left(key));
            (due, server.circuits_due(&ways, rate, &http, what))
        });
        let endpoint = |address, way: &Way, path: &str| Endpoint {
            host: way.host.clone(),
            tls: way.tls,
            unverified: true,
            timeout: http.timeout.span().unsigned_abs(),
            ..Endpoint::new(Address::Socket(address), path)
        };
        let asked = due.iter().map(|way| async {
            let _turn = self.at_once.acquire().await;
            let (at, began) = (Timestamp::now(), Instant::now());
            let (result, retry_after) = match way_to(way, http.timeout).await {
                Ok(address) => {
                    self.stores.requests.spent(key, 1);
                    health::ask(&endpoint(address, way, &http.health)).await
                }
                Err(fault) => (Err(fault), None),
            };
            let came = self.came(ProbeQuestion::Health, at, began.elapsed(), result, None);
            vec![Came { retry_after, ..came }]
        });
        let told = tellers.iter().filter_map(|way| match &way.path {
            ProbePath::Pod(pod) => Some(async {
                let _turn = self.at_once.acquire().await;
                let (at, began) = (Timestamp::now(), Instant::now());
                let (result, retry_after) = match way_to(way, http.timeout).await {
                    Ok(address) => {
                        self.stores.requests.made_beside(key, 1);
                        circuits::ask(&endpoint(address, way, &http.circuit_breakers), pod, at).await
                    }
                    Err(fault) => (Err(fault), None),
                };
                self.metrics.probed("Circuits", outcome(result.as_ref().err()), began.elapsed());
                (pod.clone(), result, retry_after)
            }),
            ProbePath::Service(_) => None,
        });
        let (came, told) = tokio::join!(join_all(asked), join_all(told));
        let due = still_ready(&self.stores, &key.namespace, due);
        let is_news = probes.of(key, uid, object, |server| {
            let mut is_news = note_all(server, &due, came);
            for (pod, result, retry_after) in told {
                is_news |= server.note_circuits(&pod, result, retry_after);
            }
            is_news
        });
        (is_news, pause)
    }

    /// What one probe of MCP came to, question by question.
    fn came_of(&self, at: Timestamp, outcome: Outcome) -> Vec<Came> {
        let mcp = self.came(ProbeQuestion::Mcp, at, outcome.took, outcome.result, None);
        let mcp = Came { retry_after: outcome.retry_after, ..mcp };
        let listed = outcome.listed.map(|listed| {
            let (result, tools) = match listed.result {
                Ok(tools) => (Ok(()), tools),
                Err(fault) => (Err(fault), None),
            };
            self.came(ProbeQuestion::Tools, at, listed.took, result, tools)
        });
        let called = outcome.canary;
        let called = called.map(|one| self.came(ProbeQuestion::Canary, at, one.took, one.result, None));
        std::iter::once(mcp).chain(listed).chain(called).collect()
    }

    fn came(
        &self,
        question: ProbeQuestion,
        at: Timestamp,
        took: Duration,
        result: Result<(), Fault>,
        tools: Option<Vec<mcp_health_core::signals::Tool>>,
    ) -> Came {
        self.metrics.probed(name(question), outcome(result.as_ref().err()), took);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let result = ProbeResult { at, millis, was_ready: false, outcome: result };
        Came { question, result, tools, retry_after: None }
    }
}

const fn name(question: ProbeQuestion) -> &'static str {
    match question {
        ProbeQuestion::Mcp => "Mcp",
        ProbeQuestion::Tools => "Tools",
        ProbeQuestion::Health => "Health",
        ProbeQuestion::Canary => "Canary",
    }
}

/// `Ok`, or the name of the fault.
fn outcome(fault: Option<&Fault>) -> String {
    fault.map_or_else(|| "Ok".to_owned(), |fault| format!("{:?}", fault.kind))
}

/// The pod, where there is one only.
fn only_pod(ways: &[Way]) -> Option<&ProbePath> {
    let mut pods = ways.iter().map(|way| &way.path).filter(|path| matches!(path, ProbePath::Pod(_)));
    pods.next().filter(|_| pods.next().is_none())
}

fn note_all(server: &mut Server, ways: &[Way], came: Vec<Vec<Came>>) -> bool {
    let mut is_news = false;
    for (way, all) in ways.iter().zip(came) {
        for one in all {
            is_news |= server.note(way, one);
        }
    }
    is_news
}

/// The address of a way, within the time that a probe may take.
async fn way_to(way: &Way, patience: ApiDuration) -> Result<std::net::SocketAddr, Fault> {
    let none = |said: String| Fault { kind: FaultKind::Dns, said };
    match timeout(patience.span().unsigned_abs(), way.address()).await {
        Ok(address) => address.map_err(none),
        Err(_) => Err(none(format!("{} does not resolve within {patience}", way.host))),
    }
}

fn pause(interval: ApiDuration) -> Duration {
    interval.span().unsigned_abs()
}

/// How often a question is asked.
pub fn rate(interval: ApiDuration, is_declared: bool) -> Rate {
    Rate { interval: pause(interval), is_declared }
}

/// What is asked about MCP, declared or not.
pub fn mcp_of(object: &McpServerHealth) -> McpSignal {
    object.spec.signals.mcp.clone().unwrap_or_default()
}

/// What is asked over HTTP, declared or not.
pub fn http_of(object: &McpServerHealth) -> HttpSignal {
    object.spec.signals.http.clone().unwrap_or_default()
}
