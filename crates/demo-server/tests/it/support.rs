//! A server process to test, a client for it, and a Postgres of one's own.

use std::ops::Index;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResult, ClientConfig, ProtocolVersion};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Nothing here takes this long: what does, has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// A user without any rights.
const NOBODY: u32 = 65534;

/// Waits for something that will happen.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("it happens within the limit")
}

/// Asks again until the answer is the one waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let repeat = async {
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        loop {
            interval.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    within(repeat).await
}

/// Lines that a process has written so far.
#[derive(Clone)]
struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    fn read(from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|seen| seen.push(line));
            }
        });
        Self(receiver)
    }

    async fn find(&mut self, what: impl Fn(&str) -> bool) -> Option<String> {
        let found = self.0.wait_for(|lines| lines.iter().any(|line| what(line))).await.ok()?;
        found.iter().find(|line| what(line)).cloned()
    }

    /// All of them, once the process has closed its end.
    async fn all(mut self) -> Vec<String> {
        while self.0.changed().await.is_ok() {}
        self.0.borrow().clone()
    }
}

/// A server process.
pub struct Server {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Server {
    /// Starts one on a free port with these settings and no others.
    pub fn spawn(settings: &[(&str, &str)]) -> Self {
        Self::run(&mut Self::command(settings))
    }

    /// The same, but never as root, who may read every file.
    pub async fn spawn_unprivileged(settings: &[(&str, &str)]) -> Self {
        let mut command = Self::command(settings);
        if id("-u", None).await == Some(0) {
            command.uid(NOBODY);
        }
        Self::run(&mut command)
    }

    /// Starts clients of a server.
    pub fn spawn_load(arguments: &[&str]) -> Self {
        Self::run(Self::command(&[]).arg("load").args(arguments))
    }

    fn command(settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-demo-server"));
        command.env_clear().env("MCP_PORT", "0").envs(settings.iter().copied());
        command
    }

    fn run(command: &mut Command) -> Self {
        // Its clients have TLS compiled in where other packages of a build do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the server starts");
        let stdout = Lines::read(child.stdout.take().expect("piped"));
        let stderr = Lines::read(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Waits until it listens.
    pub async fn listening(mut self) -> Running {
        let line = within(self.stdout.find(|line| line.contains("Listening on "))).await;
        let line = line.expect("it listens rather than ends");
        let (_, address) = line.split_once("Listening on ").expect("an address");
        let port = address.split(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).next();
        let port = port.and_then(|address| address.rsplit(':').next()).and_then(|port| port.parse().ok());
        Running { port: port.expect("a port"), server: self, http: reqwest::Client::new() }
    }

    /// Waits until it ends, and gives its exit status and the last line on standard error.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = within(self.child.wait()).await.expect("a status");
        (status, within(self.stderr.all()).await.pop().unwrap_or_default())
    }

    /// Waits until it ends, and gives its log lines.
    pub async fn all_logged(self) -> Vec<String> {
        within(self.stdout.all()).await
    }

    /// How long each of its threads of this name has run, in ticks of the system (10 ms, as a rule).
    pub fn thread_ticks(&self, name: &str) -> Vec<u64> {
        let pid = self.child.id().expect("it still runs");
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
        // A thread may end between the two reads.
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        let ticks = |stat: String| {
            // `id (name) state …`: user time is the twelfth after the name.
            let (start, rest) = stat.rsplit_once(')')?;
            start.ends_with(&format!("({name}")).then(|| rest.split_whitespace().nth(11)?.parse().ok())?
        };
        stats.filter_map(ticks).collect()
    }

    /// Waits for a log line.
    pub async fn logged(&mut self, what: impl Fn(&str) -> bool) -> String {
        within(self.stdout.find(what)).await.expect("the line is logged")
    }

    /// Asks it to end.
    pub async fn terminate(&self) {
        let pid = self.child.id().expect("it still runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill runs").success());
    }
}

/// A server that listens.
pub struct Running {
    /// Its process.
    pub server: Server,
    /// Its port.
    pub port: u16,
    /// A client for its routes.
    pub http: reqwest::Client,
}

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; null where it is empty.
    pub body: Value,
}

impl Index<&str> for Answer {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        &self.body[name]
    }
}

impl Running {
    /// Starts one and waits until it listens.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Server::spawn(settings).listening().await
    }

    /// The address of a route.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(self.url(path))).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.http.post(self.url(path)).json(&body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.http.delete(self.url(path))).await
    }

    /// The value of a metric, its labels as they are written.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = within(self.http.get(self.url("/metrics")).send()).await.expect("an answer");
        let text = text.text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    /// Waits for a log line.
    pub async fn logged(&mut self, what: impl Fn(&str) -> bool) -> String {
        self.server.logged(what).await
    }

    /// An MCP client that begins as told.
    pub async fn client_with(
        &self,
        lifecycle: ClientLifecycleMode,
    ) -> RunningService<RoleClient, ClientConfig> {
        let transport = StreamableHttpClientTransport::from_uri(self.url("/mcp"));
        let client = ClientConfig::default().serve_with_lifecycle(transport, lifecycle);
        within(client).await.expect("the client connects")
    }

    /// An MCP client of the current protocol that falls back to the earlier one.
    pub async fn client(&self) -> RunningService<RoleClient, ClientConfig> {
        self.client_with(ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        })
        .await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = within(request.send()).await.expect("an answer");
    let status = response.status().as_u16();
    let text = within(response.text()).await.expect("text");
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(text.into()) };
    Answer { status, body }
}

/// Calls a tool.
pub async fn call(
    client: &RunningService<RoleClient, ClientConfig>,
    tool: &'static str,
    arguments: Value,
) -> CallToolResult {
    let arguments = arguments.as_object().cloned().expect("an object");
    let request = CallToolRequestParams::new(tool).with_arguments(arguments);
    within(client.call_tool(request)).await.expect("a result")
}

/// A Postgres for one test.
pub struct Postgres {
    /// How to reach it.
    pub url: String,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Postgres {
    /// Starts one. None where PostgreSQL is not installed, except in CI, which must have it.
    pub async fn start() -> Option<Self> {
        let Some(bin) = postgres_programs() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("mcp-pg").tempdir_in("/tmp").expect("a folder");
        let owner = owner(folder.path()).await;
        let data = folder.path().join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "mcp", "--no-sync", "-D"]).arg(&data).stdout(Stdio::null());
        run_as(&mut initdb, owner, folder.path());
        assert!(initdb.status().await.expect("initdb runs").success());

        let port = free_port();
        let mut postgres = Command::new(bin.join("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-p", &port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=20"]);
        run_as(&mut postgres, owner, folder.path());
        let mut child = postgres.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("postgres starts");
        let mut lines = Lines::read(child.stderr.take().expect("piped"));
        within(lines.find(|line| line.contains("ready to accept connections"))).await.expect("it gets ready");
        let url = format!("postgres://mcp@127.0.0.1:{port}/postgres");
        Some(Self { url, _child: child, _folder: folder })
    }

    /// A connection beside the server's.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let connected = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("a connection");
        tokio::spawn(connection);
        client
    }
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = debian.chain(std::env::split_paths(&path));
    candidates.find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// Postgres refuses to run as root: then it runs as its own user, who gets the folder.
async fn owner(folder: &std::path::Path) -> Option<(u32, u32)> {
    if id("-u", None).await != Some(0) {
        return None;
    }
    let owner = (id("-u", Some("postgres")).await?, id("-g", Some("postgres")).await?);
    std::os::unix::fs::chown(folder, Some(owner.0), Some(owner.1)).expect("chown");
    Some(owner)
}

async fn id(flag: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(flag).args(user).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn run_as(command: &mut Command, owner: Option<(u32, u32)>, folder: &std::path::Path) {
    command.current_dir(folder);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
}
