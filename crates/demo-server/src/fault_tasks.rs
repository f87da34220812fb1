//! The tasks that keep faults up. Each runs until it is aborted, and then frees what it holds.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Interval, interval};
use tokio_util::sync::CancellationToken;

use crate::sessions::Sessions;
use crate::store::Store;

const MIB: usize = 1 << 20;

/// Ends the process, this long from now.
pub async fn crash(exit: u8, after: Duration, message: String) {
    tokio::time::sleep(after).await;
    crash_now(exit, &message);
}

/// Ends the process as a program does that failed: a last line on standard error, an exit code.
pub fn crash_now(exit: u8, message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(i32::from(exit))
}

/// Ticks this often a second. What it is late by it catches up with, so the rate holds.
fn times_a_second(rate: u32) -> Interval {
    interval((Duration::from_secs(1) / rate).max(Duration::from_nanos(1)))
}

/// Takes memory, in MiB a second and MiB in all.
pub async fn leak(rate: u32, cap: u32, after: Duration) {
    tokio::time::sleep(after).await;
    let mut held = Vec::new();
    let mut ticks = times_a_second(rate);
    while held.len() < cap as usize {
        ticks.tick().await;
        // Every byte is written, so that the pages are real.
        held.push(std::hint::black_box(vec![0xA5_u8; MIB]));
    }
    std::future::pending::<()>().await;
    drop(held);
}

/// Leaves sessions behind, so many a second and in all.
pub async fn leak_sessions(sessions: Arc<Sessions>, rate: u32, cap: u32) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    struct Leak(Arc<Sessions>, u64);
    impl Drop for Leak {
        fn drop(&mut self) {
            self.0.end_leak(self.1);
        }
    }
    // Numbered, so that the end of a fault takes nothing from the one that replaces it.
    let leak = Leak(sessions, LAST.fetch_add(1, Ordering::Relaxed));
    let mut ticks = times_a_second(rate);
    for _ in 0..cap {
        ticks.tick().await;
        leak.0.leak(leak.1);
    }
    std::future::pending::<()>().await;
}

/// Keeps threads busy. They are not those that serve: the system shares the cores between them.
pub async fn burn(threads: u16) {
    let stop = CancellationToken::new();
    let _stops_them = stop.clone().drop_guard();
    for _ in 0..threads {
        let stop = stop.clone();
        let busy = std::thread::Builder::new().name("burn-cpu".to_owned()).spawn(move || {
            while !stop.is_cancelled() {
                for turn in 0..100_000_u32 {
                    std::hint::black_box(turn);
                }
            }
        });
        if let Err(error) = busy {
            tracing::error!(target: "mcp.server", event = "fault_failed", "Cannot start a thread: {error}");
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// A file that is removed when dropped.
struct Filled {
    path: PathBuf,
    file: File,
}

impl Filled {
    fn create(path: PathBuf) -> std::io::Result<Self> {
        File::create(&path).map(|file| Self { path, file })
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        // Somebody may have made room by removing it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes a file in `folder`, in MiB a second and MiB in all. On a full disk it leaves what it has written.
pub async fn fill(rate: u32, cap: u32, folder: PathBuf) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    // Numbered, so that a fault which replaces another does not lose its file to the other's end.
    let path = folder.join(format!("mcp-fill-disk-{}", LAST.fetch_add(1, Ordering::Relaxed) + 1));
    let cannot_write = |error: std::io::Error| {
        let path = path.display();
        tracing::error!(target: "mcp.server", event = "write_failed", error_type = "io_error",
            "Cannot write {path}: {error}");
    };
    let mut filled = match Filled::create(path.clone()) {
        Ok(filled) => filled,
        Err(error) => return cannot_write(error),
    };
    let block = vec![0xA5; MIB];
    let mut ticks = times_a_second(rate);
    for _ in 0..cap {
        ticks.tick().await;
        // A disk may take its time, and others are to be served meanwhile.
        if let Err(error) = tokio::task::block_in_place(|| filled.file.write_all(&block)) {
            cannot_write(error);
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// Holds connections, each in a transaction that was begun so. One that somebody else ends is not taken
/// again: its place in the pool is free from then on, as it is when a leaked session is terminated in the
/// database.
pub async fn hold_connections(store: Arc<Store>, count: u32, begin: &'static str) {
    let mut held = JoinSet::new();
    for _ in 0..count {
        let store = Arc::clone(&store);
        held.spawn(async move {
            let Some(pool) = store.pool() else { return };
            match pool.get().await {
                Ok(connection) => {
                    let connection = connection.detach();
                    if connection.batch_execute(begin).await.is_ok() {
                        connection.closed().await;
                    }
                }
                Err(error) => {
                    tracing::warn!(target: "mcp.server", event = "fault_failed", "Cannot hold a connection: {error}");
                }
            }
        });
    }
    while held.join_next().await.is_some() {}
}
