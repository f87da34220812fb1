//! How long a pod may take to become Ready: slow is not broken.
//!
//! Until its containers run, a pod has until the progress deadline: the scheduler, an autoscaler, the node, an image pull
//! and init containers take the time that they take. From the moment its containers run, it has the larger of its probes'
//! own budget and twice the known-good template's longest time to Ready; at least 60 s, at most the progress deadline.
//!
//! What pods show while something that they depend on does not answer tells nothing of them. Once that
//! answers again, they have this time anew.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::IncidentType;

use crate::{
    Case, Server,
    case::lasting,
    mask::mask,
    refusals,
    signals::{AnswersSince, Container, Pod, Role},
    time::after,
    words,
};

/// The least that a pod has from the start of its containers.
const LEAST: SignedDuration = SignedDuration::from_secs(60);
/// The progress deadline where the Deployment has none.
const NO_DEADLINE: SignedDuration = SignedDuration::from_mins(10);
/// `progressDeadlineSeconds` of this many means that there is no deadline.
const UNLIMITED: SignedDuration = SignedDuration::from_secs(i32::MAX as i64);
/// How long a message that is definitive is waited for: what is missing may be created a moment later.
const DEFINITIVE: SignedDuration = SignedDuration::from_secs(15);
/// How long the pods of a server that was up may wait for a node, while none of them is ready.
const NO_NODE: SignedDuration = SignedDuration::from_secs(60);
/// Reasons of Events by which autoscalers say that a node comes: Cluster Autoscaler's and Karpenter's.
const NODE_COMES: [&str; 2] = ["TriggeredScaleUp", "Nominated"];
/// A pod whose container ended within this time does not just take long.
const ENDED: SignedDuration = SignedDuration::from_mins(10);
/// The longest time that the kubelet lets pass before it starts a container again.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_mins(5);

/// How far a pod has come that is not Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No node takes it.
    Unscheduled,
    /// Its node has not started any of its containers.
    NotStarted,
    /// Its node pulls images, or creates its containers.
    Pulling,
    /// An init container runs.
    Initializing,
    /// A container ends or cannot start: it has no more time than a pod that lost its readiness.
    Failing,
    /// Its containers run.
    Running,
    /// Its containers are ready, and another controller has not set a readiness gate.
    Gated,
    /// It was Ready, and is not any more.
    Lost,
}

/// How long a pod that is not Ready may stay so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartBudget {
    /// How far it has come.
    pub phase: Phase,
    /// Since when its time counts.
    pub since: Timestamp,
    /// When its time is over.
    pub due: Timestamp,
}

/// How long a pod may take, for the rule of an incident. `lost` is how long it may be without readiness that it had.
pub fn of(
    case: &Case,
    server: &Server,
    pod: &Pod,
    incident: IncidentType,
    lost: SignedDuration,
) -> StartBudget {
    let wish = |default| lasting(case, incident, default);
    let phase = phase(server, pod);
    let deadline = deadline(server);
    let (since, time) = match phase {
        Phase::Unscheduled => {
            let message = pod.unschedulable.as_deref().unwrap_or_default();
            let time = if refusals::is_definitive_for_scheduling(message) {
                DEFINITIVE
            } else if incident == IncidentType::ServiceNotResponding && is_down(server, pod) {
                wish(NO_NODE)
            } else {
                wish(deadline)
            };
            (pod.created, time)
        }
        Phase::NotStarted | Phase::Pulling | Phase::Initializing => (pod.created, deadline),
        Phase::Failing => (pod.created, wish(lost)),
        Phase::Running => (pod.lifecycle.started.unwrap_or(pod.created), wish(running(server))),
        Phase::Gated => {
            let ready = pod.lifecycle.containers_ready.or(pod.lifecycle.started);
            (ready.unwrap_or(pod.created), wish(running(server)))
        }
        Phase::Lost => (pod.ready_changed, wish(lost)),
    };
    let due = after(since, time);
    let excused = match phase {
        Phase::Initializing | Phase::Failing | Phase::Running | Phase::Lost => excused_until(server, pod),
        Phase::Unscheduled | Phase::NotStarted | Phase::Pulling | Phase::Gated => None,
    };
    StartBudget { phase, since, due: excused.map_or(due, |until| until.max(due)) }
}

/// Until when what a pod shows may be the doing of a dependency that did not answer: the pod did not have the
/// time of a start since that answers again, or did not try again since. `None` where it shows a fault of its
/// own.
pub(crate) fn excused_until(server: &Server, pod: &Pod) -> Option<Timestamp> {
    let AnswersSince { at: back, had_failed } = server.dependencies_answer?;
    if pod.containers.iter().any(is_of_its_own) {
        return None;
    }
    let time = running(server);
    let until = if pod.created >= back {
        // It was not there in the outage; but what answers the operator again may not yet serve all.
        had_failed.then(|| after(back, time))?
    } else if pod.containers.iter().any(|one| has_tried_since(one, back)) {
        after(back, time)
    } else if pod.backs_off() {
        let ended = pod.containers.iter().filter_map(|one| one.last_exit.as_ref()).map(|exit| exit.at).max();
        after(ended.unwrap_or(back).max(back), LONGEST_BACK_OFF.saturating_add(time))
    } else {
        after(pod.lifecycle.started_last.map_or(back, |started| started.max(back)), time)
    };
    (until > server.now).then_some(until)
}

/// A container that no dependency keeps from running: it was killed for its memory, or cannot start.
fn is_of_its_own(container: &Container) -> bool {
    let killed = container.last_exit.as_ref().is_some_and(|exit| exit.reason == "OOMKilled");
    let waiting = container.waiting.as_ref().map(|(reason, _)| reason.as_str());
    killed || waiting.is_some_and(|reason| reason != BACK_OFF && !NOT_YET.contains(&reason))
}

/// A container was started since that moment, and ended.
fn has_tried_since(container: &Container, back: Timestamp) -> bool {
    let ended = container.recent_exits.iter().filter(|at| **at >= back).count();
    let began = container.last_exit.as_ref().and_then(|exit| exit.started);
    ended > 1 || began.is_some_and(|began| began >= back)
}

/// The progress deadline, as it counts for a start.
pub fn deadline(server: &Server) -> SignedDuration {
    match server.target.progress_deadline {
        unlimited if unlimited >= UNLIMITED => NO_DEADLINE,
        deadline => deadline,
    }
}

/// What a pod has from the start of its containers.
pub fn running(server: &Server) -> SignedDuration {
    let known = server.last_healthy.and_then(|healthy| healthy.longest_start);
    let known = known.map(|longest| longest.span().saturating_mul(2)).unwrap_or_default();
    server.target.startup_budget.max(known).max(LEAST).min(deadline(server))
}

/// The known-good revision has no pod left that is ready, and no autoscaler says that it brings a node for
/// this one: that is an outage, and no start that takes long.
fn is_down(server: &Server, pod: &Pod) -> bool {
    let is_promised = |(reason, _): &(String, String)| NODE_COMES.contains(&reason.as_str());
    server.template_was_healthy() && server.ready() == 0 && !pod.troubles.iter().any(is_promised)
}

/// A pod that never was Ready, and still has time to become so.
pub fn is_starting(server: &Server, pod: &Pod) -> bool {
    let due = match phase(server, pod) {
        Phase::Unscheduled | Phase::NotStarted | Phase::Pulling | Phase::Initializing => {
            after(pod.created, deadline(server))
        }
        Phase::Running | Phase::Gated => after(pod.lifecycle.started.unwrap_or(pod.created), running(server)),
        Phase::Failing | Phase::Lost => return false,
    };
    due > server.now
}

/// How far a pod has come.
pub fn phase(server: &Server, pod: &Pod) -> Phase {
    let lifecycle = &pod.lifecycle;
    if pod.unschedulable.is_some() {
        Phase::Unscheduled
    } else if lifecycle.containers_ready.is_some() && !lifecycle.unmet_gates.is_empty() {
        Phase::Gated
    } else if pod.lost_readiness() {
        Phase::Lost
    } else if pod.ended_within(ENDED, server.now) || pod.cannot_start() {
        Phase::Failing
    } else if lifecycle.started.is_some() {
        Phase::Running
    } else if lifecycle.init_running.is_some() {
        Phase::Initializing
    } else if lifecycle.sandbox == Some(true) || pod.containers.iter().any(|one| one.role != Role::Main) {
        Phase::Pulling
    } else {
        Phase::NotStarted
    }
}

/// What the first pod of the revision waits for that is not Ready, where every start does not pass through it.
pub fn waits(server: &Server) -> Option<String> {
    let unusual = |pod: &&Pod| {
        let phase = phase(server, pod);
        matches!(phase, Phase::Unscheduled | Phase::Initializing | Phase::Gated | Phase::Lost)
    };
    let pod = server.current_pods().into_iter().filter(|pod| !pod.ready).find(unusual)?;
    Some(words(server, pod))
}

/// What a pod that is not Ready waits for, as a sentence that does not change with time alone.
pub fn words(server: &Server, pod: &Pod) -> String {
    let lifecycle = &pod.lifecycle;
    let since = |at: Timestamp| format!("since {}", words::moment(at));
    let what = match phase(server, pod) {
        Phase::Unscheduled => {
            let message = pod.unschedulable.as_deref().unwrap_or_default();
            format!("no node takes it: {}", words::shorten(message, 200))
        }
        Phase::NotStarted => {
            let placed = lifecycle.scheduled.map(|at| format!(", on its node {}", since(at)));
            format!("its node has not started its containers{}", placed.unwrap_or_default())
        }
        Phase::Pulling => "its node pulls images or creates its containers".to_owned(),
        Phase::Initializing => {
            let name = lifecycle.init_running.as_deref().unwrap_or_default();
            format!("init container {name} has not completed")
        }
        Phase::Failing => match pod.waiting_words() {
            Some(words) => words,
            None => "its containers end".to_owned(),
        },
        Phase::Running => {
            format!("its containers run {}", since(lifecycle.started.unwrap_or(pod.created)))
        }
        Phase::Gated => format!(
            "its containers are ready {}, and readiness gate {} is not set by its controller",
            since(lifecycle.containers_ready.unwrap_or(pod.created)),
            lifecycle.unmet_gates.join(", ")
        ),
        Phase::Lost => format!("it lost its readiness at {}", words::moment(pod.ready_changed)),
    };
    format!("pod {}: not ready: {what}", pod.name)
}

/// The reason of a container that waits until the kubelet starts it again.
const BACK_OFF: &str = "CrashLoopBackOff";
/// Reasons of a waiting container that only say that its turn has not come.
const NOT_YET: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

impl Pod {
    /// It was Ready since its containers were started first, and is not any more.
    pub fn lost_readiness(&self) -> bool {
        let changed = self.lifecycle.started.is_some_and(|started| self.ready_changed > started);
        !self.ready && (self.was_ready || changed)
    }

    /// One of its containers waits until the kubelet starts it again.
    fn backs_off(&self) -> bool {
        let mut waiting = self.containers.iter().filter_map(|one| one.waiting.as_ref());
        waiting.any(|(reason, _)| reason == BACK_OFF)
    }

    /// The kubelet names a reason for which one of its containers does not run.
    fn cannot_start(&self) -> bool {
        self.waiting_words().is_some()
    }

    /// That reason, where no further time helps by itself.
    fn waiting_words(&self) -> Option<String> {
        let waiting = self.containers.iter().filter_map(|one| Some((one, one.waiting.as_ref()?)));
        let mut waiting = waiting.filter(|(_, (reason, _))| !NOT_YET.contains(&reason.as_str()));
        let (container, (reason, message)) = waiting.find(|(_, waiting)| !is_slow_pull(self, waiting))?;
        let message = words::shorten(&mask(message), 200);
        Some(format!("container {}: {reason}: {message}", container.name))
    }
}

/// An image pull that fails and may yet succeed, by the kubelet's words on the container, or in its Events.
pub fn is_slow_pull(pod: &Pod, (reason, message): &(String, String)) -> bool {
    if !matches!(reason.as_str(), "ImagePullBackOff" | "ErrImagePull") {
        return false;
    }
    let failed = pod.troubles.iter().rev().find(|(reason, _)| reason == "Failed");
    refusals::is_transient_pull(message) || failed.is_some_and(|(_, said)| refusals::is_transient_pull(said))
}
