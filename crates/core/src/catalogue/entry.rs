//! What the catalogue says of one incident type: its rule, and every fact that other parts ask of it.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, Incident, IncidentType, McpServerHealthSpec};

use super::{
    metric_rule::{self, MetricRule},
    rank,
};
use crate::{
    Case, Server, dependencies,
    finding::{Finding, Judgement},
    signals::Pod,
    time::after,
};

/// One incident type.
pub struct Entry {
    /// Its name.
    pub incident: IncidentType,
    /// What an incident of it is about.
    pub class: Class,
    /// What its rule reads.
    pub needs: Needs,
    /// How it is judged.
    pub rule: Rule,
    /// It is judged also while the target is scaled to zero.
    pub at_zero: bool,
    /// How long a symptom lasts by default before it is an incident; `None` where the rule does not wait.
    pub lasting: Option<SignedDuration>,
    /// Of which of its numbers a policy may set others.
    pub thresholds: &'static [Threshold],
    /// It is judged by what happened over a window: for a while after an action, it still shows what was
    /// before it.
    pub looks_back: bool,
    /// How near to the root a finding is; of several, the smallest is the primary.
    pub rank: fn(&Finding) -> u8,
    /// Whether something that the server depends on could explain a finding.
    pub explained_by_dependency: fn(&Finding, &Server) -> bool,
    /// Whether a finding is by pods that are judged one by one: those of a node that fails are not among
    /// them, and what is found is the fault of the others.
    pub judges_pods: fn(&Finding) -> bool,
    /// It shows within seconds that no pod serves: while it is suspected, dependencies are asked, so that
    /// they have answered when it is found.
    pub shows_outage: bool,
    /// Whether a finding keeps the template in force from becoming known good.
    pub speaks_against_template: fn(&Finding) -> bool,
    /// The pod that shows it most.
    pub worst_pod: for<'a> fn(&Case<'a>, &Server<'a>) -> Option<&'a Pod>,
    /// Whether a pod is well by what the rule observes of that pod alone, at this moment. `None` where the
    /// rule judges the server as a whole, or by what happened over a window.
    pub is_well: fn(&Incident, &Case, &Server, &Pod) -> Option<bool>,
    /// How long its rule must say that all is well before an incident is over.
    pub quiet_for: fn(&Case, Cause) -> SignedDuration,
    /// Whether an open incident keeps its cause, and what it forbids, whatever is found now.
    pub keeps_cause: fn(&Case, &Incident, &Finding) -> bool,
    /// Whether it is known by now that the revision is to blame, where that was not known when the cause was
    /// judged.
    pub is_blamed_later: fn(&Server, &Incident) -> bool,
    /// What is tried by default, in this order; a person comes after the last.
    pub runbook: fn(Cause, &Server) -> &'static [ActionType],
    /// The sections of the guides that it follows: the guide's number, and the heading.
    pub guide: &'static [(&'static str, &'static str)],
}

/// What holds for most types: an entry names what is different, and always its type, rule, needs and guide.
pub const USUAL: Entry = Entry {
    incident: IncidentType::Rule,
    class: Class::Server,
    needs: Needs::All(&[]),
    rule: Rule::Plain(|_, _| Judgement::Unknown),
    at_zero: false,
    lasting: None,
    thresholds: &[],
    looks_back: false,
    rank: |finding| rank::of(finding.cause),
    explained_by_dependency: |finding, _| by_dependency(finding.cause),
    judges_pods: |_| false,
    shows_outage: false,
    speaks_against_template: |_| true,
    worst_pod: unready_most,
    is_well: |_, _, _, _| None,
    quiet_for: |case, _| case.settings.settle,
    keeps_cause: |_, _, _| false,
    is_blamed_later: |_, _| false,
    runbook: |_, _| &[],
    guide: &[],
};

/// What holds for most types that metrics show: those look back over a window.
pub const METRIC: Entry = Entry { needs: Needs::All(&[Evidence::Metrics]), looks_back: true, ..USUAL };

/// How an incident type is judged.
#[derive(Clone, Copy)]
pub enum Rule {
    /// By any signals.
    Plain(fn(&Case, &Server) -> Judgement),
    /// By metrics.
    Metric(MetricRule),
}

/// What an incident is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The server itself.
    Server,
    /// Sessions in a database that lets the operator in: what is wrong there is the database's own.
    Sessions,
    /// Something that the server depends on.
    Dependency,
    /// A node.
    Node,
    /// Something outside the server that ends soon: it says nothing of how the server is.
    Ahead,
    /// What other tools say of the server.
    Alert,
    /// What a person says of the server. No action follows from that, whatever the policy says: who may
    /// annotate an object need not be who may have the server changed. It is as bad as the person says now,
    /// and over when they take it back.
    Report,
}

impl Class {
    /// Whether it is about what lies outside the server: nothing that happens in it is why, and nothing that
    /// is done to it helps.
    pub const fn is_outside(self) -> bool {
        matches!(self, Self::Dependency | Self::Node | Self::Ahead)
    }

    /// Whether it is known only by what others say.
    pub const fn is_told(self) -> bool {
        matches!(self, Self::Alert | Self::Report)
    }

    /// What comes next of that which lies outside the server.
    pub const fn next(self) -> &'static str {
        match self {
            Self::Ahead => "waits until it is renewed; a person is called when the answer is due",
            Self::Node => {
                "waits until the node is ready, or its pods run elsewhere; escalates when the response is due"
            }
            _ => "waits until it is well; a person is called when the answer is due",
        }
    }
}

/// A number that a rule judges by, and that a policy may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// `percent`.
    Percent,
    /// `minRequests`.
    MinRequests,
    /// `p99`.
    P99,
    /// `count`.
    Count,
}

/// What a rule reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It says nothing without each of these.
    All(&'static [Evidence]),
    /// It says nothing without at least one of these.
    Any(&'static [Evidence]),
}

/// Where a rule's evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The target, its revisions, its pods and their nodes.
    Pods,
    /// Services and their endpoints.
    Services,
    /// An annotation of the object.
    Annotation,
    /// Prometheus, or the pods' own `/metrics`.
    Metrics,
    /// metrics-server.
    Usage,
    /// The kubelets' statistics.
    Volumes,
    /// Alertmanager.
    Alerts,
    /// What the pods tell of their circuit breakers.
    Circuits,
    /// The operator's MCP probes.
    Probes,
    /// PostgreSQL.
    Database,
    /// What the policy declares that the server depends on.
    Dependencies,
}

impl Evidence {
    /// Whether the policy does without it.
    fn is_off(self, spec: &McpServerHealthSpec) -> bool {
        let signals = &spec.signals;
        match self {
            Self::Alerts => signals.alertmanager.as_ref().is_some_and(|own| !own.enabled),
            Self::Circuits => signals.http.as_ref().is_some_and(|http| !http.enabled),
            Self::Probes => signals.mcp.as_ref().is_some_and(|mcp| !mcp.enabled),
            Self::Database => signals.postgres.is_none(),
            Self::Dependencies => dependencies::declared(spec).next().is_none(),
            Self::Pods | Self::Services | Self::Annotation | Self::Metrics | Self::Usage | Self::Volumes => {
                false
            }
        }
    }
}

impl Entry {
    /// What the rule says. Of what the policy does without, and of a target that is scaled to zero, it is not
    /// asked.
    pub fn judge(&self, case: &Case, server: &Server) -> Judgement {
        let is_off = match self.needs {
            Needs::All(sources) => sources.iter().any(|one| one.is_off(case.spec)),
            Needs::Any(sources) => sources.iter().all(|one| one.is_off(case.spec)),
        };
        if is_off || (server.is_scaled_to_zero() && !self.at_zero) {
            return Judgement::Clear;
        }
        match self.rule {
            Rule::Plain(rule) => rule(case, server),
            Rule::Metric(rule) => metric_rule::judge(self.incident, self.lasting, rule, case, server),
        }
    }

    /// Whether a node that fails may be why.
    pub fn follows_from_node(&self, finding: &Finding) -> bool {
        self.class == Class::Node || (!(self.judges_pods)(finding) && (self.rank)(finding) > 2)
    }

    /// When an incident is over that has been quiet since then.
    pub fn closes_at(
        &self,
        case: &Case,
        incident: &Incident,
        quiet_since: jiff::Timestamp,
    ) -> jiff::Timestamp {
        after(quiet_since, (self.quiet_for)(case, incident.cause))
    }
}

/// Of the pods that are not ready, the one that was started anew most often.
fn unready_most<'a>(_: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let unready = server.current_pods().into_iter().filter(|pod| !pod.ready);
    unready.max_by_key(|pod| (pod.restarts(), std::cmp::Reverse(pod.created)))
}

/// Whether a cause tells only what is so, and not why: that a reason is not seen any more is no new reason.
pub(crate) const fn tells_no_reason(cause: Cause) -> bool {
    matches!(cause, Cause::ProcessExit | Cause::NotReady | Cause::NeverHealthy)
}

/// Whether something that the server depends on could explain a cause. Never: an image, a missing reference,
/// a node, a quota, memory, what is wrong in the server's own settings or in its data.
pub(crate) const fn by_dependency(cause: Cause) -> bool {
    !matches!(
        cause,
        Cause::ImagePull
            | Cause::ConfigError
            | Cause::MissingDependency
            | Cause::PermissionDenied
            | Cause::PortConflict
            | Cause::CredentialsRejected
            | Cause::CertificateRejected
            | Cause::PermissionMissing
            | Cause::ServiceMismatch
            | Cause::QuotaExceeded
            | Cause::Unschedulable
            | Cause::AdmissionRefused
            | Cause::PodRejected
            | Cause::Evicted
            | Cause::StuckTerminating
            | Cause::NotCreated
            | Cause::NotStarted
            | Cause::ReadinessGate
            | Cause::NodeNotReady
            | Cause::NodeUnreachable
            | Cause::NodeGone
            | Cause::OutOfMemory
            | Cause::LimitTooSmall
            | Cause::Leak
            | Cause::ContainerLogs
            | Cause::TemporaryFiles
            | Cause::VolumeData
            | Cause::IdleTransactions
            | Cause::ConnectionLeak
            | Cause::PoolTooSmall
            | Cause::CircuitOpen
            | Cause::TargetPortMismatch
            | Cause::HostNotAllowed
            | Cause::ChecksumFailure
            | Cause::DataDamaged
    )
}

/// The pod that shows it most makes room for another. Where it is the only one, its successor comes up first.
pub(super) fn replace_one(_: Cause, server: &Server) -> &'static [ActionType] {
    use ActionType::{RecyclePod, Rollback, RolloutRestart};
    let surges = server.target.surge > 0;
    match (server.rollout_is_to_blame(), server.target.desired > 1) {
        (true, true) => &[Rollback, RecyclePod],
        (true, false) if surges => &[Rollback, RolloutRestart],
        (true, false) => &[Rollback],
        (false, true) => &[RecyclePod],
        (false, false) if surges => &[RolloutRestart],
        (false, false) => &[],
    }
}
