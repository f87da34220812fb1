//! What probes of one server came to, as far as it is remembered: in memory only, and bounded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Answered, HttpSignal, McpServerHealth, McpSignal};
use mcp_health_core::probes::FAILING;
use mcp_health_core::signals::{
    Circuit, Fault, FaultKind, PROBES_KEPT, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading, Tool,
};

use super::super::backoff::{Backoff, EARLIEST, Reception, Stake, digest};
use super::{clients::Clients, mcp::TOOLS_EACH, schedule::Topic, way::Way};
use tokio::time::Instant;

/// Answers that are missing for so many intervals, and this time, are no evidence any more.
const LATE: (i32, SignedDuration) = (3, SignedDuration::from_secs(30));

/// How often a question is asked where nothing speaks for less.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The pause between two.
    pub interval: Duration,
    /// The policy names what is asked.
    pub is_declared: bool,
}

/// What is asked by a way, and of whom.
fn of(what: u64, way: &Way) -> u64 {
    digest(&(what, way.instance, way.tls, &way.host))
}

/// Whether exactly one Service is among the ways.
fn are_of_one_service(ways: &[Way]) -> bool {
    ways.iter().filter(|way| matches!(way.path, ProbePath::Service(_))).count() == 1
}

/// The Service of a path, where it goes through one.
fn service_of(path: &ProbePath) -> Option<String> {
    match path {
        ProbePath::Service(name) => Some(name.clone()),
        ProbePath::Pod(_) => None,
    }
}

/// The policy says where the list of circuit breakers is.
fn names_circuits(http: &HttpSignal) -> bool {
    http.circuit_breakers != HttpSignal::default().circuit_breakers
}

/// What one path of one question came to.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Oldest first.
    results: Vec<ProbeResult>,
    /// Shared by pods that offer the same.
    tools: Option<Arc<[Tool]>>,
    /// It was answered well at least once.
    ever: bool,
    backoff: Backoff,
    /// How many requests it took the last time.
    requests: u32,
}

/// What the circuit breakers of one pod came to.
#[derive(Clone, Debug, Default)]
struct Told {
    backoff: Backoff,
    /// What it told last.
    circuits: Option<Vec<Circuit>>,
    /// Why it did not tell, the last time.
    fault: Option<Fault>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Server {
    /// The Deployment: another uid is another server.
    pub uid: String,
    /// What was asked, as far as another answer to it would be another server's.
    asked: [Option<String>; 3],
    /// What was answered at least once: by a pod, whichever; through a Service, which.
    answered: HashSet<(ProbeQuestion, Option<String>)>,
    /// By earlier operators, as the status has it.
    remembered: Vec<Answered>,
    /// The questions for which there is one Service.
    of_one_service: HashSet<ProbeQuestion>,
    /// When what was asked last.
    begun: HashMap<Topic, Instant>,
    paths: BTreeMap<(ProbeQuestion, ProbePath), Seen>,
    circuits: BTreeMap<String, Told>,
    /// Whether others are let in beside the operator.
    pub clients: Clients,
    /// Why MCP cannot be asked at all.
    pub mcp_trouble: Option<String>,
}

/// What a probe came to.
#[derive(Clone, Debug)]
pub struct Came {
    /// What was asked.
    pub question: ProbeQuestion,
    /// What it came to.
    pub result: ProbeResult,
    /// The tools, where they were told.
    pub tools: Option<Vec<Tool>>,
    /// The server wants no other request for so long.
    pub retry_after: Option<Duration>,
}

impl Server {
    /// Nothing was asked yet by this operator.
    pub fn new(uid: &str, object: &McpServerHealth) -> Self {
        let target = object.status.as_ref().and_then(|status| status.target.as_ref());
        let remembered = target.filter(|target| target.uid == uid).map(|target| target.answered.clone());
        Self { uid: uid.to_owned(), remembered: remembered.unwrap_or_default(), ..Self::default() }
    }

    /// What it is asked from now on. Where that is something else than before, what was answered until then
    /// says nothing about it.
    pub fn ask(&mut self, mcp: &McpSignal, http: &HttpSignal) {
        use Answered::{HealthPod, HealthService, McpPod, McpService, ToolsPod, ToolsService};
        let asked = [
            format!("{} {:?} {:?}", mcp.path, mcp.port, mcp.transport),
            format!("{} {} {:?}", http.health, http.circuit_breakers, http.port),
            format!("{:?}", mcp.canary_tool),
        ];
        let [of_mcp, of_http, of_canary] = std::array::from_fn(|place| {
            let before = self.asked[place].replace(asked[place].clone());
            before.is_some_and(|before| before != asked[place])
        });
        if of_mcp {
            self.forget(&[ProbeQuestion::Mcp, ProbeQuestion::Tools]);
            self.remembered.retain(|one| !matches!(one, McpPod | McpService | ToolsPod | ToolsService));
        }
        if of_mcp || of_canary {
            self.forget(&[ProbeQuestion::Canary]);
        }
        if of_http {
            self.forget(&[ProbeQuestion::Health]);
            self.remembered.retain(|one| !matches!(one, HealthPod | HealthService));
            self.circuits.clear();
        }
    }

    fn forget(&mut self, questions: &[ProbeQuestion]) {
        self.paths.retain(|(question, _), _| !questions.contains(question));
        self.answered.retain(|(question, _)| !questions.contains(question));
    }

    /// Notes which ways there are.
    pub fn see(&mut self, question: ProbeQuestion, ways: &[Way]) {
        if are_of_one_service(ways) {
            self.of_one_service.insert(question);
        } else {
            self.of_one_service.remove(&question);
        }
    }

    /// Whether it is too early to ask; it is asked now otherwise.
    pub fn is_early(&mut self, topic: Topic, interval: SignedDuration) -> bool {
        let (now, pause) = (Instant::now(), interval.unsigned_abs().mul_f64(EARLIEST));
        let is_early = self.begun.get(&topic).is_some_and(|begun| now.duration_since(*begun) < pause);
        if !is_early {
            self.begun.insert(topic, now);
        }
        is_early
    }

    /// Forgets the ways that are no more.
    pub fn keep_to(&mut self, questions: &[ProbeQuestion], ways: &[Way]) {
        let is_left = |path: &ProbePath| ways.iter().any(|way| way.path == *path);
        self.paths.retain(|(question, path), _| !questions.contains(question) || is_left(path));
        if questions.contains(&ProbeQuestion::Health) {
            self.circuits.retain(|pod, _| is_left(&ProbePath::Pod(pod.clone())));
        }
    }

    /// Whether a path was answered once. What an earlier operator was answered through a Service is known of
    /// this one only where there is no other.
    fn was_answered(&self, question: ProbeQuestion, path: &ProbePath) -> bool {
        self.was_answered_of(question, path, self.of_one_service.contains(&question))
    }

    fn was_answered_of(&self, question: ProbeQuestion, path: &ProbePath, is_one_service: bool) -> bool {
        let service = service_of(path);
        let remembered = question.answered(service.is_some());
        let certain = service.is_none() || is_one_service;
        self.answered.contains(&(question, service))
            || (certain && remembered.is_some_and(|one| self.remembered.contains(&one)))
    }

    /// The ways by which a question is asked now. `what` is asked: a digest.
    pub fn due(&mut self, question: ProbeQuestion, ways: &[Way], rate: Rate, what: u64) -> Vec<Way> {
        let mut is_due = |way: &Way| {
            let stake = self.stake(question, &way.path, rate);
            let seen = self.paths.entry((question, way.path.clone())).or_default();
            seen.backoff.keep_to(of(what, way));
            seen.backoff.is_due(stake)
        };
        ways.iter().filter(|way| is_due(way)).cloned().collect()
    }

    /// Of these ways those for which there are requests left, the one that waits for longest first; the
    /// others are deferred. Each is thought to take what it took the last time.
    pub fn afford(&mut self, question: ProbeQuestion, ways: Vec<Way>, mut left: f64) -> Vec<Way> {
        let asked = |way: &Way| self.paths.get(&(question, way.path.clone()))?.backoff.asked();
        let mut order: Vec<usize> = (0..ways.len()).collect();
        order.sort_by_key(|place| asked(&ways[*place]));
        let mut is_afforded = vec![false; ways.len()];
        for place in order {
            is_afforded[place] = left >= 1.0;
            let seen = self.paths.entry((question, ways[place].path.clone())).or_default();
            if is_afforded[place] {
                left -= f64::from(seen.requests.max(1));
            } else {
                seen.backoff.defer();
            }
        }
        let all = ways.into_iter().zip(is_afforded);
        all.filter(|(_, is_afforded)| *is_afforded).map(|(way, _)| way).collect()
    }

    /// A path took so many requests.
    pub fn note_requests(&mut self, question: ProbeQuestion, way: &Way, requests: u32) {
        self.paths.entry((question, way.path.clone())).or_default().requests = requests;
    }

    fn stake(&self, question: ProbeQuestion, path: &ProbePath, rate: Rate) -> Stake {
        let was_answered = self.was_answered(question, path);
        Stake { interval: rate.interval, is_declared: rate.is_declared, was_answered }
    }

    /// The pause until a path is asked again. What is asked after MCP was answered waits for that.
    fn pause(&self, question: ProbeQuestion, path: &ProbePath, rate: Rate) -> Duration {
        let of_mcp = matches!(question, ProbeQuestion::Tools | ProbeQuestion::Canary);
        let first = if of_mcp { ProbeQuestion::Mcp } else { question };
        let seen = self.paths.get(&(first, path.clone()));
        seen.map_or(rate.interval, |seen| seen.backoff.pause_of_evidence(self.stake(first, path, rate)))
    }

    /// Whether `tools/list` is asked each time: there are too few answers to tell anything, or one of the
    /// last was a fault.
    pub fn is_unsettled(&self, path: &ProbePath) -> bool {
        let question = ProbeQuestion::Tools;
        let Some(seen) = self.paths.get(&(question, path.clone())) else { return true };
        let is_any_fault = seen.results.iter().any(|result| result.outcome.is_err());
        seen.results.len() < FAILING || is_any_fault && self.was_answered(question, path)
    }

    /// The ways to the pods that are asked for their circuit breakers now.
    pub fn circuits_due(&mut self, ways: &[Way], rate: Rate, http: &HttpSignal, what: u64) -> Vec<Way> {
        let mut is_due = |way: &Way| {
            let ProbePath::Pod(pod) = &way.path else { return false };
            let told = self.circuits.entry(pod.clone()).or_default();
            let has_none = told.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::NotFound);
            // Whoever declares a health path need not have circuits.
            let is_declared = if has_none { names_circuits(http) } else { rate.is_declared };
            told.backoff.keep_to(of(what, way));
            let was_answered = told.circuits.is_some();
            told.backoff.is_due(Stake { interval: rate.interval, is_declared, was_answered })
        };
        ways.iter().filter(|way| is_due(way)).cloned().collect()
    }

    /// Notes what a probe came to. True where the rules may make something else of it.
    pub fn note(&mut self, way: &Way, came: Came) -> bool {
        let Came { question, result, tools, retry_after } = came;
        let counts = result.outcome.is_ok() && tools.as_ref().is_none_or(|tools| !tools.is_empty());
        let result = ProbeResult { was_ready: way.ready, ..result };
        let tools = tools.map(|tools| self.shared(question, tools));
        let seen = self.paths.entry((question, way.path.clone())).or_default();
        let is_well = result.outcome.is_ok();
        // Fewer answers tell nothing: that they become enough is news, though each is good.
        let is_news = seen.results.len() < FAILING
            || tools.as_ref().is_some_and(|tools| seen.tools.as_ref() != Some(tools))
            || !is_well
            || seen.results.iter().any(|before| before.outcome.is_err());
        let reception = Reception::of(result.outcome.as_ref().err());
        seen.backoff.note(reception, way.ready, retry_after);
        let surplus = (seen.results.len() + 1).saturating_sub(PROBES_KEPT);
        seen.results.drain(..surplus);
        seen.ever |= counts;
        seen.results.push(result);
        if tools.is_some() {
            seen.tools = tools;
        }
        (counts && self.answered.insert((question, service_of(&way.path)))) || is_news
    }

    /// A list of tools, shared with a path that has the same.
    fn shared(&self, question: ProbeQuestion, tools: Vec<Tool>) -> Arc<[Tool]> {
        let of_question = self.paths.iter().filter(|((asked, _), _)| *asked == question);
        let mut known = of_question.filter_map(|(_, seen)| seen.tools.as_ref());
        known.find(|known| ***known == *tools).map_or_else(|| tools.into(), Arc::clone)
    }

    /// Notes what a pod said of its circuit breakers. True where the rules may make something else of it.
    pub fn note_circuits(
        &mut self,
        pod: &str,
        came: Result<Vec<Circuit>, Fault>,
        retry_after: Option<Duration>,
    ) -> bool {
        use mcp_health_core::signals::CircuitState::Closed;
        let told = self.circuits.entry(pod.to_owned()).or_default();
        told.backoff.note(Reception::of(came.as_ref().err()), true, retry_after);
        match came {
            Ok(circuits) => {
                let before = told.circuits.replace(circuits);
                let all = before.iter().flatten().chain(told.circuits.iter().flatten());
                told.fault.take().is_some() || before.is_none() || all.clone().any(|one| one.state != Closed)
            }
            Err(fault) => {
                let is_news = told.circuits.is_some() || told.fault.as_ref() != Some(&fault);
                told.fault = Some(fault);
                is_news
            }
        }
    }

    /// What was answered by now, as the status has it.
    pub fn answered(&self) -> BTreeSet<Answered> {
        let own = self.answered.iter();
        own.filter_map(|(question, service)| question.answered(service.is_some())).collect()
    }

    /// Whether some pod offers tools.
    pub fn has_tools(&self) -> bool {
        self.paths.values().filter_map(|seen| seen.tools.as_ref()).any(|tools| !tools.is_empty())
    }

    /// How many of the paths that were answered once could not be reached the last time, and how many there
    /// are.
    pub fn unreachable(&self) -> (usize, usize) {
        // What is asked only after MCP was answered says no more of the way.
        let of_the_way = |question| matches!(question, ProbeQuestion::Mcp | ProbeQuestion::Health);
        let known = self.paths.iter().filter(|((question, _), _)| of_the_way(*question));
        let answered = known.filter(|((question, path), _)| self.was_answered(*question, path));
        let last = answered.filter_map(|(_, seen)| seen.results.last());
        last.fold((0, 0), |(unreachable, all), result| {
            let of_the_way = result.outcome.as_ref().is_err_and(|fault| fault.kind.is_of_the_way());
            (unreachable + usize::from(of_the_way), all + 1)
        })
    }

    /// What the paths of a question came to. Left out: what was never answered and was not declared.
    pub fn probed(&self, question: ProbeQuestion, ways: &[Way], rate: Rate, each: u16) -> Vec<Probed> {
        let to_pods = |way: &&Way| question != ProbeQuestion::Canary || matches!(way.path, ProbePath::Pod(_));
        let is_one_service = are_of_one_service(ways);
        let view = |way: &Way| {
            let seen = self.paths.get(&(question, way.path.clone()));
            let ever_answered = self.was_answered_of(question, &way.path, is_one_service);
            let pause = self.pause(question, &way.path, rate).max(rate.interval * u32::from(each));
            (ever_answered || rate.is_declared || way.leads_elsewhere).then(|| Probed {
                path: way.path.clone(),
                question,
                ever_answered,
                answered_here: seen.is_some_and(|seen| seen.ever),
                pause: SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX),
                leads_elsewhere: way.leads_elsewhere,
                results: seen.map(|seen| seen.results.clone()).unwrap_or_default(),
                tools: seen.and_then(|seen| seen.tools.as_ref()).map(|tools| tools.to_vec()),
            })
        };
        ways.iter().filter(to_pods).filter_map(view).collect()
    }

    /// What all questions of MCP came to. A server that serves one client at a time tells only that.
    pub fn probed_of_mcp(&self, mcp: &McpSignal, ways: &[Way], is_declared: bool) -> Vec<Probed> {
        if let Some(single) = self.clients.single().filter(|_| mcp.enabled) {
            return vec![single.clone()];
        }
        let rate = Rate { interval: mcp.interval.span().unsigned_abs(), is_declared };
        let mut probed = self.probed(ProbeQuestion::Mcp, ways, rate, 1);
        probed.extend(self.probed(ProbeQuestion::Tools, ways, rate, TOOLS_EACH));
        if mcp.canary_tool.is_some() {
            let rate = Rate { is_declared: true, ..rate };
            probed.extend(self.probed(ProbeQuestion::Canary, ways, rate, 1));
        }
        probed
    }

    /// What the circuit breakers came to.
    pub fn circuits(&self, ways: &[Way], http: &HttpSignal, declared: bool) -> Reading<Vec<Circuit>> {
        let of_pods = ways.iter().filter_map(|way| match &way.path {
            ProbePath::Pod(pod) => Some((way, self.circuits.get(pod)?)),
            ProbePath::Service(_) => None,
        });
        let told: Vec<_> = of_pods.collect();
        let known = || told.iter().filter_map(|(_, told)| told.circuits.as_ref());
        if known().next().is_none() {
            let silent = told.iter().filter(|(way, _)| way.ready).find_map(|(way, told)| {
                let fault = told.fault.as_ref()?;
                let asked = format!("GET {} of {}: {}", http.circuit_breakers, way.host, fault.said);
                if fault.kind == FaultKind::NotFound {
                    return names_circuits(http).then_some(asked);
                }
                let is_of_the_way = fault.kind.is_of_the_way();
                is_of_the_way.then(|| format!("{asked}; it may listen on 127.0.0.1 only"))
            });
            return silent.filter(|_| declared).map_or(Reading::Off, Reading::Unavailable);
        }
        let all: Vec<Circuit> = known().flatten().cloned().collect();
        // What a pod without traffic says no more is no loss.
        let silent =
            told.iter().filter(|(way, told)| way.ready && told.circuits.is_some() && told.fault.is_some());
        let since = silent.filter_map(|(_, told)| told.circuits.as_ref()?.first().map(|one| one.at)).min();
        match since {
            Some(at) => Reading::Stale { value: all, at },
            None => Reading::Fresh(all),
        }
    }
}

/// What probes tell, unless the last answers are too old. What is asked only after MCP was answered is not
/// missing where MCP is not answered.
pub fn unless_late(probed: Vec<Probed>, now: Timestamp) -> Reading<Vec<Probed>> {
    let late = |one: &Probed| one.pause.saturating_mul(LATE.0).saturating_add(LATE.1);
    let asked = |one: &&Probed| matches!(one.question, ProbeQuestion::Mcp | ProbeQuestion::Health);
    let of_each = probed.iter().filter(asked).filter_map(|one| Some((one.last()?.at, late(one))));
    let oldest = of_each.filter(|(at, late)| now.duration_since(*at) > *late).map(|(at, _)| at).min();
    match oldest {
        Some(at) => Reading::Stale { value: probed, at },
        None => Reading::Fresh(probed),
    }
}
