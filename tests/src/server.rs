//! A demo server in a story: its Deployment, its Service and its policy.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Resource,
    api::{ListParams, Patch, PatchParams},
    core::NamespaceResourceScope,
};
use mcp_health_api::{
    ACTIONS_ANNOTATION, ATTEMPT_ANNOTATION, ActionType, Cause, Incident, IncidentType, PastIncident,
};
use serde_json::{Value, json};

use crate::{environment, fault::Fault, forward::Forward, manifest, mcp, policy::Policy, until::until};

/// Applies the team's manifests, on the server's side and without force: a conflict fails the test.
const TEAM: &str = "team";

/// What a test wants otherwise in the Deployment's manifest.
type Change = Box<dyn FnOnce(&mut Value)>;

/// A server that is not there yet.
pub struct Planned {
    client: Client,
    namespace: String,
    name: String,
    replicas: i32,
    deployment: Vec<Change>,
    spec: Value,
    policy: bool,
}

impl Planned {
    /// One replica of `mcp-server`, in Enforce.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: "mcp-server".to_owned(),
            replicas: 1,
            deployment: Vec::new(),
            spec: json!({}),
            policy: true,
        }
    }

    /// Another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// More pods.
    #[must_use]
    pub fn replicas(mut self, replicas: i32) -> Self {
        self.replicas = replicas;
        self
    }

    /// All pods are replaced at once.
    #[must_use]
    pub fn recreate(self) -> Self {
        self.deployment(|deployment| deployment["spec"]["strategy"] = json!({"type": "Recreate"}))
    }

    /// Another Deployment.
    #[must_use]
    pub fn deployment(mut self, change: impl FnOnce(&mut Value) + 'static) -> Self {
        self.deployment.push(Box::new(change));
        self
    }

    /// More in the policy's spec: a merge.
    #[must_use]
    pub fn policy(mut self, spec: Value) -> Self {
        merge(&mut self.spec, spec);
        self
    }

    /// No policy yet.
    #[must_use]
    pub fn without_policy(mut self) -> Self {
        self.policy = false;
        self
    }

    /// The server, with nothing of it applied.
    pub fn planned(self) -> Server {
        let Self { client, namespace, name, replicas, deployment, spec, policy: _ } = self;
        let mut manifest = manifest::deployment(&namespace, &name, replicas);
        for change in deployment {
            change(&mut manifest);
        }
        let mut policy = manifest::policy(&namespace, &name);
        merge(&mut policy["spec"], spec);
        Server {
            policy: Policy::new(&client, &namespace, &name),
            client,
            namespace,
            name,
            manifest: RefCell::new(manifest),
            policy_manifest: policy,
            generations: Cell::new(0),
            template: RefCell::new(Value::Null),
        }
    }

    /// Another container than the demo server's, in its place.
    #[must_use]
    pub fn container(self, pod: Value) -> Self {
        self.deployment(move |deployment| merge(&mut deployment["spec"]["template"]["spec"], pod))
    }

    /// Applies it; waits for nothing.
    pub async fn applied(self) -> Server {
        let with_policy = self.policy;
        let server = self.planned();
        server.apply_service().await;
        server.apply().await;
        if with_policy {
            server.apply_policy().await;
        }
        server
    }

    /// Applies it, and waits until all its pods are ready; and, where it has a policy, until the operator has
    /// recorded its template as the one to go back to.
    pub async fn healthy(self) -> Server {
        let with_policy = self.policy;
        let server = self.applied().await;
        server.rolled_out().await;
        if with_policy {
            server.policy.healthy().await;
        }
        server.template.replace(server.live_template().await);
        server
    }
}

/// See the module.
pub struct Server {
    /// The client.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// The name of its Deployment, its Service and its policy.
    pub name: String,
    /// What its policy tells.
    pub policy: Policy,
    manifest: RefCell<Value>,
    policy_manifest: Value,
    /// How many changes of the Deployment's spec are known to be the test's own.
    generations: Cell<i64>,
    /// The template that was healthy.
    template: RefCell<Value>,
}

impl Server {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    // --- what its team does

    /// Applies the Deployment as the team's manifest says now. Counts as one change of its spec.
    pub async fn apply(&self) {
        let params = PatchParams::apply(TEAM);
        let manifest = self.manifest.borrow().clone();
        let applied = self.api::<Deployment>().patch(&self.name, &params, &Patch::Apply(manifest)).await;
        applied.unwrap_or_else(|error| panic!("the team cannot apply Deployment {}: {error}", self.name));
        self.changed_by_the_test();
    }

    /// Creates the Service.
    pub async fn apply_service(&self) {
        let service = manifest::service(&self.namespace, &self.name);
        let api: Api<k8s_openapi::api::core::v1::Service> = self.api();
        let applied = api.patch(&self.name, &PatchParams::apply(TEAM), &Patch::Apply(service)).await;
        applied.expect("the Service can be applied");
    }

    /// Creates the policy.
    pub async fn apply_policy(&self) {
        self.policy.apply(&self.policy_manifest).await;
    }

    /// Rolls a revision out; waits for nothing.
    pub async fn roll_out(&self, fault: Fault) {
        fault.put_into(&mut self.manifest.borrow_mut(), &environment::demo_image());
        self.apply().await;
    }

    /// The team's manifest, changed.
    pub fn change_manifest(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.manifest.borrow_mut());
    }

    /// The team's manifest.
    pub fn manifest(&self) -> Value {
        self.manifest.borrow().clone()
    }

    /// The test has changed the Deployment's spec by other means: not the operator's doing.
    pub fn changed_by_the_test(&self) {
        self.generations.set(self.generations.get() + 1);
    }

    /// The Deployment was deleted: its successor begins to count anew.
    pub fn begins_anew(&self) {
        self.generations.set(0);
    }

    /// Changes the Deployment by a merge patch, as the team.
    pub async fn patch(&self, patch: &Value, changes_spec: bool) {
        let params = PatchParams { field_manager: Some(TEAM.to_owned()), ..PatchParams::default() };
        let patched = self.api::<Deployment>().patch(&self.name, &params, &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("Deployment {} cannot be patched: {error}", self.name));
        if changes_spec {
            self.changed_by_the_test();
        }
    }

    // --- what its users see

    /// Asks it by a real MCP client, through its Service, until it answers: lists its tools and calls one.
    pub async fn serves_mcp(&self) {
        if environment::simulated().is_some() {
            environment::not_shown();
            return;
        }
        until(&format!("{} serves MCP", self.name), async || {
            let forward = Forward::open(&self.namespace, &format!("service/{}", self.name), 80).await?;
            let tools = mcp::tools(&forward.url).await?;
            if tools != ["create_assignment", "list_assignments", "search"] {
                return Err(format!("it lists {tools:?}"));
            }
            mcp::search(&forward.url).await
        })
        .await;
    }

    /// Switches a fault off in one pod.
    pub async fn mend_pod(&self, pod: &str, fault: &str) {
        until(&format!("pod {pod} is rid of the fault {fault}"), async || {
            let forward = Forward::open(&self.namespace, &format!("pod/{pod}"), 8000).await?;
            let request = reqwest::Client::new().delete(format!("{}/admin/faults/{fault}", forward.url));
            request.send().await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Switches a fault on in one pod, over HTTP, while it runs.
    pub async fn break_pod(&self, pod: &str, fault: Value) {
        self.break_container(pod, 8000, fault).await;
    }

    /// The same in the container that listens on this port.
    pub async fn break_container(&self, pod: &str, port: u16, fault: Value) {
        environment::needs_a_node("a fault that is switched on in a running pod");
        until(&format!("pod {pod} takes the fault {fault}"), async || {
            let forward = Forward::open(&self.namespace, &format!("pod/{pod}"), port).await?;
            let request = reqwest::Client::new().post(format!("{}/admin/faults", forward.url)).json(&fault);
            let answer = request.send().await.and_then(reqwest::Response::error_for_status);
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    // --- what is in the cluster

    /// The Deployment as it is.
    pub async fn deployment(&self) -> Deployment {
        self.api().get(&self.name).await.expect("the Deployment is there")
    }

    /// The pod template in force.
    pub async fn live_template(&self) -> Value {
        let deployment = self.deployment().await;
        serde_json::to_value(deployment.spec.template).expect("a template is JSON")
    }

    /// Its pods that are not on their way out.
    pub async fn pods(&self) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("app={}", self.name));
        let pods = self.api::<Pod>().list(&params).await.expect("pods can be listed");
        pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// The names of its pods.
    pub async fn pod_names(&self) -> BTreeSet<String> {
        self.pods().await.into_iter().filter_map(|pod| pod.metadata.name).collect()
    }

    /// Its pods by their uid, and how often their containers were started anew: the same as before where nothing was
    /// restarted.
    pub async fn lives(&self) -> BTreeMap<String, i32> {
        let lives = self.pods().await.into_iter().map(|pod| {
            let containers = pod.status.and_then(|status| status.container_statuses).into_iter().flatten();
            (pod.metadata.uid.unwrap_or_default(), containers.map(|one| one.restart_count).sum())
        });
        lives.collect()
    }

    /// Waits until all wanted pods are of the template in force, and ready.
    pub async fn rolled_out(&self) {
        until(&format!("Deployment {} is rolled out", self.name), async || {
            let deployment = self.deployment().await;
            let wanted = deployment.spec.replicas;
            let generation = deployment.metadata.generation;
            let status = deployment.status.unwrap_or_default();
            let done = status.observed_generation >= generation
                && status.updated_replicas == wanted
                && status.replicas == wanted
                && status.available_replicas == wanted;
            if done { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    // --- what the operator did

    /// How many changes of the Deployment's spec were not the test's own.
    pub async fn changes_by_operator(&self) -> i64 {
        self.deployment().await.metadata.generation.unwrap_or_default() - self.generations.get()
    }

    /// How many actions the Deployment remembers.
    pub async fn actions_remembered(&self) -> usize {
        let annotations = self.deployment().await.metadata.annotations.unwrap_or_default();
        let Some(text) = annotations.get(ACTIONS_ANNOTATION) else { return 0 };
        serde_json::from_str::<Vec<Value>>(text).expect("the annotation is a list").len()
    }

    /// Fails unless the operator has changed the template exactly so often, and nothing else of the spec.
    pub async fn was_changed_by_operator(&self, times: usize) {
        let changes = self.changes_by_operator().await;
        assert_eq!(usize::try_from(changes).ok(), Some(times), "changes of the spec by the operator");
        assert_eq!(self.actions_remembered().await, times, "actions that the Deployment remembers");
    }

    /// Fails unless the operator has left the Deployment alone altogether.
    pub async fn is_untouched(&self) {
        self.was_changed_by_operator(0).await;
        let metadata = self.deployment().await.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        assert!(!annotations.contains_key(ATTEMPT_ANNOTATION), "{annotations:?}");
        let managers: Vec<_> =
            metadata.managed_fields.into_iter().flatten().filter_map(|entry| entry.manager).collect();
        assert!(!managers.iter().any(|manager| manager == mcp_health_api::MANAGER), "{managers:?}");
    }

    /// Fails unless the template in force is, to the last field, the one that was healthy.
    pub async fn has_healthy_template(&self) {
        assert_eq!(self.live_template().await, *self.template.borrow(), "the template that was healthy");
    }

    /// The template in force is the one to compare with from now on.
    pub async fn note_healthy_template(&self) {
        self.template.replace(self.live_template().await);
    }

    /// Awaits an incident: see [`Policy::incident`].
    pub async fn incident(&self, incident: IncidentType, cause: Cause) -> Incident {
        self.policy.incident(incident, cause).await
    }

    /// Awaits the end of an incident: see [`Policy::resolved_by`].
    pub async fn resolved_by(&self, incident: &Incident, action: ActionType) -> PastIncident {
        self.policy.resolved_by(incident, action).await
    }
}

/// A JSON merge without deletions.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
