//! What the operator's watches show of a world: all of it, the past, or nothing.

use jiff::SignedDuration;
use mcp_health_api::{Label, Measure, NamedDigest, PostgresSignal};
use mcp_health_core::signals::{
    Alert, AnswersSince, Autoscaler, CheckStep, Circuit, CircuitState, Config, ConfigUse, Container,
    ContainerSpec, Dependency, Exit, Failure, Fault, FaultKind, Job, LastWords, Lifecycle, Metrics, Node,
    NodeReady, PROBES_KEPT, Placement, Pod, Probe, ProbeHandler, ProbeKind, ProbePath, ProbeQuestion,
    ProbeResult, Probed, Reading, RecordedAction, Revision, Role, RuleReading, SecretUse, Service,
    ServicePort, Signals, Strategy, Target, Usage,
};

use super::{
    moment,
    series::Measured,
    world::{CONFIG_MAP, CPU_LIMIT, ConfigMap, Deployment, MEMORY_LIMIT, Template, World},
};

/// How much a watch shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// What is.
    #[default]
    Clear,
    /// What was when it broke off.
    Stale,
    /// Nothing.
    Gone,
}

/// One watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Target,
    Revisions,
    Pods,
    Services,
    Autoscalers,
    Usage,
    Metrics,
    Rules,
    Configs,
    Alerts,
    Probes,
    Circuits,
    Dependencies,
    Database,
    NamespaceSwitch,
    ClusterSwitch,
}

/// All of them.
pub const SOURCES: [Source; 16] = [
    Source::Target,
    Source::Revisions,
    Source::Pods,
    Source::Services,
    Source::Autoscalers,
    Source::Usage,
    Source::Metrics,
    Source::Rules,
    Source::Configs,
    Source::Alerts,
    Source::Probes,
    Source::Circuits,
    Source::Dependencies,
    Source::Database,
    Source::NamespaceSwitch,
    Source::ClusterSwitch,
];

/// The watches, and what they show beside the world.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    sights: [(Sight, i64); SOURCES.len()],
    before: Option<Signals>,
    pub autoscalers: Vec<Autoscaler>,
    /// Where there is an Alertmanager.
    pub alerts: Option<Vec<Alert>>,
    pub lift: Option<Result<mcp_health_core::signals::Lift, String>>,
    pub report: Option<String>,
    pub namespace_suspended: bool,
    pub cluster_suspended: bool,
    pub rival: Option<String>,
}

impl Watches {
    /// From now on the watch shows so much.
    pub fn set(&mut self, world: &World, source: Source, sight: Sight) {
        let now = self.look(world);
        self.sights[source as usize] = (sight, world.now);
        self.before = Some(match self.before.take() {
            Some(before) => keep_stale(before, now),
            None => now,
        });
    }

    /// What the operator sees.
    pub fn look(&self, world: &World) -> Signals {
        let mut signals = clear(world, self);
        let Some(before) = &self.before else { return signals };
        let sight = |source: Source| self.sights[source as usize];
        blur(&mut signals.target, &before.target, sight(Source::Target));
        blur(&mut signals.revisions, &before.revisions, sight(Source::Revisions));
        blur(&mut signals.pods, &before.pods, sight(Source::Pods));
        blur(&mut signals.services, &before.services, sight(Source::Services));
        blur(&mut signals.autoscalers, &before.autoscalers, sight(Source::Autoscalers));
        blur(&mut signals.usage, &before.usage, sight(Source::Usage));
        blur(&mut signals.resident, &before.resident, sight(Source::Usage));
        blur(&mut signals.metrics, &before.metrics, sight(Source::Metrics));
        blur(&mut signals.rules, &before.rules, sight(Source::Rules));
        blur(&mut signals.configs, &before.configs, sight(Source::Configs));
        blur(&mut signals.alerts, &before.alerts, sight(Source::Alerts));
        blur(&mut signals.probes, &before.probes, sight(Source::Probes));
        blur(&mut signals.circuits, &before.circuits, sight(Source::Circuits));
        blur(&mut signals.dependencies, &before.dependencies, sight(Source::Dependencies));
        blur(&mut signals.database, &before.database, sight(Source::Database));
        blur(&mut signals.namespace_suspended, &before.namespace_suspended, sight(Source::NamespaceSwitch));
        blur(&mut signals.cluster_suspended, &before.cluster_suspended, sight(Source::ClusterSwitch));
        signals
    }
}

/// A reading that is fresh now replaces what was known; one that is not keeps it.
fn keep_stale(before: Signals, now: Signals) -> Signals {
    fn newer<T>(before: Reading<T>, now: Reading<T>) -> Reading<T> {
        if now.fresh().is_some() { now } else { before }
    }
    Signals {
        target: newer(before.target, now.target),
        revisions: newer(before.revisions, now.revisions),
        pods: newer(before.pods, now.pods),
        services: newer(before.services, now.services),
        autoscalers: newer(before.autoscalers, now.autoscalers),
        usage: newer(before.usage, now.usage),
        resident: newer(before.resident, now.resident),
        metrics: newer(before.metrics, now.metrics),
        rules: newer(before.rules, now.rules),
        configs: newer(before.configs, now.configs),
        alerts: newer(before.alerts, now.alerts),
        probes: newer(before.probes, now.probes),
        circuits: newer(before.circuits, now.circuits),
        dependencies: newer(before.dependencies, now.dependencies),
        database: newer(before.database, now.database),
        namespace_suspended: newer(before.namespace_suspended, now.namespace_suspended),
        cluster_suspended: newer(before.cluster_suspended, now.cluster_suspended),
        rival: now.rival,
        ..now
    }
}

fn blur<T: Clone>(reading: &mut Reading<T>, before: &Reading<T>, (sight, since): (Sight, i64)) {
    match sight {
        Sight::Clear => {}
        Sight::Stale => {
            if let Some(value) = before.fresh() {
                *reading = Reading::Stale { value: value.clone(), at: moment(since) };
            }
        }
        Sight::Gone => *reading = Reading::Unavailable("the watch does not answer".to_owned()),
    }
}

fn clear(world: &World, watches: &Watches) -> Signals {
    let revisions = world.sets.iter().map(|set| Revision {
        name: set.name.clone(),
        uid: set.uid.clone(),
        template: set.template.clone(),
        number: Some(set.number),
        replicas: set.replicas,
        references: Vec::new(),
        failure: None,
    });
    let ready = world.pods.iter().filter(|pod| pod.ready && pod.going.is_none()).count();
    let services = world.deployment.iter().map(|_| Service {
        name: "mcp-server".to_owned(),
        selects_pods: !world.service_astray,
        sticky: false,
        ports: vec![ServicePort {
            name: "http".to_owned(),
            number: 80,
            target: "http".to_owned(),
            is_https: false,
        }],
        unresolved: Vec::new(),
        selector: if world.service_astray { "app=other" } else { "app=mcp-server" }.to_owned(),
        foreign: Vec::new(),
        ready_endpoints: if world.service_astray { 0 } else { ready },
        since: moment(world.service_since),
    });
    Signals {
        target: Reading::Fresh(world.deployment.as_ref().map(|one| target(world, one))),
        revisions: Reading::Fresh(revisions.collect()),
        pods: Reading::Fresh(world.pods.iter().map(|one| pod(world, one)).collect()),
        nodes: if world.nodes.is_empty() { Reading::Off } else { Reading::Fresh(nodes(world)) },
        services: Reading::Fresh(services.collect()),
        autoscalers: Reading::Fresh(watches.autoscalers.clone()),
        budgets: Reading::Fresh(world.budgets.clone()),
        quotas: Reading::Fresh(Vec::new()),
        configs: if world.config.is_some() {
            Reading::Fresh(world.config.iter().map(config).collect())
        } else {
            Reading::Off
        },
        jobs: Reading::Fresh(world.jobs.iter().map(|(name, made)| job(world, name, *made)).collect()),
        usage: world.usage.clone().map_or(Reading::Off, Reading::Fresh),
        resident: match &world.usage {
            Some(usage) if world.caches => Reading::Fresh(usage.iter().map(without_cache).collect()),
            usage => usage.clone().map_or(Reading::Off, Reading::Fresh),
        },
        metrics: if world.measured { Reading::Fresh(metrics(world)) } else { Reading::Off },
        rules: if world.rules.is_empty() { Reading::Off } else { Reading::Fresh(rules(world)) },
        alerts: watches.alerts.clone().map_or(Reading::Off, Reading::Fresh),
        probes: if world.probed { Reading::Fresh(probes(world)) } else { Reading::Off },
        circuits: if world.probed { Reading::Fresh(circuits(world)) } else { Reading::Off },
        dependencies: if world.probed {
            let postgres = world.postgres.iter().map(|_| postgres(world));
            Reading::Fresh([dependency(world), queue(world)].into_iter().chain(postgres).collect())
        } else {
            Reading::Off
        },
        database: world.postgres.as_ref().map_or(Reading::Off, |one| Reading::Fresh(one.seen.clone())),
        report: watches.report.clone(),
        lift: watches.lift.clone(),
        namespace_suspended: Reading::Fresh(watches.namespace_suspended),
        cluster_suspended: Reading::Fresh(watches.cluster_suspended),
        rival: watches.rival.clone(),
        ..Signals::default()
    }
}

fn nodes(world: &World) -> Vec<Node> {
    let node = |(name, (since, ready)): (&&str, &(i64, bool))| Node {
        name: (*name).to_owned(),
        uid: format!("uid-of-{name}"),
        ready: if *ready { NodeReady::Ready } else { NodeReady::Unknown },
        since: moment(*since),
        reason: if *ready { "KubeletReady" } else { "NodeStatusUnknown" }.to_owned(),
        message: if *ready { "" } else { "Kubelet stopped posting node status." }.to_owned(),
        out_of_service: false,
        unschedulable: false,
        pressures: Vec::new(),
    };
    world.nodes.iter().map(node).collect()
}

/// What a pod uses when it does not leak.
fn without_cache(usage: &Usage) -> Usage {
    let mut usage = usage.clone();
    for sample in &mut usage.samples {
        sample.memory = sample.memory.min(40 << 20);
    }
    usage
}

/// Asked four times a minute, as the rules are.
fn metrics(world: &World) -> Metrics {
    let mut measured = Measured::at(world.now - world.now % 15);
    for pod in world.pods.iter().filter(|pod| pod.ready && pod.going.is_none()) {
        let idle = if world.crowded.contains(&pod.name) { 150.0 } else { 3.0 };
        let percent = match world.behaviour(&pod.template) {
            Template::Fails(percent) => f64::from(percent),
            _ if world.failing.contains(&pod.name) => 50.0,
            _ => 0.0,
        };
        let requests = if world.silent { 0.0 } else { 300.0 };
        let failed = requests * percent / 100.0;
        measured = measured
            .answers(&pod.name, requests - failed, failed)
            .before(Measure::Requests, &pod.name, &[(Label::Endpoint, "/mcp")], 1.0)
            .with(Measure::IdleSessions, &pod.name, &[], idle);
        if let Some(postgres) = &world.postgres {
            let held = postgres.held_by(pod.address());
            measured = measured.with(Measure::DatabasePoolSize, &pod.name, &[], 20.0).with(
                Measure::DatabasePoolInUse,
                &pod.name,
                &[],
                f64::from(held.min(20)),
            );
        }
    }
    measured.metrics
}

/// Asked four times a minute.
fn rules(world: &World) -> Vec<RuleReading> {
    let at = moment(world.now - world.now % 15);
    let readings = world.rules.iter();
    readings.map(|(name, values)| RuleReading { name: name.clone(), values: values.clone(), at }).collect()
}

/// Seconds between two questions.
const INTERVAL: i64 = 15;
/// The one circuit of every pod, and what it guards.
pub const CIRCUIT: &str = "external-api";
/// What the server needs beside that.
pub const QUEUE: &str = "queue";

/// MCP, its list of tools and health are asked of every ready pod, since it is so; health is always well.
fn probes(world: &World) -> Vec<Probed> {
    let last = world.now - world.now % INTERVAL;
    let ready = world.pods.iter().filter(|pod| pod.ready && pod.going.is_none());
    let questions = [ProbeQuestion::Mcp, ProbeQuestion::Tools, ProbeQuestion::Health];
    let asked = ready.flat_map(|pod| questions.map(|question| (pod, question)));
    let probed = asked.map(|(pod, question)| {
        let loses = question == ProbeQuestion::Mcp && world.loses_sessions.as_ref() == Some(&pod.template);
        let hangs = world.wedged.iter().find(|(name, _)| *name == pod.name && question == world.wedged_on);
        let asked = (0..i64::try_from(PROBES_KEPT).unwrap()).rev().map(|back| last - back * INTERVAL);
        let results = asked.filter(|at| *at >= pod.ready_changed).map(|at| ProbeResult {
            at: moment(at),
            was_ready: true,
            millis: 5,
            outcome: match hangs {
                _ if loses => Err(session_lost()),
                Some((_, since)) if at >= *since => {
                    Err(Fault { kind: FaultKind::TimedOut, said: "no answer within 5s".to_owned() })
                }
                _ => Ok(()),
            },
        });
        answered(ProbePath::Pod(pod.name.clone()), question, results.collect())
    });
    probed.chain(through_the_service(world, last)).collect()
}

/// A path that was answered well before.
fn answered(path: ProbePath, question: ProbeQuestion, results: Vec<ProbeResult>) -> Probed {
    Probed {
        path,
        question,
        ever_answered: true,
        answered_here: true,
        pause: SignedDuration::from_secs(INTERVAL),
        leads_elsewhere: false,
        results,
        tools: None,
    }
}

fn session_lost() -> Fault {
    Fault { kind: FaultKind::SessionLost, said: "does not know the session".to_owned() }
}

/// MCP through the Service, where that matters: since a second pod is ready, half of the requests meet the
/// one that does not know the session, four in a row and then none of four.
fn through_the_service(world: &World, last: i64) -> Option<Probed> {
    let ready = world.pods.iter().filter(|pod| pod.ready && pod.going.is_none());
    let mut since: Vec<i64> = ready.map(|pod| pod.ready_changed).collect();
    since.sort_unstable();
    let first = *since.first().filter(|_| world.spreads_sessions)?;
    let is_lost =
        |at: i64| since.get(1).is_some_and(|second| at >= *second && (at - second) / INTERVAL % 8 < 4);
    let asked = (0..i64::try_from(PROBES_KEPT).unwrap()).rev().map(|back| last - back * INTERVAL);
    let results = asked.filter(|at| *at >= first).map(|at| ProbeResult {
        at: moment(at),
        was_ready: true,
        millis: 5,
        outcome: if is_lost(at) { Err(session_lost()) } else { Ok(()) },
    });
    let path = ProbePath::Service("mcp-server".to_owned());
    Some(answered(path, ProbeQuestion::Mcp, results.collect()))
}

/// What the ready pods tell of their circuit.
fn circuits(world: &World) -> Vec<Circuit> {
    let ready = world.pods.iter().filter(|pod| pod.ready && pod.going.is_none());
    let circuits = ready.map(|pod| {
        let open = world.circuits_open.iter().find(|(name, _)| *name == pod.name);
        Circuit {
            pod: pod.name.clone(),
            name: CIRCUIT.to_owned(),
            state: if open.is_some() { CircuitState::Open } else { CircuitState::Closed },
            failures: Some(5),
            threshold: Some(5),
            last_failure: open.map(|(_, since)| moment(*since)),
            recovery: Some(SignedDuration::from_secs(20)),
            at: moment(world.now - world.now % INTERVAL).max(open.map_or(moment(0), |(_, at)| moment(*at))),
        }
    });
    circuits.collect()
}

/// It always answers.
fn dependency(world: &World) -> Dependency {
    Dependency {
        name: CIRCUIT.to_owned(),
        words: "GET http://external-api:8080/health".to_owned(),
        results: vec![(moment(world.now - world.now % INTERVAL), Ok(()))],
        ..Dependency::default()
    }
}

/// The queue that the server needs: asked at every interval or more often, and down as long as the world says so.
fn queue(world: &World) -> Dependency {
    let is_silent = |at: i64| world.unanswered.is_some_and(|since| at >= since);
    let came = |(at, answered): &(i64, bool)| {
        let refuses = || Failure::new(CheckStep::Port, "10.0.0.7:5672 refuses the connection");
        (
            moment(*at),
            if *answered && !is_silent(*at) && !world.queue_is_walled { Ok(()) } else { Err(refuses()) },
        )
    };
    Dependency {
        name: QUEUE.to_owned(),
        words: "a connection to rabbitmq.mcp:5672".to_owned(),
        place: "rabbitmq.mcp:5672".to_owned(),
        known_as: Some(NamedDigest::new(QUEUE, "3f9a1c")),
        ever_answered: !world.queue_is_walled,
        results: world.queue_asked.iter().map(came).collect(),
        answers_since: world
            .queue_answers_since
            .filter(|_| world.unanswered.is_none() && !world.queue_is_walled)
            .map(|(at, had_failed)| AnswersSince { at: moment(at), had_failed }),
        ..Dependency::default()
    }
}

/// The database always lets the operator in.
fn postgres(world: &World) -> Dependency {
    Dependency {
        name: PostgresSignal::NAME.to_owned(),
        words: "PostgreSQL mcp_prod at postgres.mcp:5432".to_owned(),
        place: "postgres.mcp:5432".to_owned(),
        known_as: Some(NamedDigest::new("postgres", "7b20d4")),
        ever_answered: true,
        results: dependency(world).results,
        ..Dependency::default()
    }
}

fn config(config: &ConfigMap) -> Config {
    Config {
        name: CONFIG_MAP.to_owned(),
        uid: config.uid.clone(),
        resource_version: config.version.to_string(),
        content: config.content.clone(),
        changed: moment(config.changed),
        first_seen: moment(config.first_seen),
        owner: Some("team/Apply".to_owned()),
        immutable: config.immutable,
        gitops: config.gitops.clone(),
        shared_with: config.shared_with.clone(),
        unchecked: config.unchecked.clone(),
    }
}

fn target(world: &World, deployment: &Deployment) -> Target {
    let actions: String = serde_json::to_string(&deployment.actions).unwrap();
    let actions: Vec<RecordedAction> = serde_json::from_str(&actions).unwrap();
    Target {
        uid: deployment.uid.clone(),
        resource_version: deployment.version.to_string(),
        generation: deployment.generation,
        observed_generation: deployment.observed,
        template: deployment.template.clone(),
        desired: deployment.desired,
        strategy: if deployment.recreate { Strategy::Recreate } else { Strategy::RollingUpdate },
        surge: (deployment.desired + 3) / 4,
        replicas: deployment.counts.replicas,
        updated: deployment.counts.updated,
        ready: deployment.counts.ready,
        keeps_no_revision: false,
        paused: deployment.paused,
        deadline_exceeded: deployment
            .deadline_exceeded
            .then(|| "ReplicaSet \"mcp-server\" has timed out progressing.".to_owned()),
        replica_failure: deployment.quota_hit.map(|since| {
            let quota =
                "pods \"mcp-server\" is forbidden: exceeded quota: mcp, used: pods=3, limited: pods=3";
            let words = world.refuses.as_ref().map_or(quota, |(words, _)| words);
            (words.to_owned(), moment(since))
        }),
        progress_deadline: SignedDuration::from_secs(deployment.deadline),
        startup_budget: SignedDuration::from_secs(30),
        containers: vec![container(world.behaviour(&deployment.template))],
        config_maps: world.config.iter().map(|_| config_use()).collect(),
        secrets: vec![SecretUse {
            container: "server".to_owned(),
            name: "db-credentials".to_owned(),
            as_env: true,
        }],
        claims: Vec::new(),
        replicas_owner: None,
        grace_period: SignedDuration::from_secs(30),
        attempt: deployment.mark.clone(),
        actions,
        gitops: deployment.gitops.clone(),
    }
}

fn config_use() -> ConfigUse {
    ConfigUse { name: CONFIG_MAP.to_owned(), as_env: true }
}

/// What the pod template says of its one container.
fn container(kind: Template) -> ContainerSpec {
    let mut container = ContainerSpec {
        name: "server".to_owned(),
        memory_request: Some(64 << 20),
        memory_limit: Some(MEMORY_LIMIT),
        cpu_limit: Some(CPU_LIMIT),
        ports: vec![("http".to_owned(), 8000)],
        ..ContainerSpec::default()
    };
    match kind {
        Template::NeedsMemory { limit, .. } => container.memory_limit = Some(limit << 20),
        Template::NeedsTime { threshold, .. } => container.probes.push(Probe {
            handler: ProbeHandler::Http,
            kind: ProbeKind::Startup,
            port: Some("http".to_owned()),
            delay: 0,
            period: 1,
            failures: threshold,
        }),
        Template::NeedsVariable { set } => {
            container.env.extend(set.then(|| ("MCP_WORKERS".to_owned(), Some("1".to_owned()))));
        }
        _ => {}
    }
    container
}

/// A Job takes ten seconds.
fn job(world: &World, name: &str, made: i64) -> Job {
    let over = world.now - made >= 10;
    Job { name: name.to_owned(), succeeded: over.then_some(!world.jobs_fail) }
}

fn pod(world: &World, pod: &super::world::Pod) -> Pod {
    let kind = world.behaviour(&pod.template);
    let placed = pod.started.is_some() || !world.full;
    let waiting = if pod.is_backing_off() {
        Some(("CrashLoopBackOff", "back-off restarting failed container"))
    } else if placed && world.behaviour(&pod.template) == Template::NoImage {
        Some(("ImagePullBackOff", "Back-off pulling image \"registry.example/mcp-server:nope\""))
    } else if placed && pod.started.is_none() {
        Some(("ContainerCreating", ""))
    } else {
        None
    };
    Pod {
        name: pod.name.clone(),
        uid: pod.uid(),
        revision: pod.set.clone(),
        created: moment(pod.created),
        deleting: pod.going.is_some(),
        finished: pod.failure.is_some(),
        ready: pod.ready,
        ready_changed: moment(pod.ready_changed),
        was_ready: pod.was_ready,
        address: Some(pod.address()),
        unschedulable: (!placed).then(|| "0/1 nodes are available: 1 Insufficient memory.".to_owned()),
        placement: pod.node.map(|node| Placement {
            node: node.to_owned(),
            since: moment(pod.created),
            sign: None,
        }),
        containers: vec![Container {
            name: "server".to_owned(),
            role: Role::Main,
            restarts: pod.restarts,
            memory_limit: None,
            memory_request: None,
            waiting: waiting.map(|(reason, message)| (reason.to_owned(), message.to_owned())),
            last_exit: pod.exits.last().map(|at| exit(world, pod, *at)),
            recent_exits: pod.exits.iter().rev().take(5).rev().map(|at| moment(*at)).collect(),
            ended: false,
            last_words: LastWords::NotAsked,
        }],
        troubles: troubles(world, pod, placed),
        lifecycle: lifecycle(world, pod, kind, placed),
    }
}

/// What Events say of it.
fn troubles(world: &World, pod: &super::world::Pod, placed: bool) -> Vec<(String, String)> {
    let scale_up =
        || ("TriggeredScaleUp".to_owned(), "pod triggered scale-up: [{workers 1->2 (max: 5)}]".to_owned());
    let evicted = failure(pod).filter(|_| world.ends_well);
    evicted.into_iter().chain((world.autoscales && !placed).then(scale_up)).collect()
}

/// Why its node ended it or does not run it.
fn failure(pod: &super::world::Pod) -> Option<(String, String)> {
    pod.failure.map(|(reason, message)| (reason.to_owned(), message.to_owned()))
}

/// How far it has come: first its node is busy, then images are pulled or init containers run.
fn lifecycle(world: &World, pod: &super::world::Pod, kind: Template, placed: bool) -> Lifecycle {
    let created = placed && pod.failure.is_none() && world.now >= pod.created + world.busy_node;
    let gated = kind == Template::GateUnset;
    Lifecycle {
        scheduled: placed.then(|| moment(pod.created)),
        sandbox: Some(created),
        init_running: (created && pod.started.is_none() && matches!(kind, Template::InitTakes(_)))
            .then(|| "migrate".to_owned()),
        started: pod.first_started.map(moment),
        started_last: pod.started.filter(|_| pod.back_at.is_none()).map(moment),
        became_ready: pod.became_ready.map(moment),
        containers_ready: match pod.started {
            Some(started) if gated => Some(moment(started + 2)),
            _ => pod.ready.then(|| moment(pod.ready_changed)),
        },
        unmet_gates: if gated { vec!["target-health.example.com/lb".to_owned()] } else { Vec::new() },
        failure: failure(pod).filter(|_| !world.ends_well),
        ends_by: pod.going.map(moment),
        grace: pod.going.map(|_| SignedDuration::from_secs(world.grace)),
        finalizers: if world.stuck { vec!["example.com/keep".to_owned()] } else { Vec::new() },
    }
}

fn exit(world: &World, pod: &super::world::Pod, at: i64) -> Exit {
    let kind = world.behaviour(&pod.template);
    let started = match kind {
        Template::NeedsMemory { after, .. } => Some(moment(at - after)),
        _ => Some(moment(at - pod.ran)),
    };
    let (code, reason, message) = if kind.runs_out_of_memory() {
        (137, "OOMKilled", None)
    } else {
        (1, "Error", Some(world.said.to_owned()))
    };
    Exit { code, reason: reason.to_owned(), at: moment(at), started, message }
}
