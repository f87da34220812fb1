//! probes: what the results of probing come to. A path fails where three of its last five results are faults
//! and the newest is one; what was never answered, is too old or too little, or contradicts the kubelet,
//! shows nothing; nor does what a Service without a ready endpoint came to. What a mesh, a gate or an
//! allow-list does to the operator's direct probes of a pod counts only where the Service path shows a fault
//! too: that is the path of clients.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::Measure;

use crate::{
    Case, Server,
    signals::{
        Fault, FaultKind, PROBES_KEPT, Pod, ProbeHandler, ProbeKind, ProbePath, ProbeQuestion, ProbeResult,
        Probed, Span,
    },
    words,
};

/// So many of the last [`PROBES_KEPT`] results are faults where a path fails; fewer results tell nothing.
pub const FAILING: usize = 3;
/// Results count for at least so long.
const STALE: SignedDuration = SignedDuration::from_mins(2);
/// So many good answers in a row are not luck where a part of the endpoints fails.
const IN_TURN: i32 = 10;
/// Requests fell where what is left of them is less than one in so many.
const FELL: f64 = 10.0;

/// What a path tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PathState<'a> {
    /// Nothing: never answered, too few results, or too old ones.
    Nothing,
    /// Neither: now so, now so.
    Wavering,
    /// It is answered as it should be.
    Well,
    /// It fails.
    Failing(Failing<'a>),
}

/// A path that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failing<'a> {
    /// The newest fault.
    pub fault: &'a Fault,
    /// So many of the results that count are faults.
    pub faults: usize,
    /// So many results count.
    pub of: usize,
    /// When the first of the faults was begun.
    pub since: Timestamp,
    /// When the newest result was begun.
    pub seen: Timestamp,
    /// How long the results count.
    pub patience: SignedDuration,
}

impl Failing<'_> {
    /// `does not answer in time (4 of the last 5 times)`.
    pub fn words(&self) -> String {
        format!("{} ({} of the last {} times)", words::shorten(&self.fault.said, 160), self.faults, self.of)
    }
}

/// How old a result may be to count, where it is asked again after this pause: five pauses, or two minutes.
pub fn patience(pause: SignedDuration) -> SignedDuration {
    pause.saturating_mul(i32::try_from(PROBES_KEPT).unwrap_or(1)).max(STALE)
}

/// How long all must be well where several endpoints of a Service answer in turn: some good answers in a row
/// are luck; ten are not.
pub(crate) fn in_turn(case: &Case) -> SignedDuration {
    let probed = case.signals.probes.fresh().map(Vec::as_slice).unwrap_or_default();
    let of_services = probed.iter().filter(|one| matches!(one.path, ProbePath::Service(_)));
    let slowest = of_services.map(|one| one.pause).max().unwrap_or_default();
    slowest.saturating_mul(IN_TURN).max(case.settings.settle)
}

/// The results of a path that are not too old, oldest first.
pub fn recent<'a>(case: &Case, probed: &'a Probed) -> impl DoubleEndedIterator<Item = &'a ProbeResult> {
    let (now, patience) = (case.now, patience(probed.pause));
    probed.results.iter().filter(move |result| now.duration_since(result.at) <= patience)
}

/// What a path tells at this moment.
pub fn told<'a>(case: &Case, probed: &'a Probed) -> PathState<'a> {
    let counts = |result: &&ProbeResult| !result.is_without_endpoint(&probed.path);
    let results: Vec<&ProbeResult> = recent(case, probed).filter(counts).collect();
    let kept = &results[results.len().saturating_sub(PROBES_KEPT)..];
    let is_evidence = probed.ever_answered || probed.leads_elsewhere;
    let Some(last) = kept.last().filter(|_| is_evidence && kept.len() >= FAILING) else {
        return PathState::Nothing;
    };
    // What is not MCP's port tells of MCP only that nobody listens, or that it is MCP's after all.
    if probed.leads_elsewhere && last.outcome.as_ref().is_err_and(|fault| fault.kind != FaultKind::Refused) {
        return PathState::Nothing;
    }
    let mut faulty = kept.iter().filter(|result| is_fault(result));
    let faults = faulty.clone().count();
    match &last.outcome {
        Err(fault) if faults >= FAILING => PathState::Failing(Failing {
            fault,
            faults,
            of: kept.len(),
            since: faulty.next().map_or(last.at, |first| first.at),
            seen: last.at,
            patience: patience(probed.pause),
        }),
        Ok(()) if faults < FAILING => PathState::Well,
        _ => PathState::Wavering,
    }
}

/// Being told to ask less often says nothing of how the server is.
fn is_fault(result: &ProbeResult) -> bool {
    result.outcome.as_ref().is_err_and(|fault| fault.kind != FaultKind::RateLimited)
}

/// The probes of a server along its paths.
#[derive(Clone, Copy, Debug)]
pub struct ProbedPaths<'a> {
    case: &'a Case<'a>,
    all: &'a [Probed],
    /// The container has a readiness probe: the kubelet got through to it.
    kubelet_asks: bool,
    /// That probe needs an answer, not only a connection.
    kubelet_is_answered: bool,
    /// Clients do not get through either.
    traffic_fell: bool,
}

impl<'a> ProbedPaths<'a> {
    /// The probes, where they may be relied on.
    pub fn of(case: &'a Case<'a>, server: &Server) -> Option<Self> {
        let all = case.signals.probes.fresh()?;
        let container = server.container();
        let probes = container.into_iter().flat_map(|one| &one.probes);
        let readiness = probes.filter(|probe| probe.kind == ProbeKind::Readiness);
        Some(Self {
            case,
            all,
            kubelet_asks: readiness.clone().next().is_some(),
            kubelet_is_answered: readiness.clone().any(|probe| probe.handler != ProbeHandler::Tcp),
            traffic_fell: traffic_fell(case),
        })
    }

    /// What a pod tells. A fault of the way tells nothing where the kubelet finds the pod ready, and nothing
    /// else says that there is no way to it; nor does a fault of the path that the Services do not show.
    pub fn of_pod(&self, pod: &Pod, question: ProbeQuestion) -> PathState<'a> {
        match self.direct(pod, question) {
            PathState::Failing(failing) if self.counts_not(pod, question, &failing) => PathState::Nothing,
            told => told,
        }
    }

    /// What the operator's direct probes of a pod come to, whatever that is worth.
    fn direct(&self, pod: &Pod, question: ProbeQuestion) -> PathState<'a> {
        self.probed(pod, question).map_or(PathState::Nothing, |probed| told(self.case, probed))
    }

    fn counts_not(&self, pod: &Pod, question: ProbeQuestion, failing: &Failing) -> bool {
        self.contradicts(pod, failing)
            || self.is_cut_for_the_operator(failing)
            || self.is_of_the_path_alone(question, failing)
    }

    /// A fault of the path, and no Service shows a fault where there is one.
    fn is_of_the_path_alone(&self, question: ProbeQuestion, failing: &Failing) -> bool {
        let mut services = self.services().filter(|(_, asked, _)| *asked == question).peekable();
        failing.fault.kind.is_of_the_path()
            && services.peek().is_some()
            && !services.any(|(_, _, told)| matches!(told, PathState::Failing(_)))
    }

    /// Connections are cut, and not one of the operator's probes of this server is answered, while the
    /// kubelet's are: a mesh lets the operator in no more. Where clients have ceased to come as well, it is
    /// the server. A certificate that the operator cannot verify says nothing at all.
    fn is_cut_for_the_operator(&self, failing: &Failing) -> bool {
        let kind = failing.fault.kind;
        let is_any_well = || self.all.iter().any(|probed| told(self.case, probed) == PathState::Well);
        kind == FaultKind::Unverified
            || kind == FaultKind::Reset && self.kubelet_is_answered && !self.traffic_fell && !is_any_well()
    }

    /// The Service by whose path a pod is judged: that is answered, where the pod's own is not for a fault of
    /// the path.
    pub fn judged_through(&self, pod: &Pod, question: ProbeQuestion) -> Option<&'a str> {
        let PathState::Failing(failing) = self.direct(pod, question) else { return None };
        let mut services = self.services().filter(|(_, asked, _)| *asked == question);
        services
            .find(|(_, _, told)| *told == PathState::Well)
            .filter(|_| failing.fault.kind.is_of_the_path() && self.counts_not(pod, question, &failing))
            .map(|(name, ..)| name)
    }

    /// A pod answers, and turns the operator away.
    pub fn is_turned_away(&self, pod: &Pod, question: ProbeQuestion) -> bool {
        matches!(self.direct(pod, question), PathState::Failing(failing) if failing.fault.kind.is_refusal())
    }

    /// A probe that could not connect to a pod that is ready. Where the kubelet asks the container itself, it
    /// got through; where it does not, only a refusal tells: that came from the pod's own machine.
    fn contradicts(&self, pod: &Pod, failing: &Failing) -> bool {
        let kind = failing.fault.kind;
        let tells = self.traffic_fell && self.services_fail_alike(failing)
            || !self.kubelet_asks && kind == FaultKind::Refused;
        pod.ready && kind.is_of_the_way() && !tells
    }

    /// Whether a question was answered well by some path, once: only then a fault of it says anything.
    pub fn was_answered(&self, question: ProbeQuestion) -> bool {
        self.all.iter().any(|probed| probed.question == question && probed.ever_answered)
    }

    fn services_fail_alike(&self, failing: &Failing) -> bool {
        self.services().any(|(_, _, told)| match told {
            PathState::Failing(service) => {
                service.fault.kind.is_of_the_way() && failing.fault.kind.is_of_the_way()
            }
            _ => false,
        })
    }

    /// What was asked of a pod.
    pub fn probed(&self, pod: &Pod, question: ProbeQuestion) -> Option<&'a Probed> {
        let of_pod = |probed: &&Probed| matches!(&probed.path, ProbePath::Pod(name) if *name == pod.name);
        self.all.iter().filter(of_pod).find(|probed| probed.question == question)
    }

    /// What is told through Services: the Service, the question, and the answer.
    pub fn services(&self) -> impl Iterator<Item = (&'a str, ProbeQuestion, PathState<'a>)> + use<'a> {
        let probes = *self;
        self.all.iter().filter_map(move |probed| match &probed.path {
            ProbePath::Service(name) => Some((name.as_str(), probed.question, probes.of_service(probed))),
            ProbePath::Pod(_) => None,
        })
    }

    /// Whether a Service was asked of late while it had no ready endpoint: what that came to tells nothing,
    /// and that it was well before is no proof that it is.
    pub fn asked_without_endpoint(&self) -> bool {
        let is_without = |probed: &Probed| {
            recent(self.case, probed).any(|result| result.is_without_endpoint(&probed.path))
        };
        self.all.iter().any(is_without)
    }

    fn of_service(&self, probed: &'a Probed) -> PathState<'a> {
        match told(self.case, probed) {
            PathState::Failing(failing) if self.is_cut_for_the_operator(&failing) => PathState::Nothing,
            told => told,
        }
    }
}

/// Whose pods a Service leads to beside the server's, as a sentence. What is asked through it may be answered
/// by those.
pub fn foreign_words(case: &Case, service: &str) -> Option<String> {
    let service = case.signals.services.fresh()?.iter().find(|one| one.name == service)?;
    (!service.foreign.is_empty()).then(|| {
        let named: Vec<&str> = service.foreign.iter().take(3).map(String::as_str).collect();
        format!(
            "Service {} (selector {}) also leads to {}: what fails through it may be theirs; make its selector narrower",
            service.name,
            service.selector,
            named.join(", ")
        )
    })
}

/// The server's requests have all but ceased, against the hour before. Without metrics, nobody knows.
fn traffic_fell(case: &Case) -> bool {
    let Some(metrics) = case.signals.metrics.fresh() else { return false };
    let sum = |span| {
        let values: Vec<f64> =
            metrics.of(Measure::Requests, span, case.now).map(|series| series.value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>())
    };
    matches!((sum(Span::Before), sum(Span::Window)), (Some(before), Some(now)) if before > 0.0 && now < before / FELL)
}

/// Pods that are ready and do not answer the operator's direct probes, as sentences: what is wrong is on the
/// way, or is meant for the operator alone, and no action on the pods helps.
pub fn contradictions(case: &Case, server: &Server) -> Vec<String> {
    let Some(probes) = ProbedPaths::of(case, server) else { return Vec::new() };
    let mut all: Vec<Contradiction> = Vec::new();
    for pod in server.pods.iter().filter(|pod| pod.ready) {
        for question in [ProbeQuestion::Mcp, ProbeQuestion::Health] {
            if let PathState::Failing(failing) = probes.direct(pod, question)
                && probes.counts_not(pod, question, &failing)
                && all.iter().all(|one| one.pod != pod.name)
            {
                let through = probes.judged_through(pod, question);
                all.push(Contradiction { pod: &pod.name, fault: failing.fault, through });
            }
        }
    }
    let (refused, cut_off): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.through.is_some());
    let words = [cut_off, refused].into_iter().filter_map(|all| Some(all.first()?.words(all.len() - 1)));
    words.collect()
}

/// A ready pod that does not answer the operator's direct probes.
struct Contradiction<'a> {
    pod: &'a str,
    fault: &'a Fault,
    /// The Service by whose path it is judged.
    through: Option<&'a str>,
}

impl Contradiction<'_> {
    /// With how many others it is so.
    fn words(&self, others: usize) -> String {
        let more =
            if others == 0 { String::new() } else { format!(" (and {} more)", words::count(others, "pod")) };
        let (pod, said) = (self.pod, words::shorten(&self.fault.said, 160));
        match self.through {
            Some(service) => format!(
                "its probes: pod {pod}{more} refuses the operator's direct probes: {said}; judged through Service \
                 {service}"
            ),
            None if self.fault.kind == FaultKind::Unverified => format!(
                "its probes: pod {pod}{more} is Ready by the kubelet, and no credential is sent to it: {said}"
            ),
            None if self.fault.kind.is_refusal() => format!(
                "its probes: pod {pod}{more} refuses the operator's direct probes: {said}; its Service tells nothing \
                 yet"
            ),
            None => format!(
                "its probes: pod {pod}{more} is Ready by the kubelet, and the operator cannot connect to it: {said}; \
                 is there a NetworkPolicy or a mesh in between?"
            ),
        }
    }
}
