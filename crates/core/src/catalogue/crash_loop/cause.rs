//! Why one container does not stay up, or cannot start: by what the kubelet and the template tell, and by the
//! program's own last words. A word of the program comes before a fact only where it takes an action away.

use jiff::SignedDuration;
use mcp_health_api::Cause;

use super::{super::out_of_memory::is_kill, ports, spoken};
use crate::{
    last_words,
    mask::mask,
    signals::{Container, ContainerSpec, Exit, LastWords, Pod, Probe, ProbeKind, Role, Target},
    words,
};

/// A probe's kill and the end that the kubelet notes may lie so far apart, beside the grace period.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// What one container tells.
#[derive(Debug, Default)]
pub struct ToldCause {
    /// Why, if that is known.
    pub cause: Option<Cause>,
    /// The words that are most telling.
    pub word: Option<String>,
    /// All of its last words.
    pub words: Vec<String>,
    /// What else is to be said, in a sentence.
    pub note: Option<String>,
}

/// Why a container cannot start: the cause, if known, and the kubelet's words.
pub fn cannot_start(pod: &Pod, container: &Container) -> Option<(Option<Cause>, String)> {
    let (reason, message) = container.waiting.as_ref()?;
    let by_runtime = || spoken::cause(&[message.to_lowercase()]).map(|(cause, _)| cause);
    let cause = match reason.as_str() {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull"
        | "ImageInspectError" => Some(Cause::ImagePull),
        "CreateContainerConfigError" if message.contains("runAsNonRoot") => Some(Cause::PermissionDenied),
        "CreateContainerConfigError" => Some(Cause::ConfigError),
        "CreateContainerError" | "RunContainerError" => by_runtime(),
        "ContainerCreating" | "PodInitializing" if container.last_exit.is_none() => {
            let (reason, message) = pod.troubles.iter().rev().find(|(reason, message)| {
                reason == "FailedMount" && (message.contains("not found") || message.contains("non-existent"))
            })?;
            return Some((Some(Cause::ConfigError), sentence(reason, message)));
        }
        _ => return None,
    };
    Some((cause, sentence(reason, message)))
}

fn sentence(reason: &str, message: &str) -> String {
    format!("{reason}: {}", words::shorten(&mask(message), 240))
}

/// Why a container that ended did so. `spec` is what the template in force says of it, where the pod is of
/// that.
pub fn of_end(pod: &Pod, container: &Container, target: &Target, spec: Option<&ContainerSpec>) -> ToldCause {
    let Some(exit) = &container.last_exit else { return ToldCause::default() };
    let by_runtime = matches!(exit.reason.as_str(), "StartError" | "ContainerCannotRun");
    let lines = last_lines(container, exit);
    let spoken = spoken::cause(&lines);
    let word = spoken.and_then(|(_, at)| spoken::telling(&lines, at)).or(lines.last()).cloned();
    let spoken = spoken.map(|(cause, _)| cause);
    let killer = killed_by(pod, container, exit, target, spec);
    let (fact, note) = match killer {
        _ if is_kill(container, exit) => {
            (Some(Cause::OutOfMemory), Some("killed at its memory limit".to_owned()))
        }
        _ if by_runtime => (spoken, None),
        Some(Killer { probe, before_it_was_up: true }) => {
            let asks = spec.and_then(|spec| ports::astray(spec, probe));
            let kind = ports::kind(probe);
            (
                Some(asks.unwrap_or(Cause::StartupTimeout)),
                Some(format!("killed by its {kind} before it was up{}", asked(pod, probe))),
            )
        }
        Some(Killer { probe, before_it_was_up: false }) => {
            (None, Some(format!("killed by its {}, after it had been up", ports::kind(probe))))
        }
        None => match exit.code {
            127 => (Some(Cause::MissingDependency), None),
            126 => (Some(Cause::PermissionDenied), None),
            _ => (None, None),
        },
    };
    let lost_a_child = exit.reason == "OOMKilled" && fact != Some(Cause::OutOfMemory);
    let child = lost_a_child.then(|| "a child process was killed at the memory limit".to_owned());
    let note = note.or(child);
    // A main process that ends again and again after that, by no probe and with nothing to say, ends for it:
    // neither the same pods again nor another template are known to help.
    let ends_for_it = lost_a_child && fact.is_none() && killer.is_none() && container.role == Role::Main;
    let fact = if ends_for_it && spoken.is_none() { Some(Cause::OutOfMemory) } else { fact };
    // What a probe saw is a symptom where the program says that what it connects to does not let it in.
    let overruled = spoken.is_some_and(keeps_it_out) && fact != Some(Cause::OutOfMemory);
    let of_probe = matches!(fact, Some(Cause::StartupTimeout | Cause::PortConflict));
    let cause = if overruled || (!of_probe && fact.is_none()) { spoken } else { fact };
    // 126 and 127 are the shell's words for what the last line says better.
    let cause = if matches!(exit.code, 126 | 127) && killer.is_none() { spoken.or(cause) } else { cause };
    ToldCause { cause, word, words: lines, note }
}

/// Whether what the program connects to keeps it out.
fn keeps_it_out(cause: Cause) -> bool {
    cause == Cause::DatabaseConnection || is_refusal(cause)
}

/// Whether what the program connects to is there, and refuses it: neither new pods nor the same pods change
/// that.
pub fn is_refusal(cause: Cause) -> bool {
    matches!(cause, Cause::CredentialsRejected | Cause::CertificateRejected | Cause::PermissionMissing)
}

/// The termination message, and what the log said.
fn last_lines(container: &Container, exit: &Exit) -> Vec<String> {
    let mut lines = match &container.last_words {
        LastWords::Lines(lines) => lines.clone(),
        LastWords::NotAsked | LastWords::Awaited(_) | LastWords::Missing(_) => Vec::new(),
    };
    lines.extend(exit.message.iter().flat_map(|message| last_words::of_log(message)));
    lines
}

#[derive(Clone, Copy)]
struct Killer {
    probe: ProbeKind,
    before_it_was_up: bool,
}

/// The probe that had the container killed: by the kubelet's Events, or, where those are not to be had, by
/// the exit code and the time that the probe gives.
fn killed_by(
    pod: &Pod,
    container: &Container,
    exit: &Exit,
    target: &Target,
    spec: Option<&ContainerSpec>,
) -> Option<Killer> {
    let kills = |probe: &str| {
        let message = format!("Container {} failed {probe} probe", container.name);
        pod.troubles.iter().any(|(reason, said)| reason == "Killing" && said.starts_with(&message))
    };
    let ran = exit.started.map(|started| exit.at.duration_since(started));
    let probe = |kind: ProbeKind| spec?.probes.iter().find(|probe| probe.kind == kind);
    let startup = probe(ProbeKind::Startup);
    // With a startupProbe, the livenessProbe is asked only once that has passed.
    let liveness = probe(ProbeKind::Liveness).filter(|_| startup.is_none());
    let within = |probe: &Probe| {
        let (first, last) = patience(probe);
        ran.is_some_and(|ran| {
            ran >= first && ran <= last.saturating_add(target.grace_period).saturating_add(SLACK)
        })
    };
    if kills("startup") {
        return Some(Killer { probe: ProbeKind::Startup, before_it_was_up: true });
    }
    if kills("liveness") {
        let before_it_was_up = liveness.is_some_and(within);
        return Some(Killer { probe: ProbeKind::Liveness, before_it_was_up });
    }
    let by_signal = matches!(exit.code, 137 | 143);
    let killer = startup.or(liveness).filter(|probe| by_signal && within(probe))?;
    let silent = pod.troubles.is_empty() || pod.troubles.iter().any(|(_, said)| failed(said, killer.kind));
    silent.then_some(Killer { probe: killer.kind, before_it_was_up: true })
}

/// How long a probe that fails from the start lets a container run: at least, at most.
fn patience(probe: &Probe) -> (SignedDuration, SignedDuration) {
    let failures = probe.failures.max(1);
    let seconds = |periods: i64| {
        SignedDuration::from_secs(probe.delay.saturating_add(probe.period.saturating_mul(periods)))
    };
    (seconds(failures - 1), seconds(failures.saturating_add(1)))
}

/// Whether the kubelet says that this probe failed.
fn failed(said: &str, probe: ProbeKind) -> bool {
    said.starts_with(match probe {
        ProbeKind::Startup => "Startup probe failed",
        ProbeKind::Readiness => "Readiness probe failed",
        ProbeKind::Liveness => "Liveness probe failed",
    })
}

/// `: Startup probe failed: … connection refused`.
fn asked(pod: &Pod, probe: ProbeKind) -> String {
    let said = pod.troubles.iter().rev().find(|(reason, said)| reason == "Unhealthy" && failed(said, probe));
    said.map(|(_, said)| format!(": {}", words::shorten(said, 200))).unwrap_or_default()
}
