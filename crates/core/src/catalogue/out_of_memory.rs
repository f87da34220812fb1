//! OutOfMemory: a container was killed at its memory limit.
//!
//! Judged by the kubelet's word `OOMKilled` and exit code 137 of the main process; never by exit code 137
//! alone, which any `kill -9` leaves, nor by the word alone: the kubelet says it of every container in which
//! the kernel killed any process, an init container that succeeded included. Where the main process ends in
//! an error again and again because it loses a child to the kernel, that counts as well. It holds until the
//! pod is gone, or has been ready for ten minutes since.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::{
    entry::{Entry, Evidence, Needs, Rule, USUAL},
    rank,
};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    quantity,
    signals::{Container, ContainerSpec, Exit, Pod, Role, Sample},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::OutOfMemory,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Pods]),
    at_zero: true,
    rank,
    explained_by_dependency: |_, _| false,
    judges_pods: |_| true,
    runbook,
    guide: &[("000", "Memory Leaks"), ("002", "High Memory Usage")],
    ..USUAL
};

/// A pod that is ready for so long after the kill is up, whatever was before.
const STEADY: SignedDuration = SignedDuration::from_mins(10);
/// What is killed sooner after its start needs more than it may have; what is killed later may be growing.
const SOON: SignedDuration = SignedDuration::from_mins(10);
/// Samples of usage that tell anything about growth.
const SAMPLES: usize = 6;

/// Ends from which on a main process that exits with an error, after the kernel killed a child of it, keeps
/// failing. A crash loop has as many.
const KEEPS_FAILING: usize = 2;

/// Whether a container ended for want of memory. Exit codes 0 and 143 are a normal end, whatever child was
/// killed before.
pub(crate) fn is_kill(container: &Container, exit: &Exit) -> bool {
    exit.reason == "OOMKilled"
        && match exit.code {
            137 => true,
            0 | 143 => false,
            _ => ends(container) >= KEEPS_FAILING,
        }
}

/// How often a container ended. The kubelet counts a restart when the container runs again: while it waits
/// for that, it ended once more.
fn ends(container: &Container) -> usize {
    let restarts = usize::try_from(container.restarts).unwrap_or_default();
    let waits = container.waiting.is_some() && container.last_exit.is_some();
    (restarts + usize::from(waits)).max(container.recent_exits.len())
}

/// A container that was killed, and is not steadily up since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killed<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    exit: &'a Exit,
}

/// What was killed at its memory limit: of the template in force, where any is; else of those on their way
/// out.
pub(crate) fn killed<'a>(server: &Server<'a>) -> Vec<Killed<'a>> {
    let all = server.pods.iter().flat_map(|pod| {
        let containers = pod.containers.iter().filter_map(|container| {
            let exit = container.last_exit.as_ref().filter(|exit| is_kill(container, exit))?;
            Some(Killed { pod, container, exit })
        });
        containers.collect::<Vec<_>>()
    });
    let all: Vec<_> = all.filter(|one| one.over_at().is_none_or(|at| at > server.now)).collect();
    let current: Vec<_> = all.iter().copied().filter(|one| one.is_current(server)).collect();
    if current.is_empty() { all } else { current }
}

impl Killed<'_> {
    /// When the pod has been up for long enough; `None` while it is not ready.
    fn over_at(&self) -> Option<Timestamp> {
        let up = self.pod.ready.then(|| self.pod.ready_changed.max(self.exit.at))?;
        Some(up.saturating_add(STEADY).unwrap_or(Timestamp::MAX))
    }

    fn is_current(&self, server: &Server) -> bool {
        server.current().is_some_and(|revision| revision.uid == self.pod.revision)
    }

    /// What the template in force says of the container.
    pub fn spec<'a>(&self, server: &Server<'a>) -> Option<&'a ContainerSpec> {
        server.target.containers.iter().find(|spec| spec.name == self.container.name)
    }

    /// Its memory limit: the pod's own, which a LimitRange may have set; else the template's.
    pub fn limit(&self, server: &Server) -> Option<i64> {
        let of_template = || self.spec(server).filter(|_| self.is_current(server))?.memory_limit;
        self.container.memory_limit.or_else(of_template)
    }

    /// The template sets no limit, and the pod has one.
    fn has_a_default_limit(&self, server: &Server) -> bool {
        let template_is_silent = self.spec(server).is_some_and(|spec| spec.memory_limit.is_none());
        self.is_current(server) && template_is_silent && self.container.memory_limit.is_some()
    }

    /// How long it ran, where that is known.
    fn ran(&self) -> Option<SignedDuration> {
        Some(self.exit.at.duration_since(self.exit.started?))
    }

    /// It ran long before it was killed, and not for the first time, or was seen to grow all the while.
    fn is_leak(&self, case: &Case) -> bool {
        let long = self.ran().is_some_and(|ran| ran >= SOON);
        long && (self.container.restarts > 1 || self.grew(case))
    }

    /// Its memory grew steadily until the kill: every third of the samples lies above the one before.
    fn grew(&self, case: &Case) -> bool {
        let Some(usage) = case.signals.usage.fresh() else { return false };
        let of_it = usage.iter().find(|one| one.pod == self.pod.name && one.container == self.container.name);
        let before = |sample: &&Sample| {
            sample.at <= self.exit.at && self.exit.started.is_none_or(|started| sample.at >= started)
        };
        let samples: Vec<i64> =
            of_it.iter().flat_map(|one| one.samples.iter().filter(before)).map(|one| one.memory).collect();
        let third = samples.len() / 3;
        let mean = |part: &[i64]| {
            let sum: i128 = part.iter().map(|memory| i128::from(*memory)).sum();
            sum / i128::try_from(part.len().max(1)).unwrap_or(1)
        };
        samples.len() >= SAMPLES
            && mean(&samples[..third]) < mean(&samples[third..2 * third])
            && mean(&samples[third..2 * third]) < mean(&samples[2 * third..])
    }

    fn cause(&self, case: &Case, server: &Server) -> Cause {
        let unlimited = self.spec(server).is_some_and(|spec| spec.memory_limit.is_none());
        if unlimited && self.container.memory_limit.is_none() {
            // No limit of its own: the node had no more.
            Cause::OutOfMemory
        } else if self.is_leak(case) {
            Cause::Leak
        } else {
            Cause::LimitTooSmall
        }
    }

    /// `pod mcp-server-6f4c-hvfpn, container server: killed at its memory limit of 64Mi, 12s after its start;
    /// 3 restarts in 41s`.
    fn words(&self, server: &Server) -> String {
        let role = match self.container.role {
            Role::Main => "container",
            Role::Init => "init container",
            Role::Sidecar => "sidecar container",
        };
        let known = self.is_current(server) && self.spec(server).is_some();
        let what = if self.exit.code == 137 { "killed" } else { "a child process killed" };
        let how = match self.limit(server) {
            Some(limit) => format!(
                "{what} at its memory limit of {}{}",
                quantity::of_bytes(limit),
                if self.has_a_default_limit(server) {
                    " (a default of the namespace, set by a LimitRange: the pod template sets none)"
                } else {
                    ""
                }
            ),
            None if known => {
                format!("{what} because its node ran out of memory (it has no memory limit of its own)")
            }
            None => format!("{what} at its memory limit"),
        };
        let ran = self.ran().map(|ran| format!(", {} after its start", words::span(ran))).unwrap_or_default();
        let age = words::span(server.now.duration_since(self.pod.created));
        let restarts = match usize::try_from(self.container.restarts).unwrap_or_default() {
            0 => String::new(),
            many => format!("; {} in {age}", words::count(many, "restart")),
        };
        format!("pod {}, {role} {}: {how}{ran}{restarts}", self.pod.name, self.container.name)
    }
}

fn judge(case: &Case, server: &Server) -> Judgement {
    let killed = killed(server);
    let causes = killed.iter().map(|one| one.cause(case, server));
    // What raising a limit mends comes first; then what grows; the node's own want is last.
    let rank = |cause: &Cause| match cause {
        Cause::LimitTooSmall => 0,
        Cause::Leak => 1,
        _ => 2,
    };
    let Some(cause) = causes.min_by_key(rank) else { return Judgement::Clear };

    let mut evidence: Vec<String> = killed.iter().take(3).map(|one| one.words(server)).collect();
    if killed.len() > evidence.len() {
        evidence.push(format!("{} in all were killed", words::count(killed.len(), "container")));
    }
    match cause {
        Cause::LimitTooSmall if killed.iter().any(|one| one.ran().is_some_and(|ran| ran < SOON)) => {
            evidence.push("it needs more memory soon after its start: the limit is too small".to_owned());
        }
        Cause::LimitTooSmall => {
            evidence.push("it was killed for the first time: the limit may be too small".to_owned());
        }
        Cause::Leak => {
            evidence.push("it ran for long before it was killed: its memory grows as it runs".to_owned());
        }
        _ => {}
    }
    if server.rollout_is_to_blame() {
        evidence.push(format!(
            "{} was never seen healthy, and the one before it was: the rollout is to blame",
            server.current_words()
        ));
    }
    let of_current = killed.iter().filter(|one| one.is_current(server));
    Judgement::Found(Finding {
        youngest_pod: of_current.map(|one| one.pod.created).max(),
        lapses: killed.iter().filter_map(Killed::over_at).min(),
        ..Finding::new(
            IncidentType::OutOfMemory,
            cause,
            if server.ready() == 0 { Severity::SEV1 } else { Severity::SEV2 },
            killed.iter().map(|one| one.exit.at).min().unwrap_or(case.now),
            evidence,
        )
    })
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    match (cause, server.rollout_is_to_blame()) {
        (Cause::Leak, false) => &[ActionType::RecyclePod],
        (Cause::Leak, true) => &[ActionType::Rollback, ActionType::RecyclePod],
        (_, false) => &[ActionType::RaiseResources],
        (_, true) => &[ActionType::Rollback, ActionType::RaiseResources],
    }
}

/// What kills the pods in force is why they loop, whatever the rollout has to do with it.
fn rank(finding: &Finding) -> u8 {
    if finding.youngest_pod.is_some() { 1 } else { rank::of(finding.cause) }
}
