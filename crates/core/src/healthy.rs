//! Which template was seen healthy: the one place a rollback can go back to.
//!
//! Seen, that is: the operator itself saw all its pods ready, long enough, and without a restart.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{
    ActionType, Answered, Duration, HealthyConfig, HealthyRevision, NamedDigest, TargetStatus, Time,
};

use crate::{
    Case, Server, dependencies, digest,
    metrics::reach,
    references::{Usable, usable},
    signals::{Config, Dependency, Pod, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading, Revision},
    start_budget,
    time::after,
};

/// The most ConfigMaps of a server whose content is kept.
const CONFIGS: usize = 8;
/// The most tools that are kept.
const TOOLS: usize = 64;
/// The most dependencies that are kept: a policy declares no more.
const DEPENDENCIES: usize = 32;
/// When to look again at pods that are ready and have not answered yet.
const ASKED_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// The target for the status, and when to look again at a template that is not proven yet.
pub fn target_status(
    case: &Case,
    server: &Server,
    anything_wrong: bool,
) -> (TargetStatus, Option<Timestamp>) {
    let (proven, look_again) = if anything_wrong { (None, None) } else { proven(case, server) };
    let last_healthy = proven.or_else(|| server.last_healthy.cloned());
    let is_known_good = last_healthy.as_ref().is_some_and(|known| known.template == server.target.template);
    let status = TargetStatus {
        uid: server.target.uid.clone(),
        ready_replicas: server.ready_replicas(),
        desired_replicas: server.target.desired,
        template: server.target.template.clone(),
        became_ready: !is_known_good && server.became_ready(),
        last_healthy,
        answered: answered(case, server),
        answered_dependencies: answered_dependencies(case, server),
    };
    (status, look_again)
}

/// The template in force, once it is proven; or the moment when it may be.
fn proven(case: &Case, server: &Server) -> (Option<HealthyRevision>, Option<Timestamp>) {
    let Some(current) = server.current().filter(|_| !server.has_pending_change()) else {
        return (None, None);
    };
    let pods = server.current_pods();
    let (config, tools) = (healthy_config(case, server), tools(case));
    let longest = longest_start(server, &pods);
    let remembered = server.last_healthy.is_some_and(|healthy| {
        // A restart makes another ReplicaSet of the same template; the newest is the one that stays longest.
        let same =
            healthy.template == current.template && healthy.uid == current.uid && healthy.config == config;
        let slower = longest > healthy.longest_start.map(Duration::span);
        // Which tools it offers may be told later.
        same && !slower && (!healthy.tools.is_empty() || tools.is_empty())
    });
    let sound = server.target.desired > 0 && server.is_rolled_out() && pods.iter().all(|pod| pod.ready);
    let (Some(since), true, false) = (server.ready_since(), sound, remembered) else { return (None, None) };
    // Another content of a ConfigMap is proven as another template is: it may fail as late.
    let replaces = server.last_healthy.is_some_and(|healthy| {
        healthy.template != current.template || healthy.config.iter().any(|known| !config.contains(known))
    });
    let wait = if replaces {
        // Metrics look back: for so long they show more of the template before than of this one.
        let reach =
            if case.signals.metrics == Reading::Off { SignedDuration::ZERO } else { reach(case.spec) };
        case.settings.replaces_healthy_after.max(reach)
    } else {
        case.settings.seen_healthy_after
    };
    let restarted = pods
        .iter()
        .flat_map(|pod| &pod.containers)
        .filter_map(|one| one.last_exit.as_ref())
        .map(|exit| exit.at);
    // A restart starts the time anew: a template that falls over every minute is not healthy.
    let from = restarted.chain([since]).max().unwrap_or(since);
    let due = after(from, wait);
    if due > case.now {
        return (None, Some(due));
    }
    if !answers_where_it_did(case, &pods) {
        // The longer they have not, the later it is looked at again.
        return (None, Some(after(case.now, case.now.duration_since(due).max(ASKED_AGAIN))));
    }
    let revision = HealthyRevision {
        template: current.template.clone(),
        replica_set: current.name.clone(),
        uid: current.uid.clone(),
        revision: current.number,
        since: Time(since),
        longest_start: longest.map(Duration::from),
        config,
        tools,
    };
    (Some(revision), None)
}

/// The longest time from the start of a pod's containers until it was Ready, in steps of five seconds: known before, or
/// observed now. Of a pod that the operator did not observe from its start it is only known when it was Ready last: that
/// counts where nothing else is known.
fn longest_start(server: &Server, pods: &[&Pod]) -> Option<SignedDuration> {
    let known = server.last_healthy.filter(|healthy| healthy.template == server.target.template);
    let known = known.and_then(|healthy| healthy.longest_start).map(Duration::span);
    let took = |pod: &&Pod| {
        let lifecycle = &pod.lifecycle;
        let at_last = known.is_none() && pod.ready && pod.restarts() == 0;
        let ready = lifecycle.became_ready.or(at_last.then_some(pod.ready_changed))?;
        let took = ready.duration_since(lifecycle.started?).max(SignedDuration::ZERO);
        let rounded = SignedDuration::from_secs((took.as_secs() + 4) / 5 * 5);
        (took <= start_budget::deadline(server)).then_some(rounded)
    };
    pods.iter().filter_map(took).chain(known).max()
}

/// Whether every pod speaks MCP, lists its tools and answers the canary, where this server did before. A
/// way that is cut tells nothing of the pods.
fn answers_where_it_did(case: &Case, pods: &[&Pod]) -> bool {
    let questions = [ProbeQuestion::Mcp, ProbeQuestion::Tools, ProbeQuestion::Canary];
    questions.into_iter().all(|question| answers(case, pods, question))
}

fn answers(case: &Case, pods: &[&Pod], question: ProbeQuestion) -> bool {
    let probes = case.signals.probes.fresh().map(Vec::as_slice).unwrap_or_default();
    let asked = probes.iter().filter(|one| one.question == question && one.ever_answered);
    let of_pods = asked.clone().filter(|one| matches!(one.path, ProbePath::Pod(_)));
    let last = |pod: &Pod| {
        let mut of_pod = of_pods.clone().filter(|one| one.path == ProbePath::Pod(pod.name.clone()));
        of_pod.next().and_then(Probed::last)
    };
    let mut of_services = asked.filter(|one| matches!(one.path, ProbePath::Service(_)));
    let service_answers = of_services.any(|one| one.last().is_some_and(|result| result.outcome.is_ok()));
    let answers = |result: &ProbeResult| match &result.outcome {
        Ok(()) => true,
        Err(fault) => fault.kind.is_of_the_way() || service_answers && fault.kind.is_of_the_path(),
    };
    of_pods.clone().next().is_none() || pods.iter().all(|pod| last(pod).is_some_and(answers))
}

/// What of that which the server depends on has answered the operator at least once, as it is asked now.
fn answered_dependencies(case: &Case, server: &Server) -> Vec<NamedDigest> {
    let remembered = case.status.target.as_ref().filter(|known| known.uid == server.target.uid);
    let remembered = remembered.map(|known| known.answered_dependencies.as_slice()).unwrap_or_default();
    let Some(seen) = case.signals.dependencies.fresh() else {
        // None is declared any more, or they cannot be seen.
        let is_declared = dependencies::declared(case.spec).next().is_some();
        return if is_declared { remembered.to_vec() } else { Vec::new() };
    };
    let has_answered = |one: &&Dependency| one.ever_answered || dependencies::is_known(remembered, one);
    let known = seen.iter().filter(has_answered).filter_map(|one| one.known_as.clone());
    // What this operator has not asked yet, or cannot ask for want of a Secret, stays remembered: a new
    // operator meets each of them so, and would take one that is down for one that never answered.
    let mut unasked = seen.iter().filter(|one| one.known_as.is_none());
    let is_unasked = |known: &&NamedDigest| unasked.any(|one| one.name == known.name);
    let mut all: Vec<NamedDigest> = known.chain(remembered.iter().filter(is_unasked).cloned()).collect();
    all.sort();
    all.dedup();
    all.truncate(DEPENDENCIES);
    all
}

/// What has answered the operator's probes at least once, on this Deployment.
fn answered(case: &Case, server: &Server) -> Vec<Answered> {
    let remembered = case.status.target.as_ref().filter(|known| known.uid == server.target.uid);
    let mut all = remembered.map(|known| known.answered.clone()).unwrap_or_default();
    let probes = case.signals.probes.fresh().map(Vec::as_slice).unwrap_or_default();
    all.extend(probes.iter().filter(|probed| probed.ever_answered).filter_map(Probed::answered));
    all.sort();
    all.dedup();
    all
}

/// The tools that are offered, by what the pods tell.
fn tools(case: &Case) -> Vec<NamedDigest> {
    let probes = case.signals.probes.fresh().map(Vec::as_slice).unwrap_or_default();
    let mut tools: Vec<NamedDigest> = probes
        .iter()
        .filter(|probed| matches!(probed.path, ProbePath::Pod(_)))
        .filter_map(|probed| probed.tools.as_ref())
        .flatten()
        .map(|tool| NamedDigest::new(&tool.name, &tool.schema))
        .collect();
    tools.sort();
    tools.dedup();
    tools.truncate(TOOLS);
    tools
}

/// The content of the ConfigMaps that the pods of the template were started with, once all pods are ready long enough: a
/// pod that is younger than the last change has read it. Until there is one, or where the ConfigMap is gone, the content
/// that was known before stays. A content that running pods see in a volume is not proven by them: most read it once.
fn healthy_config(case: &Case, server: &Server) -> Vec<HealthyConfig> {
    let is_kept = case.spec.actions.allow.contains(&ActionType::RollbackConfig);
    let before = server.last_healthy.filter(|healthy| healthy.template == server.target.template);
    let known = before.map(|healthy| healthy.config.as_slice()).unwrap_or_default();
    let Some(configs) = case.signals.configs.fresh() else { return known.to_vec() };
    let proven = before.map(|healthy| healthy.since.0);
    let pods = server.current_pods();
    let (oldest, youngest) =
        (pods.iter().map(|pod| pod.created).min(), pods.iter().map(|pod| pod.created).max());
    let kept = server.target.config_maps.iter().filter_map(|used| {
        let known = known.iter().find(|known| known.name == used.name).cloned();
        let Some(config) = configs.iter().find(|config| config.name == used.name) else { return known };
        let changed = changed_at(config, known.as_ref().zip(proven));
        if youngest.is_some_and(|created| changed < created) {
            return Some(HealthyConfig {
                name: config.name.clone(),
                content: config.content.clone(),
                copy: if is_kept { copy_name(&config.name, &config.content) } else { String::new() },
            });
        }
        // Made in the very second of the change, they may have read either.
        let none_is_older = oldest.is_some_and(|created| created >= changed);
        known.filter(|known| !none_is_older || known.content == config.content)
    });
    kept.take(CONFIGS).collect()
}

/// When a ConfigMap got the content that it has. Where its managers tell of no change since another content was proven,
/// it is not known: at the latest when the operator observed it.
fn changed_at(config: &Config, known: Option<(&HealthyConfig, Timestamp)>) -> Timestamp {
    match known {
        Some((known, proven)) if known.content != config.content && config.changed <= proven => {
            config.first_seen
        }
        _ => config.changed,
    }
}

/// The name of the copy that holds a content of a ConfigMap: the same whenever it is asked for.
pub fn copy_name(config: &str, content: &str) -> String {
    let most = 253 - content.len() - 1;
    let short = if config.len() <= most {
        config.to_owned()
    } else {
        let cut = config.floor_char_boundary(most - 9);
        format!("{}-{}", &config[..cut], digest::short(config.as_bytes(), 8))
    };
    format!("{short}.{content}")
}

/// Where a rollback goes, or why it cannot go anywhere (yet).
#[derive(Clone, Debug, PartialEq)]
pub enum RollbackTarget {
    /// To this template.
    To(HealthyRevision),
    /// To one that serves beside the bad one, once it has been ready long enough.
    Soon(Timestamp),
    /// The template in force is the one that was seen healthy.
    AlreadyThere,
    /// The ReplicaSet that held it is gone.
    Gone(HealthyRevision),
    /// What its template names is gone: its pods could not start.
    Incomplete(HealthyRevision, Vec<String>),
    /// Whether what its template names exists is not known: why.
    Unverified(String),
    /// None was ever seen healthy.
    NeverSeen,
}

/// The rollback target of the template in force. What serves right now comes before what is remembered; but old pods that
/// serve are no proof that new ones could start.
pub fn way_back(case: &Case, server: &Server) -> RollbackTarget {
    let beside = server.serving_beside().map(|(revision, since)| {
        let due = after(since, case.settings.seen_healthy_after);
        let found = HealthyRevision {
            template: revision.template.clone(),
            replica_set: revision.name.clone(),
            uid: revision.uid.clone(),
            revision: revision.number,
            since: Time(since),
            longest_start: None,
            config: Vec::new(),
            tools: Vec::new(),
        };
        if due <= case.now { startable(case, revision, found) } else { RollbackTarget::Soon(due) }
    });
    if let Some(RollbackTarget::To(found)) = beside {
        return RollbackTarget::To(found);
    }
    let remembered = server.last_healthy.map(|healthy| remembered(case, server, healthy));
    match (remembered, beside) {
        (
            Some(RollbackTarget::Gone(_) | RollbackTarget::Incomplete(..)) | None,
            Some(later @ (RollbackTarget::Soon(_) | RollbackTarget::Unverified(_))),
        ) => later,
        (Some(RollbackTarget::Gone(_)) | None, Some(incomplete)) => incomplete,
        (Some(way), _) => way,
        (None, None) => RollbackTarget::NeverSeen,
    }
}

fn remembered(case: &Case, server: &Server, healthy: &HealthyRevision) -> RollbackTarget {
    if healthy.template == server.target.template {
        return RollbackTarget::AlreadyThere;
    }
    if let Some(kept) = server.revisions.iter().find(|revision| revision.uid == healthy.uid) {
        return startable(case, kept, healthy.clone());
    }
    match server.revisions.iter().find(|revision| revision.template == healthy.template) {
        Some(same) => {
            let (replica_set, uid) = (same.name.clone(), same.uid.clone());
            startable(case, same, HealthyRevision { replica_set, uid, ..healthy.clone() })
        }
        None => RollbackTarget::Gone(healthy.clone()),
    }
}

/// To a revision, if its pods can start.
fn startable(case: &Case, revision: &Revision, healthy: HealthyRevision) -> RollbackTarget {
    match usable(case, revision) {
        Usable::Yes { .. } => RollbackTarget::To(healthy),
        Usable::Missing(missing) => RollbackTarget::Incomplete(healthy, missing),
        Usable::Unknown(why) => RollbackTarget::Unverified(why),
    }
}

/// Why a rollback would have no target, should this template or the next one fail; `None` where it has one, none is
/// allowed, or no template is known good yet.
pub fn no_rollback_target(case: &Case, server: &Server) -> Option<String> {
    if !case.spec.actions.allow.contains(&ActionType::Rollback) {
        return None;
    }
    match way_back(case, server) {
        RollbackTarget::Gone(healthy) => Some(format!(
            "no rollback target: ReplicaSet {} with the known-good template {} is gone",
            healthy.replica_set, healthy.template
        )),
        RollbackTarget::Incomplete(healthy, missing) => Some(format!(
            "no rollback target: {}, which template {} needs",
            gone(&missing),
            healthy.template
        )),
        _ if server.target.keeps_no_revision => Some(
            "no rollback target once a rollout is complete: spec.revisionHistoryLimit of the Deployment is 0, \
             set it to 1 or more"
                .to_owned(),
        ),
        _ => None,
    }
}

/// `ConfigMap a is gone`, `ConfigMap a and Secret b are gone`.
pub fn gone(missing: &[String]) -> String {
    let verb = if missing.len() == 1 { "is" } else { "are" };
    format!("{} {verb} gone", missing.join(" and "))
}
