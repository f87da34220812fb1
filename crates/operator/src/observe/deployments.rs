//! Deployments: the targets. A row holds what the rules ask of one, and the labels that Services select by.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus, DeploymentStrategy},
        core::v1::PodSpec,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::Resource;
use mcp_health_api::{ACTIONS_ANNOTATION, ATTEMPT_ANNOTATION};
use mcp_health_core::{
    digest, ownership,
    signals::{RecordedAction, Strategy, Target},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    pod_spec,
    services::namespace_group,
    table::{Concerns, Key, Row},
};

/// A Deployment as it comes over the wire: the template is hashed, and dropped.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Deployment)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: DeploymentSpec,
    /// What its controller says.
    #[serde(default)]
    pub status: DeploymentStatus,
}

/// The fields of a Deployment's spec that are looked at.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    replicas: Option<i32>,
    paused: bool,
    progress_deadline_seconds: Option<i32>,
    revision_history_limit: Option<i32>,
    min_ready_seconds: Option<i32>,
    strategy: DeploymentStrategy,
    /// The pod template.
    pub template: Value,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentRow {
    /// The group of all of its namespace.
    namespace: Key,
    /// What the core is given.
    pub target: Target,
    /// The labels of its pods.
    pub pod_labels: BTreeMap<String, String>,
    /// What its next patch must know.
    pub facts: Facts,
}

/// What a patch of a Deployment must know beside what is recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The past actions that it remembers.
    pub actions: Vec<RecordedAction>,
    /// It has annotations: a JSON patch cannot add to a map that is not there.
    pub has_annotations: bool,
    /// Its pod template has annotations.
    pub template_has_annotations: bool,
    /// Its resourceVersion.
    pub version: String,
    /// Digest of all that a decision rests on and its controller does not write: its generation, which stands
    /// for its spec, and its metadata.
    pub fence: String,
}

impl Facts {
    /// As the Deployment is.
    pub fn of(wire: &DeploymentWire) -> Self {
        let annotations = wire.metadata.annotations.as_ref().filter(|all| !all.is_empty());
        let actions = annotations.and_then(|all| all.get(ACTIONS_ANNOTATION));
        Self {
            actions: actions.map(|text| read_actions(text)).unwrap_or_default(),
            has_annotations: annotations.is_some(),
            template_has_annotations: wire
                .spec
                .template
                .pointer("/metadata/annotations")
                .is_some_and(Value::is_object),
            version: wire.metadata.resource_version.clone().unwrap_or_default(),
            fence: fence(&wire.metadata),
        }
    }
}

/// The Deployment controller's number for the revision in force.
const REVISION: &str = "deployment.kubernetes.io/revision";

fn fence(meta: &ObjectMeta) -> String {
    let annotations = meta.annotations.iter().flatten().filter(|(name, _)| *name != REVISION);
    let all = json!([
        meta.generation,
        meta.labels,
        annotations.collect::<Vec<_>>(),
        meta.owner_references,
        meta.finalizers,
        meta.deletion_timestamp,
    ]);
    digest::short(all.to_string().as_bytes(), 16)
}

impl Row for DeploymentRow {
    fn group(&self) -> Option<Key> {
        Some(self.namespace.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        // A new resourceVersion alone says nothing, but the next change must be fenced by it.
        let mut same = self.target.clone();
        same.resource_version.clone_from(&before.target.resource_version);
        let mut facts = self.facts.clone();
        facts.version.clone_from(&before.facts.version);
        facts.fence.clone_from(&before.facts.fence);
        same != before.target || self.pod_labels != before.pod_labels || facts != before.facts
    }

    fn concerns(&self, key: &Key) -> Concerns {
        Concerns::Target(key.clone())
    }
}

/// The row of a Deployment.
pub fn view(wire: &DeploymentWire) -> Option<(Key, DeploymentRow)> {
    let meta = &wire.metadata;
    let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
    let (spec, status) = (&wire.spec, &wire.status);
    let condition = |kind: &str, value: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .clone()
            .find(|one| one.type_.as_deref() == Some(kind) && one.status.as_deref() == Some(value))
    };
    let deadline = condition("Progressing", "False")
        .filter(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    let failure = condition("ReplicaFailure", "True");
    let pods: PodSpec = spec
        .template
        .pointer("/spec")
        .and_then(|pods| serde_json::from_value(pods.clone()).ok())
        .unwrap_or_default();
    let containers = pod_spec::containers(&pods);
    let facts = Facts::of(wire);
    let annotations = meta.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|all| all.get(name));
    let target = Target {
        uid: meta.uid.clone()?,
        resource_version: meta.resource_version.clone()?,
        generation: meta.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or_default(),
        template: digest::of_template(&spec.template),
        desired: spec.replicas.unwrap_or(1),
        strategy: match spec.strategy.type_.as_deref() {
            Some("Recreate") => Strategy::Recreate,
            _ => Strategy::RollingUpdate,
        },
        surge: surge(&spec.strategy, spec.replicas.unwrap_or(1)),
        replicas: status.replicas.unwrap_or_default(),
        updated: status.updated_replicas.unwrap_or_default(),
        ready: status.ready_replicas.unwrap_or_default(),
        paused: spec.paused,
        keeps_no_revision: spec.revision_history_limit == Some(0),
        deadline_exceeded: deadline.map(|condition| condition.message.clone().unwrap_or_default()),
        replica_failure: failure.and_then(|condition| {
            let since = condition.last_transition_time.as_ref()?.0;
            Some((condition.message.clone().unwrap_or_default(), since))
        }),
        progress_deadline: SignedDuration::from_secs(spec.progress_deadline_seconds.unwrap_or(600).into()),
        startup_budget: containers.iter().map(pod_spec::startup_budget).max().unwrap_or_default()
            + SignedDuration::from_secs(spec.min_ready_seconds.unwrap_or_default().into()),
        containers,
        config_maps: pod_spec::config_maps(&pods),
        secrets: pod_spec::secrets(&pods),
        claims: pod_spec::claims(&pods),
        replicas_owner: replicas_owner(meta),
        grace_period: SignedDuration::from_secs(pods.termination_grace_period_seconds.unwrap_or(30)),
        attempt: annotation(ATTEMPT_ANNOTATION).cloned(),
        actions: facts.actions.clone(),
        gitops: gitops_owner(meta),
    };
    let pod_labels = spec
        .template
        .pointer("/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    let namespace = namespace_group(&key.namespace);
    Some((key, DeploymentRow { namespace, target, pod_labels, facts }))
}

impl DeploymentRow {
    /// Whether its pods read a ConfigMap.
    pub fn reads(&self, config_map: &str) -> bool {
        self.target.config_maps.iter().any(|used| used.name == config_map)
    }
}

/// The pods that a rolling update makes beside those wanted: a number, or a percentage, rounded up; a quarter
/// by default.
fn surge(strategy: &DeploymentStrategy, desired: i32) -> i32 {
    if strategy.type_.as_deref() == Some("Recreate") {
        return 0;
    }
    let share = |percent: i32| desired.saturating_mul(percent).saturating_add(99) / 100;
    match strategy.rolling_update.as_ref().and_then(|update| update.max_surge.as_ref()) {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => share(text.trim_end_matches('%').parse().unwrap_or(25)),
        None => share(25),
    }
}

/// The actions that the target remembers. Whatever else stands there counts as none: each entry by itself.
fn read_actions(text: &str) -> Vec<RecordedAction> {
    let entries: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect()
}

/// Who owns its number of replicas, beside us.
fn replicas_owner(meta: &ObjectMeta) -> Option<String> {
    let entries = meta.managed_fields.iter().flatten();
    let fields: Vec<Value> = entries.filter_map(|entry| serde_json::to_value(entry).ok()).collect();
    ownership::replicas_owner(&fields).map(str::to_owned)
}

/// The GitOps tool that keeps this object as Git says, by the marks that it leaves.
pub(super) fn gitops_owner(meta: &ObjectMeta) -> Option<String> {
    const MARKS: &[(&str, &str)] = &[
        ("argocd.argoproj.io/tracking-id", "Argo CD"),
        ("argocd.argoproj.io/instance", "Argo CD"),
        ("kustomize.toolkit.fluxcd.io/name", "Flux (Kustomization)"),
        ("helm.toolkit.fluxcd.io/name", "Flux (HelmRelease)"),
        ("fleet.cattle.io/bundle-id", "Fleet"),
    ];
    const MANAGERS: &[(&str, &str)] =
        &[("argocd-controller", "Argo CD"), ("kustomize-controller", "Flux (Kustomization)")];
    let marks = || meta.labels.iter().chain(meta.annotations.iter()).flatten();
    // Flux leaves objects alone that carry this.
    if marks().any(|(name, value)| name == "kustomize.toolkit.fluxcd.io/reconcile" && value == "disabled") {
        return None;
    }
    let marked = marks().find_map(|(name, value)| {
        let (_, tool) = MARKS.iter().find(|(mark, _)| mark == name)?;
        Some(format!("{tool} ({name}: {value})"))
    });
    let managers = meta.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    let managing = || {
        managers.clone().find_map(|manager| {
            let (name, tool) = MANAGERS.iter().find(|(name, _)| *name == manager)?;
            Some(format!("{tool} (field manager {name})"))
        })
    };
    marked.or_else(managing)
}
