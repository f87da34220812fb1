//! The server behind the signals: its revision in force, its pods by revision, what is ready.
//! Exists only where all that it is made of is fresh.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Effect, HealthyConfig, HealthyRevision, Incident, IncidentType, McpServerHealthSpec};

use crate::{
    Case, dependencies,
    lost::{LostPod, lost},
    mask::mask,
    service_ports::PodPorts,
    signals::{AnswersSince, Config, ContainerSpec, Pod, ProbeKind, Revision, Target},
    words,
};

/// A pod whose container ended within this time is not proof that its template is sound.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// The target, its revisions and its pods, all fresh.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    /// The Deployment.
    pub target: &'a Target,
    /// Its ReplicaSets.
    pub revisions: &'a [Revision],
    /// The pods that count: neither on their way out nor over, nor lost with their node.
    pub pods: Vec<&'a Pod>,
    /// The pods that lost their readiness because of their node, those that are being deleted included.
    pub lost: Vec<LostPod<'a>>,
    /// Digest of the template whose pods are judged: the target's own. Of a paused Deployment with a pending
    /// change, it is the one of the ReplicaSet that has the pods.
    pub template: &'a str,
    /// The pods that are being deleted, or failed or succeeded as a whole.
    pub uncounted: Vec<&'a Pod>,
    /// The ConfigMaps that its template names; none where they are not watched.
    pub configs: &'a [Config],
    /// The moment.
    pub now: Timestamp,
    /// Which container is the server's own, by the object's word.
    container: Option<&'a str>,
    /// The template to go back to; only if it belongs to this very Deployment.
    pub last_healthy: Option<&'a HealthyRevision>,
    /// The template in force, and those that the operator has made it from by edits of its own; the newest
    /// first.
    lineage: Vec<&'a str>,
    /// Since when pods fail, by the open incidents.
    pub(crate) failing_since: Vec<Timestamp>,
    /// By the status, a pod of the template in force has been Ready.
    pub(crate) was_ready_before: bool,
    /// Since when all that it depends on answers; before that it is not known, or one of them did not.
    pub(crate) dependencies_answer: Option<AnswersSince>,
}

impl<'a> Server<'a> {
    /// The server, if the Deployment exists and all that is needed is fresh.
    pub fn of(case: &Case<'a>) -> Option<Self> {
        let target = case.signals.target.fresh()?.as_ref()?;
        let revisions = case.signals.revisions.fresh()?;
        let pods = case.signals.pods.fresh()?;
        let lost: Vec<LostPod> =
            pods.iter().filter_map(|pod| lost(pod, &case.signals.nodes, case.now)).collect();
        let is_lost = |pod: &Pod| lost.iter().any(|one| std::ptr::eq(one.pod, pod));
        let remembered = case.status.target.as_ref().filter(|remembered| remembered.uid == target.uid);
        let (counted, uncounted): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| pod.counts());
        let template = template_of_pods(target, revisions, &counted);
        Some(Self {
            target,
            revisions,
            template,
            pods: counted.into_iter().filter(|pod| !is_lost(pod)).collect(),
            uncounted,
            lost,
            configs: case.signals.configs.fresh().map(Vec::as_slice).unwrap_or_default(),
            now: case.now,
            container: case.spec.container.as_deref(),
            last_healthy: remembered.and_then(|remembered| remembered.last_healthy.as_ref()),
            lineage: lineage(template, &case.status.incidents),
            was_ready_before: remembered
                .is_some_and(|known| known.became_ready && known.template == template),
            failing_since: failing_since(&case.status.incidents),
            dependencies_answer: dependencies::answer_since(case),
        })
    }

    /// The same server with the pods that were lost among those that count, as their kubelets reported them
    /// last.
    pub(crate) fn with_lost_pods(&self) -> Self {
        let lost = self.lost.iter().map(|one| one.pod).filter(|pod| pod.counts());
        let pods = self.pods.iter().copied().chain(lost).collect();
        Self { pods, lost: Vec::new(), ..self.clone() }
    }

    /// The same server without one of its pods.
    pub(crate) fn without(&self, pod: &Pod) -> Self {
        let pods = self.pods.iter().copied().filter(|one| one.name != pod.name).collect();
        Self { pods, ..self.clone() }
    }

    /// The template is in force, as it is or with edits of the operator's own on top.
    pub fn is_in_force(&self, template: &str) -> bool {
        self.lineage.contains(&template)
    }

    /// The ReplicaSet of the template in force: of several with one digest (a restart makes them), the
    /// newest.
    pub fn current(&self) -> Option<&'a Revision> {
        self.revisions
            .iter()
            .filter(|revision| revision.template == self.template)
            .max_by_key(|revision| revision.number)
    }

    /// The pods of a ReplicaSet.
    pub fn pods_of(&self, revision: &Revision) -> impl Iterator<Item = &'a Pod> + use<'a, '_> {
        let uid = revision.uid.clone();
        self.pods.iter().copied().filter(move |pod| pod.revision == uid)
    }

    /// The pods of the template in force.
    pub fn current_pods(&self) -> Vec<&'a Pod> {
        self.current().map(|revision| self.pods_of(revision).collect()).unwrap_or_default()
    }

    /// The pods that are ready, of any revision.
    pub fn ready(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready).count()
    }

    /// Ready pods as the status keeps them.
    pub fn ready_replicas(&self) -> i32 {
        i32::try_from(self.ready()).unwrap_or(i32::MAX)
    }

    /// No pod is wanted.
    pub fn is_scaled_to_zero(&self) -> bool {
        self.target.desired == 0
    }

    /// Pods of another template are still there, or pods of the one in force are not made yet.
    pub fn is_rolling_out(&self) -> bool {
        let target = self.target;
        if self.has_pending_change() {
            // The Deployment counts no pod as updated until it is resumed.
            let pods = self.current_pods().len();
            return usize::try_from(target.desired).is_ok_and(|desired| pods < desired)
                || self.pods.len() > pods;
        }
        target.observed_generation < target.generation
            || target.updated < target.desired
            || target.replicas > target.updated
    }

    /// The Deployment is paused, and its pods are of another template than its own.
    pub fn has_pending_change(&self) -> bool {
        self.template != self.target.template
    }

    /// Every wanted pod is of the template in force, and ready.
    pub fn is_rolled_out(&self) -> bool {
        let ready = self.current_pods().iter().filter(|pod| pod.ready).count();
        !self.is_rolling_out() && usize::try_from(self.target.desired).is_ok_and(|desired| ready >= desired)
    }

    /// Since when the last of the pods in force is ready.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.current_pods().iter().filter(|pod| pod.ready).map(|pod| pod.ready_changed).max()
    }

    /// The template in force is the one that was seen healthy last; what the operator has edited of it since
    /// is nobody's rollout.
    pub fn template_was_healthy(&self) -> bool {
        self.last_healthy.is_some_and(|healthy| self.is_in_force(&healthy.template))
    }

    /// Another revision whose pods are all ready: during a stuck rollout, the old one still serves. With the
    /// moment since when.
    pub fn serving_beside(&self) -> Option<(&'a Revision, Timestamp)> {
        self.revisions
            .iter()
            .filter(|revision| revision.template != self.template && revision.replicas > 0)
            .filter_map(|revision| {
                let pods: Vec<_> = self.pods_of(revision).collect();
                let sound = !pods.is_empty()
                    && pods.iter().all(|pod| pod.ready && !pod.ended_within(RECENT, self.now));
                let since = pods.iter().map(|pod| pod.ready_changed).max()?;
                sound.then_some((revision, since))
            })
            .max_by_key(|(revision, _)| revision.number)
    }

    /// The template that was seen healthy before, where its pods end now too: the rollout is not why.
    pub fn healthy_ends_too(&self) -> Option<&'a HealthyRevision> {
        let healthy = self.last_healthy.filter(|healthy| healthy.template != self.template)?;
        let revisions = self.revisions.iter().filter(|revision| revision.template == healthy.template);
        let mut pods = revisions.flat_map(|revision| self.pods_of(revision));
        pods.any(|pod| !pod.ready && pod.ended_within(RECENT, self.now)).then_some(healthy)
    }

    /// The template that was seen healthy before, where pods of it are still there and none of them is ready:
    /// what keeps the new pods from working may keep these, too.
    pub fn healthy_is_unready(&self) -> Option<&'a HealthyRevision> {
        let healthy = self.last_healthy.filter(|healthy| healthy.template != self.template)?;
        let revisions = self.revisions.iter().filter(|revision| revision.template == healthy.template);
        let pods: Vec<_> = revisions.flat_map(|revision| self.pods_of(revision)).collect();
        (!pods.is_empty() && pods.iter().all(|pod| !pod.ready)).then_some(healthy)
    }

    /// The container that is the server itself: the one that the object names; else the first with a port;
    /// else the first.
    pub fn container(&self) -> Option<&'a ContainerSpec> {
        self.target.container(self.container)
    }

    /// The ports of its pods; none where it is not known on which MCP is asked.
    pub fn pod_ports(&self, spec: &McpServerHealthSpec) -> Option<PodPorts<'a>> {
        let own = self.container()?;
        let asked = spec.signals.mcp.as_ref().and_then(|mcp| mcp.port).or_else(|| own.port())?;
        Some(PodPorts { containers: &self.target.containers, own, asked })
    }

    /// The port that the server declares first.
    pub fn port(&self) -> Option<u16> {
        self.container()?.port()
    }

    /// The time within which the server's readinessProbe sees that something it asks for is gone.
    pub fn notices_within(&self) -> SignedDuration {
        let probes = self.container().into_iter().flat_map(|own| &own.probes);
        let seconds = probes
            .filter(|probe| probe.kind == ProbeKind::Readiness)
            .map(|probe| probe.period.saturating_mul(probe.failures.saturating_add(1)))
            .max();
        SignedDuration::from_secs(seconds.unwrap_or_default().clamp(0, 60))
    }

    /// A ConfigMap whose content is another than the one that the healthy template ran with.
    pub fn changed_config(&self) -> Option<(&'a Config, &'a HealthyConfig)> {
        let healthy = self.last_healthy.filter(|healthy| healthy.template == self.template)?;
        let known = |config: &&'a Config| healthy.config.iter().find(|one| one.name == config.name);
        self.configs
            .iter()
            .filter_map(|config| Some((config, known(&config)?)))
            .filter(|(config, known)| config.content != known.content)
            .max_by_key(|(config, _)| config.changed)
    }

    /// `revision 3 (template 9f31c2…)`, for sentences.
    pub fn current_words(&self) -> String {
        match self.current().and_then(|revision| revision.number) {
            Some(number) => format!("revision {number} (template {})", self.template),
            None => format!("template {}", self.template),
        }
    }
}

/// Whether an open incident of this type tells since when pods fail.
const fn tells_since(incident: IncidentType) -> bool {
    matches!(
        incident,
        IncidentType::CrashLoop
            | IncidentType::OutOfMemory
            | IncidentType::RolloutStuck
            | IncidentType::ServiceNotResponding
    )
}

/// Since when pods fail, by the open incidents.
fn failing_since(incidents: &[Incident]) -> Vec<Timestamp> {
    incidents.iter().filter(|one| tells_since(one.incident_type)).map(|one| one.since.0).collect()
}

/// The template whose pods are judged. A paused Deployment makes no pod of a changed template.
fn template_of_pods<'a>(target: &'a Target, revisions: &'a [Revision], pods: &[&Pod]) -> &'a str {
    let has_pods = |revision: &&Revision| pods.iter().any(|pod| pod.revision == revision.uid);
    let mut with_pods = revisions.iter().filter(|revision| revision.replicas > 0 || has_pods(revision));
    if !target.paused || with_pods.any(|revision| revision.template == target.template) {
        return &target.template;
    }
    let with_pods = revisions.iter().filter(|revision| revision.replicas > 0);
    with_pods.max_by_key(|revision| revision.number).map_or(&target.template, |revision| &revision.template)
}

/// The template, and those before it that the operator has edited, by what its attempts tell.
fn lineage<'a>(template: &'a str, incidents: &'a [Incident]) -> Vec<&'a str> {
    let steps = incidents.iter().flat_map(|incident| &incident.attempts).flat_map(|attempt| &attempt.steps);
    let edits = steps.filter(|step| step.effect == Effect::EditTemplate);
    let edits: Vec<_> =
        edits.filter_map(|step| Some((step.template.as_deref()?, step.from.as_deref()?))).collect();
    let mut lineage = vec![template];
    while let Some((_, from)) = lineage
        .last()
        .and_then(|last| edits.iter().rev().find(|(to, from)| to == last && !lineage.contains(from)))
    {
        lineage.push(from);
    }
    lineage
}

impl Pod {
    /// How often its containers were started anew.
    pub fn restarts(&self) -> i32 {
        self.containers.iter().map(|container| container.restarts).sum()
    }

    /// One of its containers ended within `span`.
    pub fn ended_within(&self, span: SignedDuration, now: Timestamp) -> bool {
        let exits =
            self.containers.iter().filter(|one| one.restarts > 0).filter_map(|one| one.last_exit.as_ref());
        exits.map(|exit| exit.at).any(|at| now.duration_since(at) < span)
    }

    /// What the kubelet says last of why it does not run, or is not ready. What the scheduler says is a
    /// condition.
    pub fn trouble(&self) -> Option<String> {
        let (reason, message) = self.troubles.last().filter(|_| self.unschedulable.is_none())?;
        Some(format!("pod {}: {reason}: {}", self.name, words::shorten(&mask(message), 240)))
    }

    /// It is ready, and has been for `long`.
    pub fn is_ready_for(&self, long: SignedDuration, now: Timestamp) -> bool {
        self.ready && now.duration_since(self.ready_changed) >= long
    }
}
