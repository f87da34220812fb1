//! A Deployment with its ReplicaSets and pods, run as Kubernetes runs them, under a clock of its own. People,
//! faults and the operator act on it; the same calls in the same order make the same world.

use std::{collections::BTreeMap, net::IpAddr};

use mcp_health_api::{Attempt, Effect, Step, StepState};
use mcp_health_core::{
    actions::{Answers, job_name},
    attempt::remembered,
    digest,
    healthy::copy_name,
    signals::{Budget, RecordedAction, Sample, Usage},
    usage,
};

use super::postgres::Postgres;

/// What the pods of a template do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Ready after two seconds, and so for ever.
    Good,
    /// Ready after so many seconds.
    ReadyAfter(i64),
    /// Ready as a good one, and fails so many percent of its requests.
    Fails(u8),
    /// Runs, and never gets ready.
    NeverReady,
    /// Its init container takes so many seconds; then it is ready as a good one.
    InitTakes(i64),
    /// Its image is pulled for so many seconds; then it is ready as a good one.
    PullTakes(i64),
    /// Its containers are ready as those of a good one, and a readiness gate of its pods is never set.
    GateUnset,
    /// The kubelet rejects its pods.
    Rejected,
    /// Ends a second after its start.
    CrashesAtOnce,
    /// Gets ready, and ends so many seconds after its start.
    CrashesAfter(i64),
    /// Its image does not exist.
    NoImage,
    /// Is killed at its memory limit so many seconds after its start, if that is less than it needs. In MiB.
    NeedsMemory { needs: i64, limit: i64, after: i64 },
    /// Is killed by its startup probe after so many seconds, if its start takes longer.
    NeedsTime { needs: i64, threshold: i64 },
    /// Ends a second after its start, unless the variable `MCP_WORKERS` is set.
    NeedsVariable { set: bool },
}

impl Template {
    /// The seconds before its own container starts.
    fn pause(self) -> i64 {
        match self {
            Self::InitTakes(seconds) | Self::PullTakes(seconds) => seconds,
            _ => 0,
        }
    }

    /// The same with the field set that an edit names.
    fn edited(self, field: &str, to: &str) -> Self {
        match (self, field) {
            (Self::NeedsMemory { needs, after, .. }, "resources.limits.memory") => {
                Self::NeedsMemory { needs, limit: mcp_health_core::quantity::bytes(to).unwrap() >> 20, after }
            }
            (Self::NeedsTime { needs, .. }, "startupProbe.failureThreshold") => {
                Self::NeedsTime { needs, threshold: to.parse().unwrap() }
            }
            (Self::NeedsVariable { .. }, "env.MCP_WORKERS") => Self::NeedsVariable { set: true },
            _ => self,
        }
    }

    /// Whether its end is the memory limit's doing.
    pub fn runs_out_of_memory(self) -> bool {
        matches!(self, Self::NeedsMemory { needs, limit, .. } if needs > limit)
    }
}

/// The Deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub uid: String,
    pub version: u64,
    pub generation: i64,
    pub observed: i64,
    pub template: String,
    pub restarted: String,
    pub desired: i32,
    pub paused: bool,
    pub recreate: bool,
    pub gitops: Option<String>,
    pub mark: Option<String>,
    pub actions: Vec<RecordedAction>,
    pub progressed: i64,
    pub deadline: i64,
    /// The template and the restart whose rollout was complete once: no deadline counts for it any more.
    pub completed: Option<(String, String)>,
    pub deadline_exceeded: bool,
    pub quota_hit: Option<i64>,
    pub counts: Counts,
}

/// What the Deployment's status counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub replicas: i32,
    pub updated: i32,
    pub updated_ready: i32,
    pub ready: i32,
}

/// The ConfigMap that every template reads when a container starts. With the content `BAD` they end.
#[derive(Clone, Debug)]
pub struct ConfigMap {
    pub uid: String,
    pub version: u64,
    pub content: String,
    pub changed: i64,
    pub first_seen: i64,
    pub immutable: bool,
    pub gitops: Option<String>,
    pub shared_with: Vec<String>,
    pub unchecked: Vec<String>,
    pub mark: Option<String>,
}

/// Its name.
pub const CONFIG_MAP: &str = "settings";
/// A content of it with which no container stays up.
pub const BAD: &str = "bad0000000";

/// A ReplicaSet.
#[derive(Clone, Debug)]
pub struct Set {
    pub name: String,
    pub uid: String,
    pub template: String,
    pub restarted: String,
    pub number: i64,
    pub replicas: i32,
}

/// A pod with one container.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub set: String,
    pub template: String,
    pub created: i64,
    pub started: Option<i64>,
    pub back_at: Option<i64>,
    pub ready: bool,
    pub ready_changed: i64,
    pub was_ready: bool,
    pub going: Option<i64>,
    pub restarts: i32,
    pub exits: Vec<i64>,
    /// How long it ran before it ended last.
    pub ran: i64,
    /// What it read when it started last.
    pub read: Option<String>,
    /// Where it runs.
    pub node: Option<&'static str>,
    /// When its container was started first.
    pub first_started: Option<i64>,
    /// When it was ready first.
    pub became_ready: Option<i64>,
    /// Why it failed as a whole.
    pub failure: Option<(&'static str, &'static str)>,
}

/// An effect that the operator had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub attempt: String,
    pub undoes: Option<String>,
    pub at: i64,
    /// The place of its step among those of the attempt.
    pub step: usize,
    pub effect: Effect,
    /// The Deployment.
    pub uid: String,
    /// The template; of a change of replicas, their number; of an eviction, the pod.
    pub before: String,
    pub after: String,
}

/// What a container may use: millicores, and bytes.
pub const CPU_LIMIT: i64 = 500;
pub const MEMORY_LIMIT: i64 = 128 << 20;
/// Seconds between two measurements.
const RESOLUTION: i64 = 15;
/// Bytes that a leaking pod loses in a second: 2 MiB a minute.
const LEAK: i64 = (2 << 20) / 60;

/// How long a rollout may take by default.
pub const PROGRESS_DEADLINE: i64 = 120;

/// See the module.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a fault of its own.
pub struct World {
    /// Seconds since the start.
    pub now: i64,
    pub deployment: Option<Deployment>,
    pub sets: Vec<Set>,
    pub pods: Vec<Pod>,
    templates: Vec<(String, Template)>,
    serial: u64,
    versions: u64,
    /// No further pod may be made.
    pub quota: bool,
    /// No node takes a further pod.
    pub full: bool,
    /// An autoscaler says of pods without a node that it brings one.
    pub autoscales: bool,
    /// The API server refuses further pods, with these words; and those of this template only.
    pub refuses: Option<(&'static str, Option<String>)>,
    /// So many seconds pass until a node starts the containers of a pod.
    pub busy_node: i64,
    /// Pods that are not ready, whatever their template.
    pub broken: Vec<String>,
    /// How long a pod takes to end, and its grace period.
    pub grace: i64,
    /// Pods that are deleted do not end.
    pub stuck: bool,
    /// The node evicts every pod so many seconds after its start.
    pub evicts_after: Option<i64>,
    /// What is evicted ends with code 0: its pod has succeeded, and an Event alone tells of the eviction.
    pub ends_well: bool,
    /// What every template needs is down: all containers end.
    pub dependency_down: bool,
    /// What every template needs is down: all containers run, and none is ready.
    pub unready: bool,
    /// What containers do that start while what every template needs is down; pods that are ready go on.
    pub starts_as: Option<Template>,
    /// What every container says before it ends.
    pub said: &'static str,
    /// The Service's selector selects nothing.
    pub service_astray: bool,
    /// Since when it leads where it leads.
    pub service_since: i64,
    /// The disruption budgets that cover the pods, as their status tells.
    pub budgets: Vec<Budget>,
    /// The API server refuses every eviction, whatever that status tells.
    pub evictions_refused: bool,
    /// What is measured of the pods every quarter of a minute, if anybody does.
    pub usage: Option<Vec<Usage>>,
    /// What grows in a pod that leaks is its page cache.
    pub caches: bool,
    /// Pods that leak, and since when.
    pub leaks: Vec<(String, i64)>,
    /// The work that there is, in millicores; the ready pods share it.
    pub demand: i64,
    /// What all of them read, if anything.
    pub config: Option<ConfigMap>,
    /// The copies that the operator made: their names, and what they hold.
    pub copies: BTreeMap<String, String>,
    /// Which content it put back, for which attempt.
    pub restored: Vec<(String, String)>,
    /// The hooks answer with an error.
    pub hooks_fail: bool,
    /// The pods are probed, and tell of their circuits.
    pub probed: bool,
    /// Pods on which MCP hangs, and since when.
    pub wedged: Vec<(String, i64)>,
    /// What hangs there: MCP, or its list of tools alone.
    pub wedged_on: mcp_health_core::signals::ProbeQuestion,
    /// Pods keep their sessions to themselves, and the Service spreads requests over all of them.
    pub spreads_sessions: bool,
    /// The template whose pods lose each session at once, also on their own addresses.
    pub loses_sessions: Option<String>,
    /// Pods whose one circuit is stuck open, and since when.
    pub circuits_open: Vec<(String, i64)>,
    /// Since when the queue that it needs does not answer.
    pub unanswered: Option<i64>,
    /// How often the queue is asked, in seconds; when it was asked, and whether it answered.
    pub queue_interval: i64,
    pub queue_asked: Vec<(i64, bool)>,
    /// Since when it answers without a failure in between, and whether it had failed before.
    pub queue_answers_since: Option<(i64, bool)>,
    /// The queue never answered the operator: there is no way to it.
    pub queue_is_walled: bool,
    /// The queue is to be asked at once, and then every five seconds.
    pub queue_is_urgent: bool,
    /// A reset changes nothing.
    pub circuits_stick: bool,
    /// The Jobs that the operator made, and when.
    pub jobs: Vec<(String, i64)>,
    /// They fail.
    pub jobs_fail: bool,
    /// What the policy's own rules come to, by their names, if anybody asks.
    pub rules: BTreeMap<String, Result<Vec<(String, f64)>, String>>,
    /// What its pods tell of requests and sessions is measured.
    pub measured: bool,
    /// Nobody asks it for anything any more.
    pub silent: bool,
    /// Pods half of whose requests fail, whatever their template.
    pub failing: Vec<String>,
    /// Pods with more idle sessions than they should have.
    pub crowded: Vec<String>,
    /// Its database, if it has one.
    pub postgres: Option<Postgres>,
    /// The nodes, if the operator may read them: since when each is as it is, and whether it is ready.
    pub nodes: BTreeMap<&'static str, (i64, bool)>,
    /// What the operator did.
    pub done: Vec<Done>,
}

impl World {
    /// A Deployment of so many pods that were just made.
    pub fn with(template: Template, desired: i32) -> Self {
        let mut world = Self {
            now: 0,
            deployment: None,
            sets: Vec::new(),
            pods: Vec::new(),
            templates: Vec::new(),
            serial: 0,
            versions: 0,
            quota: false,
            full: false,
            autoscales: false,
            refuses: None,
            busy_node: 0,
            broken: Vec::new(),
            grace: 2,
            stuck: false,
            evicts_after: None,
            ends_well: false,
            dependency_down: false,
            unready: false,
            starts_as: None,
            said: "Traceback (most recent call last):\nRuntimeError: it does not work\n",
            service_astray: false,
            service_since: 0,
            budgets: Vec::new(),
            evictions_refused: false,
            usage: None,
            caches: false,
            leaks: Vec::new(),
            demand: 0,
            config: None,
            copies: BTreeMap::new(),
            restored: Vec::new(),
            hooks_fail: false,
            probed: false,
            spreads_sessions: false,
            loses_sessions: None,
            wedged: Vec::new(),
            wedged_on: mcp_health_core::signals::ProbeQuestion::Mcp,
            circuits_open: Vec::new(),
            unanswered: None,
            queue_interval: 15,
            queue_asked: vec![(0, true)],
            queue_answers_since: Some((0, false)),
            queue_is_walled: false,
            queue_is_urgent: false,
            circuits_stick: false,
            jobs: Vec::new(),
            jobs_fail: false,
            rules: BTreeMap::new(),
            measured: false,
            silent: false,
            failing: Vec::new(),
            crowded: Vec::new(),
            postgres: None,
            nodes: BTreeMap::new(),
            done: Vec::new(),
        };
        world.create(template, desired);
        world
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    pub fn new_template(&mut self, template: Template) -> String {
        let name = format!("template {}", self.next());
        let name = digest::short(name.as_bytes(), 10);
        self.templates.push((name.clone(), template));
        name
    }

    pub fn behaviour(&self, template: &str) -> Template {
        self.templates.iter().find(|(name, _)| name == template).map_or(Template::Good, |(_, kind)| *kind)
    }

    /// What the rule of this name comes to from now on: one value, without labels.
    pub fn answer(&mut self, rule: &str, value: f64) {
        self.rules.insert(rule.to_owned(), Ok(vec![(String::new(), value)]));
    }

    // ---- what people do

    /// Creates the Deployment, where there is none.
    pub fn create(&mut self, template: Template, desired: i32) {
        if self.deployment.is_some() {
            return;
        }
        let uid = format!("deployment-{}", self.next());
        let template = self.new_template(template);
        let version = self.next_version();
        self.deployment = Some(Deployment {
            uid,
            version,
            generation: 1,
            observed: 0,
            template,
            restarted: String::new(),
            desired,
            paused: false,
            recreate: false,
            gitops: None,
            mark: None,
            actions: Vec::new(),
            progressed: self.now,
            deadline: PROGRESS_DEADLINE,
            completed: None,
            deadline_exceeded: false,
            quota_hit: None,
            counts: Counts::default(),
        });
    }

    /// Deletes it, with all that belongs to it.
    pub fn delete(&mut self) {
        self.deployment = None;
        self.sets.clear();
        self.pods.clear();
    }

    /// Changes the Deployment's spec.
    pub fn change(&mut self, change: impl FnOnce(&mut Deployment)) {
        let version = self.next_version();
        let now = self.now;
        if let Some(deployment) = &mut self.deployment {
            change(deployment);
            deployment.version = version;
            deployment.generation += 1;
            deployment.progressed = now;
            deployment.deadline_exceeded = false;
        }
    }

    /// Somebody applies another template. Returns its digest.
    pub fn roll_out(&mut self, template: Template) -> String {
        let template = self.new_template(template);
        let applied = template.clone();
        self.change(|deployment| deployment.template = applied);
        template
    }

    /// `kubectl rollout undo`.
    pub fn undo(&mut self) {
        let Some(deployment) = &self.deployment else { return };
        let (template, restarted) = (deployment.template.clone(), deployment.restarted.clone());
        let others = self.sets.iter().filter(|set| set.template != template || set.restarted != restarted);
        if let Some(before) = others.max_by_key(|set| set.number).cloned() {
            self.change(|deployment| {
                deployment.template = before.template;
                deployment.restarted = before.restarted;
            });
        }
    }

    /// `kubectl rollout restart`.
    pub fn restart(&mut self) {
        let restarted = format!("by a person at {}", self.now);
        self.change(|deployment| deployment.restarted = restarted);
    }

    /// From now on, what runs out of memory needs so many MiB.
    pub fn outgrow(&mut self, mebibytes: i64) {
        for (_, kind) in &mut self.templates {
            if let Template::NeedsMemory { needs, .. } = kind {
                *needs = mebibytes;
            }
        }
    }

    /// MCP hangs on one of the pods, from now on.
    pub fn wedge_a_pod(&mut self) {
        let pod = self.pods.iter().find(|pod| pod.ready && pod.going.is_none());
        self.wedged.extend(pod.map(|pod| (pod.name.clone(), self.now)));
    }

    /// The circuit of one of the pods opens, and stays so.
    pub fn open_a_circuit(&mut self) {
        let pod = self.pods.iter().rev().find(|pod| pod.ready && pod.going.is_none());
        self.circuits_open.extend(pod.map(|pod| (pod.name.clone(), self.now)));
    }

    /// A pod leaves so many transactions alone.
    pub fn leak(&mut self, sessions: usize) {
        let pod = self.pods.iter().find(|pod| pod.ready && pod.going.is_none()).map(Pod::address);
        if let Some((postgres, pod)) = self.postgres.as_mut().zip(pod) {
            postgres.leak(sessions, pod);
        }
    }

    /// From now on there are these nodes; new pods are placed on them in turn.
    pub fn add_nodes(&mut self, names: &[&'static str]) {
        self.nodes.extend(names.iter().map(|name| (*name, (self.now, true))));
    }

    /// The kubelet of a node halts, and the control plane marks the node and its pods.
    pub fn fail_node(&mut self, name: &'static str) {
        self.nodes.insert(name, (self.now, false));
        let now = self.now;
        self.pods.iter_mut().filter(|pod| pod.node == Some(name)).for_each(|pod| pod.set_ready(false, now));
    }

    /// The kubelet of a node is back.
    pub fn recover_node(&mut self, name: &'static str) {
        self.nodes.insert(name, (self.now, true));
    }

    fn is_on_failing_node(&self, pod: &Pod) -> bool {
        pod.node.and_then(|name| self.nodes.get(name)).is_some_and(|(_, ready)| !ready)
    }

    /// One of the pods loses its readiness for good.
    pub fn break_a_pod(&mut self) -> String {
        let mut ready = self.pods.iter().filter(|pod| pod.ready && pod.going.is_none());
        let pod = ready.find(|pod| !self.broken.contains(&pod.name)).unwrap();
        self.broken.push(pod.name.clone());
        pod.name.clone()
    }

    /// `kubectl delete pod`.
    pub fn kill_a_pod(&mut self) {
        let now = self.now;
        if let Some(pod) = self.pods.iter_mut().find(|pod| pod.going.is_none()) {
            pod.going = Some(now + 2);
        }
    }

    /// Somebody puts this into the ConfigMap, or creates it.
    pub fn configure(&mut self, content: &str) {
        let (version, now) = (self.next_version(), self.now);
        let before = self.config.take();
        let fresh = || ConfigMap {
            uid: format!("config-{version}"),
            version,
            content: String::new(),
            changed: now,
            first_seen: now,
            immutable: false,
            gitops: None,
            shared_with: Vec::new(),
            unchecked: Vec::new(),
            mark: None,
        };
        let config = before.unwrap_or_else(fresh);
        let first_seen = if config.content == content { config.first_seen } else { now };
        let content = content.to_owned();
        self.config = Some(ConfigMap { version, content, changed: now, first_seen, ..config });
    }

    /// The same, as no manager's time tells of it: a key is removed that another manager had set.
    pub fn configure_untold(&mut self, content: &str) {
        let changed = self.config.as_ref().map(|config| config.changed);
        self.configure(content);
        if let Some((config, changed)) = self.config.as_mut().zip(changed) {
            config.changed = changed;
        }
    }

    // ---- what the operator does

    /// Makes a copy of what the ConfigMap holds; false where that is something else by now.
    pub fn keep(&mut self, copy: &str, content: &str) -> bool {
        let holds = self.config.as_ref().is_some_and(|config| config.content == content);
        if holds {
            self.copies.insert(copy.to_owned(), content.to_owned());
        }
        holds
    }

    /// Whether the ConfigMap bears the attempt's mark.
    pub fn config_bears_mark(&self, attempt: &Attempt) -> bool {
        self.config.as_ref().is_some_and(|config| config.mark.as_ref() == Some(&attempt.id))
    }

    /// Puts the content of a copy into the ConfigMap, with the fences that were recorded.
    fn restore(&mut self, attempt: &Attempt, step: &Step) -> Result<(), String> {
        let version = self.next_version();
        let (now, Some(config)) = (self.now, &mut self.config) else {
            return Err("the ConfigMap is gone".to_owned());
        };
        if config.uid != step.uid || Some(config.version.to_string()) != step.resource_version {
            return Err("the ConfigMap changed at the same moment".to_owned());
        }
        assert_eq!(step.from.as_ref(), Some(&config.content), "the same version is the same content");
        let copied = step.source.as_ref().and_then(|source| self.copies.get(source));
        let content = copied.filter(|content| step.to.as_ref() == Some(*content));
        let content = content.ok_or("the copy is gone, or another")?.clone();
        let before = std::mem::replace(&mut config.content, content.clone());
        self.copies.insert(copy_name(CONFIG_MAP, &before), before);
        (config.version, config.changed, config.mark) = (version, now, Some(attempt.id.clone()));
        config.first_seen = now;
        self.restored.push((attempt.id.clone(), content));
        Ok(())
    }

    /// One effect of an attempt, with its fences: the target's generation after it, or why it does not take place. Unless
    /// it is `fresh`, what bears the attempt's mark was done before.
    pub fn take(&mut self, attempt: &Attempt, step: &Step, fresh: bool) -> Result<i64, String> {
        match step.effect {
            Effect::EvictPod => self.evict(attempt, step)?,
            Effect::RestoreConfig if !fresh && self.config_bears_mark(attempt) => {}
            Effect::RestoreConfig => self.restore(attempt, step)?,
            Effect::HandBackOwnership => {}
            Effect::CallHook if step.state == StepState::Started => {
                self.note(attempt, step, step.to.clone().unwrap_or_default(), String::new());
            }
            Effect::ResetCircuit if step.state == StepState::Started => self.reset_circuit(attempt, step),
            Effect::EndSessions if step.state == StepState::Started => self.end_sessions(attempt, step),
            Effect::CallHook | Effect::ResetCircuit | Effect::EndSessions => {
                return Err("what leaves no trace is recorded before it is done".to_owned());
            }
            Effect::RunJob => self.run_job(attempt, step),
            _ if !fresh && self.bears_mark(attempt) => {}
            _ => self.patch(attempt, step)?,
        }
        Ok(self.deployment.as_ref().map_or(0, |deployment| deployment.generation))
    }

    pub fn bears_mark(&self, attempt: &Attempt) -> bool {
        self.deployment.as_ref().is_some_and(|deployment| deployment.mark.as_ref() == Some(&attempt.id))
    }

    /// How many steps of an attempt at an eviction took place though none is noted: the mark is there, and the pod is
    /// gone.
    pub fn has_evicted(&self, attempt: &Attempt) -> usize {
        let left: Vec<_> = attempt.steps.iter().filter(|step| step.state != StepState::Done).collect();
        let Some(last) = left.last().filter(|step| step.effect == Effect::EvictPod) else { return 0 };
        let stays = self.pods.iter().any(|pod| pod.uid() == last.uid && pod.going.is_none());
        if stays || !self.bears_mark(attempt) { 0 } else { left.len() }
    }

    fn patch(&mut self, attempt: &Attempt, step: &Step) -> Result<(), String> {
        let Some(deployment) = self.deployment.clone() else {
            return Err("the Deployment is gone".to_owned());
        };
        let fenced = match &step.resource_version {
            Some(version) => deployment.version.to_string() == *version,
            None => step.from.as_ref().is_none_or(|from| *from == deployment.template),
        };
        if deployment.uid != step.uid || !fenced {
            return Err("the Deployment changed at the same moment".to_owned());
        }
        let before = deployment.template.clone();
        let mut changed = deployment;
        match step.effect {
            Effect::PatchTemplate => {
                let found = self.sets.iter().find(|set| Some(&set.name) == step.source.as_ref());
                let Some(set) = found.filter(|set| Some(&set.template) == step.to.as_ref()) else {
                    return Err("the ReplicaSet is gone, or holds another template".to_owned());
                };
                changed.template.clone_from(&set.template);
                changed.restarted.clone_from(&set.restarted);
                self.note(attempt, step, before, set.template.clone());
            }
            Effect::EditTemplate => {
                changed.template = self.edited(&before, step);
                self.note(attempt, step, before, changed.template.clone());
            }
            Effect::RestartPods => {
                changed.restarted = step.to.clone().unwrap_or_default();
                self.note(attempt, step, before.clone(), before);
            }
            Effect::SetReplicas => {
                let replicas = step.to.clone().unwrap_or_default();
                self.note(attempt, step, changed.desired.to_string(), replicas.clone());
                changed.desired = replicas.parse().map_err(|_| "no number of replicas")?;
            }
            Effect::MarkTarget => {}
            _ => return Err("it cannot come first".to_owned()),
        }
        changed.mark = Some(attempt.id.clone());
        changed.actions = remembered(&changed.actions, attempt);
        if step.effect == Effect::MarkTarget {
            // An annotation counts as a change.
            changed.version = self.next_version();
            changed.generation += 1;
            self.deployment = Some(changed);
        } else {
            self.change(|deployment| {
                let (version, generation) = (deployment.version, deployment.generation);
                *deployment = Deployment { version, generation, ..changed };
            });
        }
        Ok(())
    }

    fn evict(&mut self, attempt: &Attempt, step: &Step) -> Result<(), String> {
        let found = self.pods.iter().position(|pod| pod.uid() == step.uid && pod.going.is_none());
        let Some(at) = found else { return Ok(()) };
        if self.evictions_refused {
            return Err("the disruption budget needs all pods".to_owned());
        }
        self.pods[at].going = Some(self.now + 2);
        self.note(attempt, step, self.pods[at].name.clone(), String::new());
        Ok(())
    }

    /// What the ready pods answer to a hook.
    pub fn answers(&self) -> Answers {
        let all = self.pods.iter().filter(|pod| pod.ready && pod.going.is_none()).count();
        Answers { well: if self.hooks_fail { 0 } else { all }, all }
    }

    fn reset_circuit(&mut self, attempt: &Attempt, step: &Step) {
        let pod = self.pods.iter().find(|pod| pod.uid() == step.uid).map(|pod| pod.name.clone());
        if !self.circuits_stick {
            self.circuits_open.retain(|(name, _)| Some(name) != pod.as_ref());
        }
        self.note(attempt, step, pod.unwrap_or_default(), String::new());
    }

    fn end_sessions(&mut self, attempt: &Attempt, step: &Step) {
        let fence = step.sessions.clone().unwrap();
        let ended = self.postgres.as_mut().map(|postgres| postgres.end(&fence)).unwrap_or_default();
        self.note(attempt, step, ended.join(" "), String::new());
    }

    /// A Job of that name is made once.
    fn run_job(&mut self, attempt: &Attempt, step: &Step) {
        let name = job_name(attempt);
        if self.jobs.iter().all(|(known, _)| *known != name) {
            self.jobs.push((name.clone(), self.now));
            self.note(attempt, step, name, String::new());
        }
    }

    fn note(&mut self, attempt: &Attempt, step: &Step, before: String, after: String) {
        self.done.push(Done {
            step: attempt.steps.iter().position(|one| std::ptr::eq(one, step)).unwrap(),
            effect: step.effect,
            attempt: attempt.id.clone(),
            undoes: attempt.undoes.clone(),
            at: self.now,
            uid: self.deployment.as_ref().map_or_else(String::new, |deployment| deployment.uid.clone()),
            before,
            after,
        });
    }

    /// The template with the edits of a step: the same edits make the same template.
    fn edited(&mut self, template: &str, step: &Step) -> String {
        let mut kind = self.behaviour(template);
        let mut words = template.to_owned();
        for edit in &step.edits {
            kind = kind.edited(&edit.field, &edit.to);
            words.extend([" ", &edit.field, "=", &edit.to]);
        }
        let name = digest::short(words.as_bytes(), 10);
        if !self.templates.iter().any(|(known, _)| *known == name) {
            self.templates.push((name.clone(), kind));
        }
        name
    }

    // ---- what Kubernetes does

    /// Lets so many seconds pass, and the controllers and the kubelet do one round of work.
    pub fn tick(&mut self, seconds: i64) {
        self.now += seconds;
        self.kubelet();
        self.control();
        self.replicate();
        self.count();
        self.measure();
        self.ask_the_queue();
        let pods = self.pods.iter().filter(|pod| pod.ready && pod.going.is_none());
        let pods: Vec<_> = pods.map(Pod::address).collect();
        if let Some(postgres) = &mut self.postgres {
            postgres.tick(self.now, &pods);
        }
    }

    /// What the operator's poller does.
    fn ask_the_queue(&mut self) {
        let last = self.queue_asked.last().map(|(at, _)| *at).unwrap_or_default();
        let mut due: Vec<i64> = (last + 1..=self.now).filter(|at| at % self.queue_interval == 0).collect();
        let last = due.last().copied().unwrap_or(last);
        due.extend((self.queue_is_urgent && self.now - last >= 5).then_some(self.now));
        for at in due {
            let answers = self.unanswered.is_none_or(|since| at < since);
            let had_failed = self.queue_asked.last().is_some_and(|(_, answered)| !answered);
            self.queue_answers_since = answers.then(|| self.queue_answers_since.unwrap_or((at, had_failed)));
            self.queue_asked.push((at, answers));
        }
        let surplus = self.queue_asked.len().saturating_sub(5);
        self.queue_asked.drain(..surplus);
    }

    /// What metrics-server does.
    fn measure(&mut self) {
        let Some(known) = self.usage.take() else { return };
        let at = self.now - self.now % RESOLUTION;
        let ready = self.pods.iter().filter(|pod| pod.ready).count().max(1);
        let share = (self.demand / i64::try_from(ready).unwrap()).min(CPU_LIMIT);
        let measured = self.pods.iter().filter(|pod| pod.ready && pod.going.is_none()).map(|pod| {
            let leak = self.leaks.iter().find(|(name, _)| *name == pod.name);
            let leaked = leak.map_or(0, |(_, since)| (at - since).max(0) * LEAK);
            let sample =
                Sample { at: super::moment(at), cpu: share, memory: ((40 << 20) + leaked).min(MEMORY_LIMIT) };
            let before = known.iter().find(|one| one.pod == pod.name);
            let mut samples = before.map(|before| before.samples.clone()).unwrap_or_default();
            usage::remember(&mut samples, sample);
            Usage { pod: pod.name.clone(), container: "server".to_owned(), samples }
        });
        self.usage = Some(measured.collect());
    }

    fn kubelet(&mut self) {
        let now = self.now;
        let gone = |pod: &Pod| {
            !self.stuck && pod.going.is_some_and(|gone| gone <= now) && !self.is_on_failing_node(pod)
        };
        let left = self.pods.iter().filter(|pod| !gone(pod)).cloned().collect();
        self.pods = left;
        self.place();
        let (full, down, unready, starts_as) =
            (self.full, self.dependency_down, self.unready, self.starts_as);
        for at in 0..self.pods.len() {
            if self.is_on_failing_node(&self.pods[at]) {
                continue;
            }
            let kind = self.behaviour(&self.pods[at].template);
            let content = self.config.as_ref().map(|config| config.content.clone());
            let (busy, broken) = (self.busy_node, self.broken.contains(&self.pods[at].name));
            let evicts = self.evicts_after;
            let pod = &mut self.pods[at];
            if pod.failure.is_some() || (pod.started.is_none() && now < pod.created + busy + kind.pause()) {
                continue;
            }
            if kind == Template::Rejected {
                pod.failure =
                    Some(("SysctlForbidden", "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowlisted"));
                continue;
            }
            if broken && pod.started.is_some() {
                pod.set_ready(false, now);
                continue;
            }
            if evicts.is_some_and(|after| pod.started.is_some_and(|started| now - started >= after)) {
                pod.set_ready(false, now);
                pod.failure = Some(("Evicted", "The node was low on resource: ephemeral-storage."));
                continue;
            }
            if pod.going.is_none() && kind != Template::NoImage && (pod.started.is_some() || !full) {
                if pod.started.is_none() || pod.back_at.is_some_and(|at| at <= now) {
                    pod.read = content;
                }
                let ends = down || pod.read.as_deref() == Some(BAD);
                let kind = if unready { Template::NeverReady } else { kind };
                let kind = starts_as.filter(|_| !pod.ready).unwrap_or(kind);
                pod.run(if ends { Template::CrashesAtOnce } else { kind }, now);
            }
        }
    }

    /// What the scheduler does: each pod goes where the fewest are.
    fn place(&mut self) {
        for at in 0..self.pods.len() {
            let on = |name: &str| self.pods.iter().filter(|pod| pod.node == Some(name)).count();
            let ready = self.nodes.iter().filter(|(_, (_, ready))| *ready).map(|(name, _)| *name);
            if self.pods[at].node.is_none() {
                self.pods[at].node = ready.min_by_key(|name| on(name));
            }
        }
    }

    fn is_current(deployment: &Deployment, set: &Set) -> bool {
        set.template == deployment.template && set.restarted == deployment.restarted
    }

    fn control(&mut self) {
        let Some(mut deployment) = self.deployment.clone() else { return };
        if deployment.observed != deployment.generation {
            deployment.observed = deployment.generation;
            deployment.version = self.next_version();
        }
        if !deployment.paused {
            let newest = self.sets.iter().map(|set| set.number).max().unwrap_or_default();
            if let Some(set) = self.sets.iter_mut().find(|set| Self::is_current(&deployment, set)) {
                if set.number != newest {
                    set.number = newest + 1;
                }
            } else {
                let serial = self.next();
                self.sets.push(Set {
                    name: format!("mcp-server-{serial}"),
                    uid: format!("set-{serial}"),
                    template: deployment.template.clone(),
                    restarted: deployment.restarted.clone(),
                    number: newest + 1,
                    replicas: 0,
                });
            }
            if deployment.recreate { self.recreate(&deployment) } else { self.roll(&deployment) }
        }
        self.deployment = Some(deployment);
    }

    fn ready_of(&self, set: &str) -> i32 {
        let ready = self.pods.iter().filter(|pod| pod.set == set && pod.ready && pod.going.is_none());
        i32::try_from(ready.count()).unwrap()
    }

    fn recreate(&mut self, deployment: &Deployment) {
        let mut old_pods = false;
        for set in self.sets.iter_mut().filter(|set| !Self::is_current(deployment, set)) {
            set.replicas = 0;
            old_pods |= self.pods.iter().any(|pod| pod.set == set.uid);
        }
        if let Some(set) = self.sets.iter_mut().find(|set| Self::is_current(deployment, set))
            && !old_pods
        {
            set.replicas = deployment.desired;
        }
    }

    /// RollingUpdate with 25 % more and 25 % fewer pods than wanted.
    fn roll(&mut self, deployment: &Deployment) {
        let desired = deployment.desired;
        let (surge, fewer) = ((desired + 3) / 4, desired / 4);
        let total: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let Some(new) = self.sets.iter().position(|set| Self::is_current(deployment, set)) else { return };
        let more = (desired + surge - total).max(0);
        self.sets[new].replicas = (self.sets[new].replicas + more).min(desired);
        let total: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let new_unready = self.sets[new].replicas - self.ready_of(&self.sets[new].uid);
        let mut may_go = total - (desired - fewer) - new_unready;
        for at in (0..self.sets.len()).filter(|at| *at != new) {
            let unready = self.sets[at].replicas - self.ready_of(&self.sets[at].uid);
            let go = unready.min(may_go).max(0);
            self.sets[at].replicas -= go;
            may_go -= go;
        }
        let ready: i32 = self.sets.iter().map(|set| self.ready_of(&set.uid).min(set.replicas)).sum();
        let mut may_go = may_go.min(ready - (desired - fewer));
        for at in (0..self.sets.len()).filter(|at| *at != new) {
            let go = self.sets[at].replicas.min(may_go).max(0);
            self.sets[at].replicas -= go;
            may_go -= go;
        }
    }

    fn replicate(&mut self) {
        let now = self.now;
        let mut refused = false;
        for set in self.sets.clone() {
            let mut live: Vec<usize> = (0..self.pods.len())
                .filter(|at| self.pods[*at].set == set.uid && self.pods[*at].is_live())
                .collect();
            let wanted = usize::try_from(set.replicas).unwrap_or_default();
            for _ in live.len()..wanted {
                let refuses = self
                    .refuses
                    .as_ref()
                    .is_some_and(|(_, only)| only.as_ref().is_none_or(|template| *template == set.template));
                if self.quota || refuses {
                    refused = true;
                    break;
                }
                let serial = self.next();
                self.pods.push(Pod {
                    name: format!("{}-{serial}", set.name),
                    set: set.uid.clone(),
                    template: set.template.clone(),
                    created: now,
                    started: None,
                    back_at: None,
                    ready: false,
                    ready_changed: now,
                    was_ready: false,
                    going: None,
                    restarts: 0,
                    exits: Vec::new(),
                    ran: 0,
                    read: None,
                    node: None,
                    first_started: None,
                    became_ready: None,
                    failure: None,
                });
            }
            live.sort_by_key(|at| (self.pods[*at].ready, -self.pods[*at].created));
            for at in live.iter().take(live.len().saturating_sub(wanted)) {
                self.pods[*at].going = Some(now + self.grace);
            }
        }
        let version = self.next_version();
        if let Some(deployment) = &mut self.deployment {
            let hit = if refused { deployment.quota_hit.or(Some(now)) } else { None };
            if hit != deployment.quota_hit {
                deployment.quota_hit = hit;
                deployment.version = version;
            }
        }
    }

    fn count(&mut self) {
        let Some(mut deployment) = self.deployment.clone() else { return };
        let before = (deployment.counts, deployment.deadline_exceeded);
        let current =
            self.sets.iter().find(|set| Self::is_current(&deployment, set)).map(|set| set.uid.clone());
        let mut counts = Counts::default();
        for pod in self.pods.iter().filter(|pod| pod.is_live()) {
            let updated = Some(&pod.set) == current.as_ref();
            counts.replicas += 1;
            counts.ready += i32::from(pod.ready);
            counts.updated += i32::from(updated);
            counts.updated_ready += i32::from(updated && pod.ready);
        }
        if counts != deployment.counts {
            deployment.progressed = self.now;
        }
        deployment.counts = counts;
        let complete = counts.updated_ready >= deployment.desired && counts.replicas == counts.updated;
        let rollout = (deployment.template.clone(), deployment.restarted.clone());
        if complete {
            deployment.completed = Some(rollout.clone());
        }
        let completed = deployment.completed.as_ref() == Some(&rollout);
        deployment.deadline_exceeded =
            !completed && !deployment.paused && self.now - deployment.progressed > deployment.deadline;
        if before != (deployment.counts, deployment.deadline_exceeded) {
            deployment.version = self.next_version();
        }
        self.deployment = Some(deployment);
    }
}

impl Pod {
    fn run(&mut self, kind: Template, now: i64) {
        if self.back_at.is_some_and(|at| at <= now) {
            self.back_at = None;
            self.started = Some(now);
            self.restarts += 1;
        }
        if self.back_at.is_some() {
            return;
        }
        let started = *self.started.get_or_insert(now);
        self.first_started.get_or_insert(started);
        let (ready_after, ends_after) = match kind {
            Template::ReadyAfter(seconds) => (seconds, i64::MAX),
            Template::NeverReady | Template::NoImage | Template::GateUnset | Template::Rejected => {
                (i64::MAX, i64::MAX)
            }
            Template::CrashesAtOnce | Template::NeedsVariable { set: false } => (i64::MAX, 1),
            Template::CrashesAfter(seconds) => (2, seconds),
            Template::NeedsMemory { needs, limit, after } if needs > limit => (2, after),
            Template::NeedsTime { needs, threshold } if needs > threshold => (i64::MAX, threshold),
            Template::NeedsTime { needs, .. } => (needs, i64::MAX),
            Template::Good
            | Template::InitTakes(_)
            | Template::PullTakes(_)
            | Template::Fails(_)
            | Template::NeedsMemory { .. }
            | Template::NeedsVariable { .. } => (2, i64::MAX),
        };
        let up = now - started;
        if up >= ends_after {
            self.exits.push(now);
            self.ran = up;
            self.set_ready(false, now);
            let pause = match self.exits.len() {
                1 => 1,
                many => (10 << (many - 2).min(5)).min(300),
            };
            self.back_at = Some(now + pause);
        } else {
            self.set_ready(up >= ready_after, now);
        }
    }

    fn set_ready(&mut self, ready: bool, now: i64) {
        if self.ready != ready {
            self.ready = ready;
            self.was_ready |= ready;
            self.ready_changed = now;
            if ready {
                self.became_ready.get_or_insert(now);
            }
        }
    }

    /// Whether its ReplicaSet counts it.
    pub fn is_live(&self) -> bool {
        self.going.is_none() && self.failure.is_none()
    }

    pub fn uid(&self) -> String {
        format!("uid-of-{}", self.name)
    }

    /// Each has its own.
    pub fn address(&self) -> IpAddr {
        let number: u16 = self.name.rsplit('-').next().unwrap().parse().unwrap();
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 1, high, low])
    }

    /// Whether the kubelet says `CrashLoopBackOff`.
    pub fn is_backing_off(&self) -> bool {
        self.back_at.is_some() && self.exits.len() >= 2
    }
}
