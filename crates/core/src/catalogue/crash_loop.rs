//! CrashLoop: containers start and end, again and again (guide 004, Service Not Responding; 001, Server
//! Won't Start).
//!
//! Judged by the kubelet's `CrashLoopBackOff`, or three ends of a container within five minutes.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::Entry;
use crate::{
    Case, Server,
    diagnose::{Finding, Judgement},
    mask::mask,
    signals::{Container, Pod},
    words,
};

pub const ENTRY: Entry = Entry { incident: IncidentType::CrashLoop, judge, runbook };

/// Ends within [`WINDOW`] that make a loop, also before the kubelet says so.
const EXITS: usize = 3;
/// The window of those ends.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// The kubelet backs off for five minutes at most: whenever one looks, two ends of a loop lie within this time.
const TWO_PAUSES: SignedDuration = SignedDuration::from_mins(15);
/// A pod that is ready for so long is up, whatever was before.
const STEADY: SignedDuration = SignedDuration::from_secs(30);

fn judge(case: &Case, server: &Server) -> Judgement {
    let looping: Vec<(&Pod, &Container)> = server
        .pods
        .iter()
        .filter_map(|pod| {
            pod.containers.iter().find(|one| is_looping(pod, one, case.now)).map(|one| (*pod, one))
        })
        .collect();
    if looping.is_empty() {
        return Judgement::Clear;
    }

    // A loop of pods whose revision is on its way out is the old template's; the one in force decides.
    let current = server.current_pods();
    let of_current = looping.iter().filter(|(pod, _)| current.iter().any(|one| one.name == pod.name));
    let youngest_pod = of_current.map(|(pod, _)| pod.created).max();
    let cause = if youngest_pod.is_some() { server.cause(Cause::ProcessExit) } else { Cause::ProcessExit };

    let mut evidence: Vec<String> = looping.iter().map(|(pod, one)| describe(pod, one, case.now)).collect();
    evidence.truncate(3);
    if looping.len() > evidence.len() {
        evidence.push(format!("{} in all crash in this way", words::count(looping.len(), "pod")));
    }
    evidence.push(match (cause, server.last_healthy) {
        (Cause::BadRollout, Some(healthy)) => format!(
            "{} was never seen healthy; template {} was, until the rollout",
            server.current_words(),
            healthy.template
        ),
        (Cause::BadRollout, None) => {
            format!("{} was never seen healthy; the one before it still serves", server.current_words())
        }
        (Cause::NeverHealthy, _) => "no template of this server was ever seen healthy".to_owned(),
        _ => match server.healthy_ends_too() {
            Some(healthy) => format!(
                "pods of template {}, which was seen healthy, crash too: the rollout is not the cause",
                healthy.template
            ),
            None if server.template_was_healthy() => {
                format!("{} was seen healthy before: the rollout is not the cause", server.current_words())
            }
            None => format!("these pods are not of {}, which is in force", server.current_words()),
        },
    });

    Judgement::Found(Finding {
        incident: IncidentType::CrashLoop,
        cause,
        severity: if server.ready() == 0 { Severity::SEV1 } else { Severity::SEV2 },
        since: looping.iter().filter_map(|(_, one)| first_exit(one)).min().unwrap_or(case.now),
        evidence,
        youngest_pod,
        lapses: looping.iter().filter_map(|(pod, one)| lapses(pod, one, case.now)).min(),
        forbids: &[],
    })
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback],
        // While others serve, new pods of the same template would only strand their sessions.
        Cause::ProcessExit if server.ready() == 0 => &[ActionType::RolloutRestart],
        _ => &[],
    }
}

/// The kubelet says so; or it ended often enough; or it is up just now between two ends.
fn is_looping(pod: &Pod, container: &Container, now: Timestamp) -> bool {
    let within = |span: SignedDuration| {
        container.recent_exits.iter().filter(|at| now.duration_since(**at) <= span).count()
    };
    let backing_off = container.waiting.as_ref().is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
    // Up for a moment between two ends, and without a readiness probe even ready: still the same loop.
    let between_two_ends = within(TWO_PAUSES) >= 2 && !pod.is_ready_for(STEADY, now);
    backing_off || within(WINDOW) >= EXITS || between_two_ends
}

/// When the ends are too long ago, or the pod is up for long enough, to be a loop any more.
fn lapses(pod: &Pod, container: &Container, now: Timestamp) -> Option<Timestamp> {
    let past = |at: Timestamp, span: SignedDuration| {
        at.saturating_add(span + SignedDuration::from_secs(1)).ok().filter(|at| *at > now)
    };
    let ends = container.recent_exits.iter();
    let exits = ends.flat_map(|at| [past(*at, WINDOW), past(*at, TWO_PAUSES)]).flatten();
    let steady = pod.ready.then(|| past(pod.ready_changed, STEADY)).flatten();
    exits.chain(steady).min()
}

fn first_exit(container: &Container) -> Option<Timestamp> {
    container.recent_exits.first().copied().or(container.last_exit.as_ref().map(|exit| exit.at))
}

/// `pod mcp-server-6f4c-hvfpn, container server: exit code 1 (Error), 3 restarts in 41s: KeyError: 'X'`.
fn describe(pod: &Pod, container: &Container, now: Timestamp) -> String {
    let restarts = words::count(usize::try_from(container.restarts).unwrap_or_default(), "restart");
    let age = words::span(now.duration_since(pod.created));
    let Some(exit) = &container.last_exit else {
        return format!("pod {}, container {}: {restarts} in {age}", pod.name, container.name);
    };
    let said = exit.message.as_deref().and_then(|message| message.trim().lines().last());
    let said = said.map(|line| format!(": {}", words::shorten(&mask(line), 160))).unwrap_or_default();
    format!(
        "pod {}, container {}: exit code {} ({}), {restarts} in {age}{said}",
        pod.name, container.name, exit.code, exit.reason
    )
}
