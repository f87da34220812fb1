//! A server's process. It ends with its owner.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use mcp_probe::{Address, Endpoint, Prober};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// No server takes longer to start or to stop, however busy the machine.
const BUSY: Duration = Duration::from_mins(1);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it, and waits until it tells its port.
    pub async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it tells its port before it ends");
                if let Some((_, port)) = line.rsplit_once("port ") {
                    return port.parse::<u16>().unwrap();
                }
            }
        };
        let port = tokio::time::timeout(BUSY, port).await.expect("it tells its port in time");
        // It goes on to write what nobody reads.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address: ([127, 0, 0, 1], port).into() }
    }

    /// Whoever is patient enough for a busy machine.
    pub fn endpoint(&self, path: &str) -> Endpoint {
        Endpoint { timeout: Duration::from_secs(20), ..Endpoint::new(Address::Socket(self.address), path) }
    }

    pub fn prober(&self, path: &str) -> Prober {
        Prober::new(self.endpoint(path)).unwrap()
    }

    pub fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops it, and waits until each of its threads has stopped: until then one of them may still answer.
    pub async fn stop(&self) {
        self.send(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let stopped = || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                // A thread that ended in the meantime answers no more either.
                let status = std::fs::read_to_string(task.unwrap().path().join("status"));
                status.map_or(true, |status| status.lines().any(|line| line.starts_with("State:\tT")))
            })
        };
        let all_stopped = async {
            while !stopped() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(BUSY, all_stopped).await.expect("it stops in time");
    }

    /// Ends it at once.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// The memory that it holds, in KiB.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The sessions that its SDK keeps, as its own page tells.
    pub async fn sessions(&self) -> usize {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /sessions HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.rsplit_once("\r\n\r\n").and_then(|(_, body)| body.trim().parse().ok()).expect("a number")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().expect("it runs")).unwrap()).unwrap()
    }
}
