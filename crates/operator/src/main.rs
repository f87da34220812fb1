//! mcp-health-operator: watches MCP servers, opens incidents, runs their runbooks, verifies.
//!
//! The code is laid out as the flow goes: `observe/` → core's diagnose, verify, decide → `status` (record) →
//! `act/` → `status` and `events` (report). `reconcile.rs` reads as that flow; begin there.

mod act;
mod allowed;
mod caught;
mod client;
mod config;
mod controller;
mod draw;
mod endpoints;
mod error;
mod events;
mod evidence;
mod fleet;
mod keep;
mod lease;
mod observe;
mod owned;
mod pod_http;
mod reconcile;
mod status;
mod supervise;
mod telemetry;
mod web;

use std::{collections::HashMap, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    future::join_all,
};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    client::Deadlines,
    config::Config,
    endpoints::AllowList,
    lease::Lease,
    observe::{Asking, Poller, Secrets, Stores, list_watch::Pace, table::Key},
    reconcile::Context,
    supervise::{Task, Tasks},
    telemetry::Metrics,
};

/// How long the first lists may take before the operator goes on and says what is missing.
const FIRST_LISTS: Duration = Duration::from_secs(30);

// One thread: reconciles wait for the API server most of their time, and every thread has its own heap.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = Config::parse();
    telemetry::start_log(&config);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!(why, "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), String> {
    let allowed =
        AllowList::parse(&config.allowed_endpoints).map_err(|why| format!("--allowed-endpoints: {why}"))?;
    let client = connect().await.map_err(|why| {
        format!("the API server cannot be reached: {why}; is this a pod, or is KUBECONFIG set?")
    })?;
    let metrics = Arc::new(Metrics::default());
    let mut tasks = Tasks::default();
    if !config.metrics_addr.is_empty() {
        let listener = telemetry::listen(&config.metrics_addr).await?;
        let serving = telemetry::serve(listener, Arc::clone(&metrics));
        tasks.start(Task::new("the server of metrics and probes", serving));
    }

    let (wake, woken) = unbounded();
    let stores = Arc::new(Stores::new(&config, wake)?);
    let poller = Poller::new(&config, Arc::clone(&metrics))?;
    let context = Arc::new(context(&config, &client, &stores, &metrics));

    // Whoever waits for the lease is warm already: the tables are kept up from the start.
    // Each is a task of its own: what one waits for wakes none of the others.
    for watch in stores.watches(&client, &config) {
        tasks.start(watch);
    }
    tasks.start(Task::new("the poll of Prometheus", poller.keep(Arc::clone(&stores))));
    if stores.probes.is_some() {
        let secrets = Arc::new(Secrets::new(config.read_secrets.then(|| client.clone())));
        let asking = Asking::new(Arc::clone(&stores), secrets, &config, allowed, Arc::clone(&metrics));
        tasks.start(Task::new("the probes", asking.keep()));
    }
    let leases = lease::api(&client, &config);
    let work = lead(&config, &client, &context, &leases, woken);
    let ended = tokio::select! {
        ended = work => ended,
        why = tasks.ended() => Err(why),
        () = asked_to_end() => {
            tracing::info!("asked to end; the lease is given up");
            context.lease.release(&leases).await;
            Ok(())
        }
    };
    if let Some(probes) = &stores.probes {
        probes.end().await;
    }
    ended
}

/// What every reconcile is given.
fn context(config: &Config, client: &Client, stores: &Arc<Stores>, metrics: &Arc<Metrics>) -> Context {
    Context {
        client: client.clone(),
        stores: Arc::clone(stores),
        statuses: status::Statuses::default(),
        fleet: fleet::Fleet::new(config.scopes().len(), config.settings()),
        copies: keep::Copies::default(),
        lease: Lease::new(config),
        unsent: act::Unsent::default(),
        switch: (!config.switch_configmap.is_empty())
            .then(|| (config.lease_namespace.clone(), config.switch_configmap.clone())),
        recorder: events::recorder(client.clone(), &config.identity),
        settings: config.settings(),
        keep_evidence: config.keep_evidence,
        metrics: Arc::clone(metrics),
    }
}

/// Waits for the first lists and for the lease, and then has the servers looked at, until the lease is lost.
async fn lead(
    config: &Config,
    client: &Client,
    context: &Arc<Context>,
    leases: &Api<LeaseObject>,
    woken: UnboundedReceiver<Key>,
) -> Result<(), String> {
    first_lists(&context.stores).await;
    context.metrics.set_ready();
    context.lease.acquire(leases, async || status::none_was_written(client, config).await).await;
    let pace = Pace::of(config);
    let mut queues: HashMap<Option<String>, UnboundedSender<Key>> = HashMap::new();
    let mut controllers = Vec::new();
    for scope in config.scopes() {
        let (queue, keys) = unbounded();
        queues.insert(scope.clone(), queue);
        controllers.push(controller::run(client.clone(), scope, pace, keys, Arc::clone(context)));
    }
    let distribute = woken.for_each(|key: Key| {
        let queue = queues.get(&None).or_else(|| queues.get(&Some(key.namespace.to_string())));
        if let Some(queue) = queue {
            // Fails only when the operator is ending.
            let _ = queue.unbounded_send(key);
        }
        std::future::ready(())
    });
    tokio::select! {
        () = context.lease.keep(leases) => Err("the lease is lost".to_owned()),
        _ = join_all(controllers) => Err("the controllers ended".to_owned()),
        () = distribute => Err("the watches ended".to_owned()),
    }
}

/// The client, by the pod's service account or by `KUBECONFIG`.
async fn connect() -> Result<Client, String> {
    let config = kube::Config::infer().await.map_err(|error| error.to_string())?;
    client::connect(&config, Deadlines::default()).map_err(|error| error.to_string())
}

/// Waits for the first lists, but not forever: what is missing shows in the conditions.
async fn first_lists(stores: &Stores) {
    let settled = async {
        while !stores.are_settled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(FIRST_LISTS, settled).await.is_err() {
        tracing::warn!("not everything could be listed within {} s; going on", FIRST_LISTS.as_secs());
    }
}

async fn asked_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
