//! The operator's memory and its reaction, on a real API server whose nodes are simulated: `cargo xtask
//! bench`.
//!
//! Memory: resident set, with no server, and with a thousand healthy ones of three pods each, probes off.
//! Reaction: from the Event of a watch that completes the evidence to the Event that shows the mitigating
//! patch, both as another client sees them; beside it, in turns, a bare loop that sees the same evidence,
//! writes an intent to a status and patches.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, Config, Resource,
    api::{ListParams, Patch, PatchParams, PostParams},
    client::ConfigExt,
    runtime::{WatchStreamExt, watcher},
};
use mcp_health_api::McpServerHealth;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tower::Layer;

/// Servers whose memory is measured, each with three pods.
const SERVERS: usize = 1000;
/// Namespaces that they are in.
const NAMESPACES: usize = 50;
/// Reactions that are timed, each beside one of the bare loop.
const ROUNDS: usize = 40;
/// Requests at the same time, while objects are made.
const AT_ONCE: usize = 16;
/// How long one thing may take to happen.
const LIMIT: Duration = Duration::from_mins(10);

const GOOD: &str = "registry.example/mcp-server:1";
/// A revision whose simulated container ends with code 1 soon after its start.
const BAD: &str = "registry.example/mcp-server:2";
/// Where the servers are that the bare loop heals.
const FLOOR: &str = "floor";
/// Where those are that the operator heals.
const REACTION: &str = "reaction";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = connect().await?;
    let folder = TempDir::new()?;
    let idle = idle(folder.path()).await?;
    println!("memory, no server: {idle}");
    reaction(&client, folder.path()).await?;
    memory(&client, folder.path()).await
}

/// A client whose requests are sent at once, as the operator's are.
async fn connect() -> Result<Client> {
    let config = Config::infer().await?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = HttpClient::builder(TokioExecutor::new()).build(tls);
    let service = config.base_uri_layer().layer(http);
    Ok(Client::new(service, config.default_namespace))
}

/// The operator as a process of this machine.
struct Operator(Child);

impl Operator {
    fn start(folder: &Path, arguments: &[&str]) -> Result<Self> {
        let log = File::create(folder.join("operator.log"))?;
        let program = std::env::var("MCP_HEALTH_OPERATOR_BIN")?;
        let mut command = Command::new(program);
        command.args([
            "--probes=false",
            "--scrape-period=0s",
            "--metrics-addr=",
            "--lease-namespace=default",
            "--lease-duration=5s",
            "--log-level=warn",
        ]);
        command.args(arguments).stdout(Stdio::null()).stderr(log);
        Ok(Self(command.spawn()?))
    }

    fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        Ok(Memory { resident: of("VmRSS:"), heap: of("RssAnon:"), peak: of("VmHWM:") })
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In KiB.
struct Memory {
    resident: u64,
    heap: u64,
    peak: u64,
}

#[allow(clippy::cast_precision_loss)] // Far below 2^52.
impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
        let (resident, heap, peak) = (mebibytes(self.resident), mebibytes(self.heap), mebibytes(self.peak));
        write!(f, "{resident:.1} MiB resident, {heap:.1} MiB of it anonymous; peak {peak:.1} MiB")
    }
}

async fn idle(folder: &Path) -> Result<Memory> {
    let operator = Operator::start(folder, &["--watch-namespaces=default", "--identity=idle"])?;
    sleep(Duration::from_secs(15)).await;
    operator.memory()
}

async fn memory(client: &Client, folder: &Path) -> Result<()> {
    let spaces: Vec<String> = (0..NAMESPACES).map(|at| format!("team-{at:02}")).collect();
    stream::iter(&spaces)
        .map(|name| namespace(client, name))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let one = async |at: usize| {
        let space = &spaces[at % NAMESPACES];
        server(client, space, &format!("server-{at:04}"), 3, "Observe").await
    };
    stream::iter(0..SERVERS).map(one).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let running = ListParams::default().fields("status.phase=Running");
    until("all pods run", async || Ok(pods.list_metadata(&running).await?.items.len() >= SERVERS * 3))
        .await?;
    for run in ["first look, every status written", "started again, nothing to write"] {
        let operator = Operator::start(folder, &["--identity=memory"])?;
        let objects: Api<McpServerHealth> = Api::all(client.clone());
        until("every server is judged", async || {
            let seen = objects.list(&ListParams::default()).await?;
            let judged = seen
                .items
                .iter()
                .filter(|one| one.status.as_ref().is_some_and(|it| !it.conditions.is_empty()));
            Ok(judged.count() >= SERVERS)
        })
        .await?;
        sleep(Duration::from_mins(1)).await;
        println!(
            "memory, {SERVERS} healthy servers with {} pods, {run}: {}",
            SERVERS * 3,
            operator.memory()?
        );
    }
    Ok(())
}

async fn reaction(client: &Client, folder: &Path) -> Result<()> {
    for space in [REACTION, FLOOR] {
        namespace(client, space).await?;
        for at in 0..ROUNDS {
            server(client, space, &name(at), 2, "Enforce").await?;
        }
    }
    let watched = format!("--watch-namespaces={REACTION}");
    let _operator = Operator::start(
        folder,
        &[
            &watched,
            "--identity=reaction",
            "--seen-healthy-after=2s",
            "--max-concurrent-actions=100",
            "--max-actions-per-hour-namespace=1000",
            "--max-actions-per-hour-cluster=1000",
            "--max-unhealthy-percent=100",
        ],
    )?;
    let objects: Api<McpServerHealth> = Api::namespaced(client.clone(), REACTION);
    until("every revision is known to be good", async || {
        let seen = objects.list(&ListParams::default()).await?;
        let good = |one: &&McpServerHealth| {
            one.status
                .as_ref()
                .is_some_and(|status| status.target.as_ref().is_some_and(|it| it.last_healthy.is_some()))
        };
        Ok(seen.items.iter().filter(good).count() >= ROUNDS)
    })
    .await?;
    let (mut operator, mut floor) = (Vec::new(), Vec::new());
    for at in 0..ROUNDS {
        operator.push(round(client, REACTION, at).await?);
        let (bare, _) = tokio::join!(round(client, FLOOR, at), heal(client, at));
        floor.push(bare?);
    }
    println!(
        "reaction, evidence complete to patch seen, {ROUNDS} each in turns: operator {}, bare loop {}",
        Quantiles::of(&mut operator),
        Quantiles::of(&mut floor)
    );
    Ok(())
}

/// Breaks one server, and times how long after the evidence it is mitigated.
async fn round(client: &Client, space: &str, at: usize) -> Result<Duration> {
    let name = name(at);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), space);
    let mut evidence = Box::pin(evidence(client, space, &name));
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut targets = Box::pin(watcher(deployments.clone(), config).applied_objects());
    deployments.patch(&name, &PatchParams::default(), &revision(BAD)).await?;
    let work = async {
        let (mut since, mut was_bad, mut mitigated) = (None, false, None);
        // Two watches: what happened first need not be told first.
        loop {
            if let (Some(since), Some(mitigated)) = (since, mitigated) {
                return Ok(Instant::saturating_duration_since(&mitigated, since));
            }
            tokio::select! {
                biased;
                pod = evidence.next(), if since.is_none() => since = pod.map(|()| Instant::now()),
                target = targets.try_next() => {
                    let target = target?.ok_or("the watch of Deployments ends")?;
                    was_bad |= image_of(&target) == BAD;
                    if was_bad && mitigated.is_none() && image_of(&target) == GOOD {
                        mitigated = Some(Instant::now());
                    }
                }
            }
        }
    };
    timeout(LIMIT, work).await.map_err(|_| format!("{space}/{name} is not mitigated"))?
}

/// One item for each Event from which the rule is sure: a pod of a server is in `CrashLoopBackOff`, or its
/// container has ended twice, in different seconds.
fn evidence(client: &Client, space: &str, name: &str) -> impl stream::Stream<Item = ()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), space);
    let config = watcher::Config::default().labels(&format!("app={name}"));
    let mut ends = BTreeSet::new();
    let mut look = move |pod: watcher::Result<Pod>| {
        let containers = pod.ok()?.status?.container_statuses?;
        let states = || containers.iter().flat_map(|one| [&one.state, &one.last_state]).flatten();
        let ended = states().filter_map(|state| state.terminated.as_ref()?.finished_at.as_ref());
        ends.extend(ended.map(|at| at.0.as_second()));
        let reason = states().find_map(|state| state.waiting.as_ref()?.reason.as_deref());
        (ends.len() > 1 || reason == Some("CrashLoopBackOff")).then_some(())
    };
    watcher(pods, config).applied_objects().filter_map(move |pod| std::future::ready(look(pod)))
}

/// The bare loop: what the operator cannot do without.
async fn heal(client: &Client, at: usize) -> Result<()> {
    let name = name(at);
    let mut evidence = Box::pin(evidence(client, FLOOR, &name));
    let objects: Api<McpServerHealth> = Api::namespaced(client.clone(), FLOOR);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), FLOOR);
    let mut object = objects.get(&name).await?;
    evidence.next().await;
    object.status = Some(serde_json::from_value(json!({"conditions": []}))?);
    objects.replace_status(&name, &PostParams::default(), &object).await?;
    deployments.patch(&name, &PatchParams::default(), &revision(GOOD)).await?;
    Ok(())
}

/// Milliseconds.
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Quantiles {
    fn of(all: &mut [Duration]) -> Self {
        all.sort();
        let at = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)].as_secs_f64() * 1000.0;
        Self { p50: at(50), p99: at(99) }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms", self.p50, self.p99)
    }
}

fn name(at: usize) -> String {
    format!("server-{at:02}")
}

fn revision(image: &str) -> Patch<Value> {
    let crash_after = (image == BAD).then_some("200ms");
    // No log can be read of a simulated container; its message says as much.
    let message = (image == BAD).then_some("TypeError: settings is undefined");
    let never_ready = (image == BAD).then_some("true");
    let annotations = json!({
        "simulation.mcphealth.dev/crash-after": crash_after,
        "simulation.mcphealth.dev/message": message,
        "simulation.mcphealth.dev/never-ready": never_ready,
    });
    let pods = json!({"containers": [{"name": "server", "image": image}]});
    Patch::Strategic(json!({"spec": {"template": {"metadata": {"annotations": annotations}, "spec": pods}}}))
}

fn image_of(deployment: &Deployment) -> &str {
    let pod = deployment.spec.template.spec.as_ref();
    pod.and_then(|pod| pod.containers.first()?.image.as_deref()).unwrap_or_default()
}

async fn namespace(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    make(&api, json!({"metadata": {"name": name}})).await
}

/// A Deployment as teams write them, and its policy.
async fn server(client: &Client, space: &str, name: &str, replicas: i32, mode: &str) -> Result<()> {
    let environment: Vec<Value> = (0..8)
        .map(|at| json!({"name": format!("SETTING_{at}"), "value": format!("value of setting {at}")}))
        .collect();
    let probe = json!({"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5});
    let container = json!({
        "name": "server", "image": GOOD, "env": environment,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "readinessProbe": probe, "livenessProbe": probe,
    });
    let labels = json!({"app": name, "app.kubernetes.io/part-of": "mcp", "team": space});
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), space);
    let ready_soon = json!({"simulation.mcphealth.dev/ready-after": "100ms"});
    let toleration = json!({"key": "simulation.mcphealth.dev/node", "operator": "Exists"});
    make(
        &deployments,
        json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": ready_soon},
                    "spec": {"containers": [container], "tolerations": [toleration]},
                },
            },
        }),
    )
    .await?;
    let objects: Api<McpServerHealth> = Api::namespaced(client.clone(), space);
    make(&objects, json!({
        "metadata": {"name": name},
        "spec": {"mode": mode, "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}},
    })).await
}

/// Makes an object, unless it is there.
async fn make<K>(api: &Api<K>, mut object: Value) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    match api.create(&PostParams::default(), &serde_json::from_value(object)?).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let looking = async {
        while !is_so().await? {
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    timeout(LIMIT, looking).await.map_err(|_| format!("waited {} s until {what}", LIMIT.as_secs()))?
}
