//! A server as a child process, in a folder of its own; it ends with the test.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Long enough for everything that answers at all.
pub const SOON: Duration = Duration::from_secs(10);
/// RabbitMQ takes ten seconds, and on a busy machine three times that.
const STARTED: Duration = Duration::from_mins(2);

/// Everything is permitted.
pub const ALL: dependency_probe::Permit<'static> = &|_| true;

/// A program that runs, with what it needs to.
pub struct Server {
    /// Where it keeps everything.
    pub folder: TempDir,
    children: Vec<Child>,
}

impl Server {
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), children: Vec::new() }
    }

    /// Runs a program for as long as the test does.
    pub fn run(&mut self, command: &mut Command) {
        let log =
            std::fs::File::create(self.folder.path().join(format!("{}.log", self.children.len()))).unwrap();
        let errors = log.try_clone().unwrap();
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.children.push(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    /// Ends the programs, and waits until they are gone.
    pub fn stop(&mut self) {
        for mut child in self.children.drain(..).rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process: the last that was run.
    pub fn pid(&self) -> u32 {
        self.children.last().unwrap().id()
    }

    /// What it said.
    pub fn said(&self) -> String {
        let logs = (0..9).map(|number| self.folder.path().join(format!("{number}.log")));
        logs.filter_map(|log| std::fs::read_to_string(log).ok()).collect()
    }

    /// Awaits that `holds` gives something; a program that ended before that has failed.
    pub async fn awaited<T>(&mut self, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
        let until = Instant::now() + STARTED;
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            for child in &mut self.children {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "{ended:?}: {}", self.said());
            }
            assert!(Instant::now() < until, "{}", self.said());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nobody has.
pub fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where a server is, as `cargo xtask test` says.
pub fn found(variable: &str) -> PathBuf {
    let set = std::env::var_os(variable);
    let path = set.unwrap_or_else(|| panic!("{variable} is not set: run this by `cargo xtask test`"));
    Path::new(&path).to_path_buf()
}
