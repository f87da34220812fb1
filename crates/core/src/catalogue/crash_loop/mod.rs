//! CrashLoop: containers start and end, again and again, or cannot start at all.
//!
//! Judged by the kubelet's `CrashLoopBackOff`, or three ends of a container within five minutes, or an image,
//! a setting or a volume that keeps a container from starting. `cause` tells why, by the kubelet, the
//! template and the program's last words; whether the rollout is to blame is judged apart from that, and
//! comes first in the runbook.

mod cause;
mod evictions;
mod ports;
mod recovery;
mod refusal;
mod sick;
mod spoken;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, HealthyConfig, Incident, IncidentType, Severity};

use super::{
    entry::{Entry, Evidence, Needs, Rule, USUAL, by_dependency, tells_no_reason},
    forbidden::{RESTARTS, RESTARTS_AND_ROLLBACK},
};
use crate::{
    Case, Server,
    case::lasting,
    database,
    dependencies::database_answers,
    finding::{Finding, Judgement},
    signals::{Config, LastWords, Role},
    start_budget::{self, deadline, is_slow_pull},
    time::after,
    words,
};
use cause::is_refusal;
pub(crate) use recovery::backing_off;
use sick::{Sick, lapses, sick};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::CrashLoop,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Pods]),
    at_zero: true,
    lasting: Some(START_PATIENCE),
    explained_by_dependency,
    judges_pods: |_| true,
    shows_outage: true,
    is_well: |incident, _, _, pod| {
        (incident.cause == Cause::BackOff).then(|| pod.ready && pod.restarts() == 0)
    },
    keeps_cause,
    is_blamed_later,
    runbook,
    guide: &[("004", "Service Not Responding"), ("001", "MCP Server Won't Start")],
    ..USUAL
};

/// How long a start that fails is waited for: it may come right by itself.
const START_PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// How long previous logs are waited for before the finding opens without them.
const HEARING: SignedDuration = SignedDuration::from_secs(3);
/// How many last lines are shown.
const SHOWN: usize = 3;

/// What must not be done while the kubelet's back-off is all that keeps pods from what is back.
const BESIDE_BACK_OFF: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::DrainAndRestart, ActionType::Rollback];

fn judge(case: &Case, server: &Server) -> Judgement {
    let patience = lasting(case, IncidentType::CrashLoop, START_PATIENCE);
    let due = |one: &Sick| match &one.container.waiting {
        // A registry that does not answer now may answer later.
        Some(waiting) if is_slow_pull(one.pod, waiting) => after(one.pod.created, deadline(server)),
        _ => after(one.since(), patience),
    };
    let (sick, starting): (Vec<Sick>, Vec<Sick>) =
        sick(server).into_iter().partition(|one| one.cannot_start.is_none() || due(one) <= case.now);
    let Some(first) = sick.first() else {
        if let Some(finding) = evictions::find(case, server) {
            return Judgement::Found(finding);
        }
        return match starting.iter().map(due).min() {
            Some(until) => Judgement::Suspected { until },
            None => Judgement::Clear,
        };
    };
    if let Some(until) = awaited(case, &sick, HEARING) {
        return Judgement::Suspected { until };
    }

    // A loop of pods whose revision is on its way out is the old template's; the one in force decides.
    let youngest_pod = sick.iter().filter(|one| one.current).map(|one| one.pod.created).max();
    let blame = if youngest_pod.is_some() { blame(server, first.told.cause) } else { Cause::ProcessExit };
    let config = config_to_blame(server);
    let shut = database::shut_words(case);
    let cause = cause_of(server, first.told.cause, blame, config, shut.is_some());
    let waited =
        matches!(cause, Cause::ProcessExit | Cause::DatabaseConnection) && blame == Cause::ProcessExit;
    let back = if waited { recovery::is_back(case, &sick) } else { None };
    if let Some(until) = excused_until(server, &sick).filter(|_| back.is_none() && config.is_none()) {
        return Judgement::Suspected { until };
    }
    let cause = if back.is_some() { Cause::BackOff } else { cause };

    let mut evidence = descriptions(&sick, case.now);
    evidence.push(blame_sentence(server, blame, youngest_pod.is_some()));
    evidence.extend(back);
    if is_refusal(cause) {
        evidence.extend(refusal::sentences(server, first, cause));
    }
    if cause == Cause::DatabaseConnection {
        evidence.extend(shut);
        evidence.push(database_sentence(server));
    }
    evidence.extend(config.map(|(one, _)| {
        let changed = words::moment(one.changed);
        format!("ConfigMap {} was changed at {changed}, since this template was well", one.name)
    }));
    if cause == Cause::PortConflict {
        let own = server.target.containers.iter().find(|spec| spec.name == first.container.name);
        evidence.extend(own.map(|spec| ports::sentences(case, server, spec).join("; ")));
    }
    evidence.extend(beside_the_server(server, &sick));

    Judgement::Found(Finding {
        youngest_pod,
        lapses: sick.iter().filter_map(|one| lapses(one, case.now)).min(),
        forbids: forbidden(server, cause),
        ..Finding::new(
            IncidentType::CrashLoop,
            cause,
            if server.ready() == 0 { Severity::SEV1 } else { Severity::SEV2 },
            sick.iter().map(Sick::since).min().unwrap_or(case.now),
            evidence,
        )
    })
}

/// Why containers end. A database that lets nobody in is why those end that were well, where nothing tells
/// another reason.
fn cause_of(
    server: &Server,
    told: Option<Cause>,
    blame: Cause,
    config: Option<(&Config, &HealthyConfig)>,
    is_shut: bool,
) -> Cause {
    let by_database = told.is_none() && blame == Cause::ProcessExit && is_shut;
    let database = (by_database || told == Some(Cause::DatabaseConnection))
        && config.is_none_or(|(config, _)| !serves_with_content_before(server, config));
    match told {
        _ if config.is_some() && !database => Cause::ConfigError,
        None if database => Cause::DatabaseConnection,
        known => known.unwrap_or(blame),
    }
}

/// What must not be done while containers end for this reason.
fn forbidden(server: &Server, cause: Cause) -> &'static [ActionType] {
    match cause {
        // Pods of another template are well at this moment: the settings of the new one are to blame.
        Cause::DatabaseConnection if server.serving_beside().is_some() => RESTARTS,
        Cause::DatabaseConnection => RESTARTS_AND_ROLLBACK,
        _ if is_refusal(cause) => refusal::forbidden(server),
        Cause::BackOff => BESIDE_BACK_OFF,
        _ => &[],
    }
}

/// The revision in force, where it is to blame for what its pods show, as far as that is known.
fn blame(server: &Server, shown: Option<Cause>) -> Cause {
    match shown {
        Some(shown) if !by_dependency(shown) => server.cause_in_itself(Cause::ProcessExit),
        _ => server.cause(Cause::ProcessExit),
    }
}

/// A dependency may explain a cause. Of a new template, what the last lines of its containers tell counts as
/// another reason only where they ended before they were ever Ready.
fn explained_by_dependency(finding: &Finding, server: &Server) -> bool {
    let is_told = matches!(
        finding.cause,
        Cause::MissingDependency
            | Cause::PermissionDenied
            | Cause::PortConflict
            | Cause::CredentialsRejected
            | Cause::CertificateRejected
            | Cause::PermissionMissing
    );
    by_dependency(finding.cause)
        || (is_told && server.rollout_is_to_blame_in_itself() && !server.ends_before_ready())
}

/// What the last lines of containers told of a database is not taken back because they are lost, or tell nothing
/// of it: while the database is not known to answer, the cause stays.
fn keeps_cause(case: &Case, open: &Incident, found: &Finding) -> bool {
    open.cause == Cause::DatabaseConnection
        && !open.forbids.is_empty()
        && (found.cause == Cause::BadRollout || tells_no_reason(found.cause))
        && !database_answers(case)
}

/// Containers end for a reason that no action corrects, as it was judged; by now the revision in force is
/// known to be to blame for it. (Of a bad rollout, that was known when it was judged.)
fn is_blamed_later(server: &Server, incident: &Incident) -> bool {
    incident.cause != Cause::BadRollout
        && server.ends_before_ready()
        && server.rollout_is_to_blame_in_itself()
}

/// Until when what all of them show may be the doing of a dependency that did not answer.
fn excused_until(server: &Server, sick: &[Sick]) -> Option<Timestamp> {
    let has_own_cause = |one: &Sick| one.told.cause.is_some_and(|cause| !by_dependency(cause));
    if sick.iter().any(has_own_cause) {
        return None;
    }
    let all = sick.iter().map(|one| start_budget::excused_until(server, one.pod));
    all.collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// What is wrong with each of them, and what the first said.
fn descriptions(sick: &[Sick], now: Timestamp) -> Vec<String> {
    let mut all: Vec<String> = sick.iter().map(|one| describe(one, now)).collect();
    all.truncate(3);
    if sick.len() > all.len() {
        all.push(format!("{} in all are sick in this way", words::count(sick.len(), "pod")));
    }
    all.extend(sick.first().and_then(|first| last_lines(first, now)));
    all
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    if cause == Cause::Evicted {
        // It is the node that is under pressure: any other pod in its place would be evicted, too.
        return &[];
    }
    let sick = sick(server);
    let of_others = !sick.is_empty() && sick.iter().all(|one| !one.current);
    let is_to_blame = blame(server, Some(cause)) == Cause::BadRollout;
    if cause == Cause::BadRollout || (is_to_blame && !of_others) {
        return match cause {
            Cause::StartupTimeout => &[ActionType::Rollback, ActionType::RelaxStartupProbe],
            _ => &[ActionType::Rollback],
        };
    }
    match cause {
        Cause::BackOff => &[ActionType::RecyclePod],
        Cause::ConfigError if config_to_blame(server).is_some() => &[ActionType::RollbackConfig],
        Cause::StartupTimeout => &[ActionType::RelaxStartupProbe],
        // While others serve, new pods of the same template would only strand their sessions; and a container
        // beside the server is started anew in its place. (What the database forbids is held, not done.)
        Cause::ProcessExit | Cause::DatabaseConnection
            if server.ready() == 0
                && beside_the_server(server, &sick).is_none()
                && !never_healthy(server) =>
        {
            &[ActionType::RolloutRestart]
        }
        _ => &[],
    }
}

fn never_healthy(server: &Server) -> bool {
    server.cause(Cause::ProcessExit) == Cause::NeverHealthy
}

/// Until when actions wait for previous logs, where nothing else tells why containers end.
pub fn logs_due(case: &Case, server: &Server) -> Option<Timestamp> {
    awaited(case, &sick(server), LastWords::LONGEST_WAIT)
}

/// Until when previous logs are awaited, for so long at most, where nothing else tells why.
fn awaited(case: &Case, sick: &[Sick], at_most: SignedDuration) -> Option<Timestamp> {
    if sick.iter().any(|one| one.told.cause.is_some()) {
        return None;
    }
    let asked = sick.iter().filter_map(|one| match one.container.last_words {
        LastWords::Awaited(since) => Some(since),
        _ => None,
    });
    let until = asked.min()?.saturating_add(at_most).ok()?;
    (until > case.now).then_some(until)
}

/// The ConfigMap that was changed since this very template was well, before its containers began to end.
fn config_to_blame<'a>(server: &Server<'a>) -> Option<(&'a Config, &'a HealthyConfig)> {
    let changed = server.changed_config()?;
    let sick = sick(server);
    let other = sick.iter().any(|one| {
        one.cannot_start.as_ref().is_some_and(|words| !lacks_key(words, &changed.0.name))
            || one.told.cause == Some(Cause::OutOfMemory)
            || one.since() < changed.0.changed
    });
    (!sick.is_empty() && !other).then_some(changed)
}

/// The kubelet says that a key which the container or a volume needs is not in the ConfigMap.
fn lacks_key(words: &str, config: &str) -> bool {
    let named =
        words.split_once("couldn't find key ").and_then(|(_, rest)| rest.split_once(" in ConfigMap "));
    let of_container = named.and_then(|(_, object)| object.split_whitespace().next()?.split_once('/'));
    of_container.is_some_and(|(_, name)| name == config)
        || words.contains("references non-existent config key")
}

/// Pods that took their settings before the change are ready: what they need is there.
fn serves_with_content_before(server: &Server, config: &Config) -> bool {
    server.pods.iter().any(|pod| {
        let mut ends = pod.containers.iter().filter_map(|one| one.last_exit.as_ref());
        pod.ready && pod.created < config.changed && ends.all(|exit| exit.at < config.changed)
    })
}

fn blame_sentence(server: &Server, blame: Cause, is_current: bool) -> String {
    let current = server.current_words();
    match (blame, server.last_healthy) {
        (Cause::BadRollout, Some(healthy)) => {
            format!("{current} was never seen healthy; template {} was, until the rollout", healthy.template)
        }
        (Cause::BadRollout, None) => {
            format!("{current} was never seen healthy; the one before it still serves")
        }
        (Cause::NeverHealthy, _) => "no template of this server was ever seen healthy".to_owned(),
        _ => match server.healthy_ends_too() {
            Some(healthy) => format!(
                "pods of template {}, which was seen healthy, crash too: the rollout is not the cause",
                healthy.template
            ),
            None if server.template_was_healthy() => {
                format!("{current} was seen healthy before: the rollout is not the cause")
            }
            None if is_current => {
                format!("{current} was never seen healthy; it is not known whether it is to blame")
            }
            None => format!("these pods are not of {current}, which is in force"),
        },
    }
}

fn database_sentence(server: &Server) -> String {
    if let Some((beside, _)) = server.serving_beside() {
        return format!(
            "pods of template {} are well at this moment: the database is there, and the settings of {} lead \
             elsewhere",
            beside.template,
            server.current_words()
        );
    }
    match server.healthy_is_unready() {
        Some(healthy) => format!(
            "pods of template {}, which was seen healthy, are not ready either: the database is down, not the rollout",
            healthy.template
        ),
        None => {
            "neither new pods nor another template bring a database back: look at the database".to_owned()
        }
    }
}

/// Only containers beside the server are sick, not itself and none that it waits for.
fn beside_the_server(server: &Server, sick: &[Sick]) -> Option<String> {
    let first = sick.first()?;
    let own = &server.container()?.name;
    let beside = |one: &Sick| {
        let mut runs = one.pod.containers.iter().filter(|one| one.name == *own && one.waiting.is_none());
        one.container.role != Role::Init && one.container.name != *own && runs.next().is_some()
    };
    sick.iter().all(beside).then(|| {
        format!("container {own}, the server itself, runs: only {} beside it does not", first.container.name)
    })
}

/// `pod mcp-server-6f4c-hvfpn, container server: exit code 1 (Error), 3 restarts in 41s: KeyError: 'X'`.
fn describe(one: &Sick, now: Timestamp) -> String {
    let Sick { pod, container, .. } = one;
    let role = match container.role {
        Role::Main => "container",
        Role::Init => "init container",
        Role::Sidecar => "sidecar",
    };
    let who = format!("pod {}, {role} {}", pod.name, container.name);
    if let Some(words) = &one.cannot_start {
        return format!("{who}: {words}");
    }
    let restarts = words::count(usize::try_from(container.restarts).unwrap_or_default(), "restart");
    let age = words::span(now.duration_since(pod.created));
    let Some(exit) = &container.last_exit else { return format!("{who}: {restarts} in {age}") };
    let said = one.told.word.as_ref().map(|word| format!(": {}", words::shorten(word, 160)));
    let note = one.told.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
    format!(
        "{who}: exit code {} ({}), {restarts} in {age}{note}{}",
        exit.code,
        exit.reason,
        said.unwrap_or_default()
    )
}

/// What the container said before it ended, beside the one line that is told already; or why that is not
/// known.
fn last_lines(one: &Sick, now: Timestamp) -> Option<String> {
    let pod = &one.pod.name;
    match &one.container.last_words {
        _ if !one.told.words.is_empty() => {}
        LastWords::Missing(why) => return Some(format!("previous logs of pod {pod} unavailable: {why}")),
        LastWords::Awaited(since) if now.duration_since(*since) < LastWords::LONGEST_WAIT => {
            return Some(format!("previous logs of pod {pod} are being fetched"));
        }
        LastWords::Awaited(_) => {
            let seconds = LastWords::LONGEST_WAIT.as_secs();
            return Some(format!("previous logs of pod {pod} unavailable: not fetched within {seconds} s"));
        }
        LastWords::NotAsked | LastWords::Lines(_) => {}
    }
    let lines: Vec<&str> =
        one.told.words.iter().filter(|line| !spoken::is_attribute(line)).map(String::as_str).collect();
    let lines = &lines[lines.len().saturating_sub(SHOWN)..];
    (lines.len() > 1).then(|| format!("last lines of pod {}: {}", one.pod.name, lines.join(" ⏎ ")))
}
