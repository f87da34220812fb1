//! Whether the server is well, as a whole and by component.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::app::App;
use crate::store::Store;
use crate::tools;

/// A readiness probe gives up after a few seconds; the answer must come before.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a health route answers.
#[derive(Debug)]
pub struct Health {
    /// 200 or 503.
    pub healthy: bool,
    /// The body.
    pub body: Value,
}

/// The whole server.
pub async fn overall(app: &App) -> Health {
    let mut components = Map::new();
    let mut failed = Vec::new();
    let mut issues = Vec::new();
    for (name, health) in
        [("database", database(app).await), ("tools", tools(app)), ("startup", startup(app))]
    {
        if !health.healthy {
            failed.push(name);
        }
        components.insert(name.to_owned(), health.body);
    }
    // An exhausted pool is an issue, not a failure: the database itself may be well, and taking every
    // pod out of service would turn slowness into an outage.
    if app.store.pool().is_some_and(|pool| pool.usage().in_use >= pool.usage().size) {
        issues.push("connections");
    }
    if app.faults.is_on("leak-memory") {
        issues.push("memory");
    }
    let draining = app.draining.load(Ordering::Relaxed);
    let healthy = failed.is_empty() && !draining;
    let body = json!({
        "status": if draining { "draining" } else { word(healthy) },
        "components": components, "failed_components": failed, "issues": issues,
    });
    Health { healthy, body }
}

/// The store.
pub async fn database(app: &App) -> Health {
    let pool = match &*app.store {
        Store::Memory(_) => {
            return Health { healthy: true, body: json!({"status": word(true), "kind": "memory"}) };
        }
        Store::Postgres(pool) => pool,
    };
    let answer = async {
        match pool.try_get().await? {
            Some(connection) => connection
                .simple_query("SELECT 1")
                .await
                .map(drop)
                .map_err(|source| crate::store_error::StoreError::Query { query: "SELECT 1", source }),
            // All are busy, so the database cannot be asked; the pool is shown below.
            None => Ok(()),
        }
    };
    let error = match tokio::time::timeout(DATABASE_TIMEOUT, answer).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {DATABASE_TIMEOUT:?}")),
    };
    let mut body = json!({"status": word(error.is_none()), "kind": "postgres", "pool": pool.usage()});
    if let Some(error) = &error {
        body["error"] = error.as_str().into();
    }
    Health { healthy: error.is_none(), body }
}

/// The tools: a server without any is of no use.
pub fn tools(app: &App) -> Health {
    let count = tools::offered(app).len();
    let mut body = json!({"status": word(count > 0), "count": count});
    if count == 0 {
        body["error"] = "no tool is registered".into();
    }
    Health { healthy: count > 0, body }
}

fn startup(app: &App) -> Health {
    let healthy = !app.faults.is_on("never-ready");
    Health { healthy, body: json!({"status": word(healthy)}) }
}

fn word(healthy: bool) -> &'static str {
    if healthy { "healthy" } else { "unhealthy" }
}
