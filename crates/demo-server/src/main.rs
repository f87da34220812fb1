//! An MCP server to try the operator on, with faults that can be switched on. README.md lists its settings.

mod app;
mod cache;
mod circuit;
mod config;
mod exchange;
mod fault;
mod fault_tasks;
mod faults;
mod health;
mod heartbeat;
mod hooks;
mod http;
mod limiter;
mod load;
mod logs;
mod mcp;
mod metrics;
mod pool;
mod sessions;
mod settings;
mod store;
mod store_error;
mod tools;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::cache::Cache;
use crate::circuit::{Circuit, Upstream};
use crate::config::Config;
use crate::fault::Fault;
use crate::faults::{FaultError, Faults};
use crate::limiter::Limiter;
use crate::load::{Load, LoadError};
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::settings::{ConfigError, Settings};
use crate::store::Store;
use crate::store_error::StoreError;

/// On shutdown, what is answered after the deadline has this long to leave.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Why the server does not run. It ends as the last line on standard error.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("database error: {0}")]
    Store(#[from] StoreError),
    #[error("configuration error: {0}")]
    Fault(#[from] FaultError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot serve: {0}")]
    Serve(#[from] std::io::Error),
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), StartError> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("load") {
        let load = Load::parse(arguments)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(async {
            load.run(asked_to_stop()?).await;
            Ok(())
        });
    }
    let settings = Settings::load(std::env::vars_os().filter_map(|(name, value)| {
        // A name or value that is not text is none of ours.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    }))?;
    let config = Config::from_settings(&settings)?;
    logs::start(config.log_format, config.log_level);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.workers).enable_all().build()?;
    let result = runtime.block_on(run(config));
    // What is still under way has had its time.
    runtime.shutdown_background();
    result
}

/// Cancelled on SIGTERM. First of all: as process 1 of a container nothing else ends this program on it.
fn asked_to_stop() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    Ok(stop)
}

async fn run(config: Config) -> Result<(), StartError> {
    let stop = asked_to_stop()?;
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        listening = listen(config) => {
            let (app, listener) = listening?;
            serve(app, listener, stop).await
        }
    }
}

/// Everything up to an open port.
async fn listen(config: Config) -> Result<(Arc<App>, TcpListener), StartError> {
    let at_start = config.faults.clone();
    for fault in &at_start {
        if let Fault::Crash { exit, after: Duration::ZERO, message } = fault {
            fault_tasks::crash_now(*exit, message);
        }
    }
    let store = Arc::new(match config.database.clone() {
        Some(database) => Store::connect(database).await?,
        None => Store::in_memory(),
    });
    let circuit = Arc::new(Circuit::new(config.circuit));
    let sessions = Arc::<Sessions>::default();
    let app = Arc::new(App {
        faults: Faults::new(Arc::clone(&store), Arc::clone(&circuit), Arc::clone(&sessions)),
        metrics: Metrics::new(config.duration_metric, store.pool().is_some(), config.cache_ttl.is_some()),
        circuit,
        upstream: config.external_api.clone().map(Upstream::new),
        cache: config.cache_ttl.map(Cache::new),
        limiter: config.rate_limit.map(Limiter::new),
        places: config.max_concurrent_calls.map(|places| Semaphore::new(places.get())),
        sessions,
        calls: TaskTracker::new(),
        draining: AtomicBool::new(false),
        config,
        store,
    });
    let mut address = SocketAddr::new(app.config.bind, app.config.port);
    let mut delay = Duration::ZERO;
    for fault in at_start {
        match fault {
            Fault::SlowStart { delay: until_listening } => delay = until_listening,
            Fault::ListenLocalhost => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => {}
        }
        app.faults.switch_on_at_start(fault)?;
    }
    tokio::spawn(heartbeat::beat(Arc::clone(&app)));
    tokio::time::sleep(delay).await;
    let listener =
        TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
    let address = listener.local_addr()?;
    tracing::info!(target: "mcp.server", event = "listening", address = %address, "Listening on {address}");
    Ok((app, listener))
}

/// Serves until `stop`, then lets tool calls finish and cuts off the rest.
async fn serve(app: Arc<App>, listener: TcpListener, stop: CancellationToken) -> Result<(), StartError> {
    let ended = CancellationToken::new();
    let router = http::router(&app, ended.child_token());
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let drain = async {
        stop.cancelled().await;
        tracing::info!(target: "mcp.server", event = "shutting_down", "Shutting down");
        app.calls.close();
        let deadline = Instant::now() + app.config.drain;
        let _ = tokio::time::timeout_at(deadline, app.calls.wait()).await;
        // Streams that only wait for news end now; answers under way still get out.
        ended.cancel();
        tokio::time::sleep_until(deadline.max(Instant::now() + LAST_ANSWERS)).await;
    };
    tokio::select! {
        result = async { server.await } => result?,
        () = drain => {}
    }
    tracing::info!(target: "mcp.server", event = "stopped", "Stopped");
    Ok(())
}
