//! A small pool of Postgres connections.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::config::DatabaseConfig;
use crate::store_error::StoreError;

#[derive(Debug)]
struct Connection {
    client: Client,
    closed: CancellationToken,
}

/// Connections to one database: `pool_size` kept open, `max_overflow` more under load.
#[derive(Debug)]
pub struct Pool {
    config: DatabaseConfig,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    waiting: AtomicUsize,
}

/// What the pool is doing.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PoolUse {
    /// Connections it may open.
    pub size: usize,
    /// Connections handed out.
    pub in_use: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

impl Pool {
    /// A pool without connections: they are opened as they are asked for.
    pub fn new(config: DatabaseConfig) -> Self {
        let permits = Arc::new(Semaphore::new(config.pool_size + config.max_overflow));
        Self { config, permits, idle: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// A connection, within the pool's time-out.
    pub async fn get(self: &Arc<Self>) -> Result<Pooled, StoreError> {
        let timeout = self.config.timeout;
        tokio::time::timeout(timeout, self.wait()).await.map_err(|_| StoreError::PoolTimeout(timeout))?
    }

    /// A connection if one is free now; none if all are handed out.
    pub async fn try_get(self: &Arc<Self>) -> Result<Option<Pooled>, StoreError> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => self.open(permit).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// What it is doing.
    pub fn usage(&self) -> PoolUse {
        let size = self.config.pool_size + self.config.max_overflow;
        PoolUse {
            size,
            in_use: size - self.permits.available_permits(),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// How long a call may take.
    pub fn timeout(&self) -> std::time::Duration {
        self.config.timeout
    }

    async fn wait(self: &Arc<Self>) -> Result<Pooled, StoreError> {
        let waiting = Waiting::enter(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::PoolClosed)?;
        drop(waiting);
        self.open(permit).await
    }

    async fn open(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Pooled, StoreError> {
        let idle = loop {
            match self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                Some(connection) if connection.client.is_closed() => {}
                other => break other,
            }
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Pooled { connection: Some(connection), pool: Some(Arc::clone(self)), _permit: permit })
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        let address = addresses(&self.config.postgres);
        let (client, connection) = match self.config.postgres.connect(NoTls).await {
            Ok(connected) => connected,
            Err(source) => return Err(StoreError::Connect { address, source }),
        };
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = ended;
            if let Err(source) = connection.await {
                let error = StoreError::Connect { address, source };
                tracing::warn!(target: "mcp.server", event = "database_connection_lost", error_type = "database_error",
                    "Database connection lost: {error}");
            }
        });
        Ok(Connection { client, closed })
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.client.is_closed() && idle.len() < self.config.pool_size {
            idle.push(connection);
        }
    }
}

/// Host and port of every server the URL names.
fn addresses(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let address = |(index, host): (usize, &Host)| {
        // One port counts for all hosts, none is the usual one.
        let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => folder.display().to_string(),
        }
    };
    config.get_hosts().iter().enumerate().map(address).collect::<Vec<_>>().join(", ")
}

/// Counts a waiting caller for as long as it lives, a cancelled one included.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that goes back to its pool when dropped.
#[derive(Debug)]
pub struct Pooled {
    connection: Option<Connection>,
    pool: Option<Arc<Pool>>,
    _permit: OwnedSemaphorePermit,
}

impl Pooled {
    /// Keeps its place in the pool but closes the connection when dropped, with whatever is open on it.
    pub fn detach(mut self) -> Self {
        self.pool = None;
        self
    }

    /// Waits until the connection ends.
    pub async fn closed(&self) {
        if let Some(connection) = &self.connection {
            connection.closed.cancelled().await;
        }
    }
}

impl Deref for Pooled {
    type Target = Client;

    fn deref(&self) -> &Client {
        // Taken out only in `drop`.
        match &self.connection {
            Some(connection) => &connection.client,
            None => unreachable!("a pooled connection is there until it is dropped"),
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), &self.pool) {
            pool.put_back(connection);
        }
    }
}
