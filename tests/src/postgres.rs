//! A PostgreSQL of a story's own: this machine's programs in a pod, a database with the server's role and the operator's,
//! made by the very file that users are given for it.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
};
use xtask::postgres::{ROLE, START};

use crate::{
    Story, environment, host,
    program::{Program, Running},
    until,
};

/// What the server logs in with; nobody is to see it.
pub const SERVER_PASSWORD: &str = "pl4nted-s3rver";
/// What the operator logs in with; nobody is to see it.
pub const OPERATOR_PASSWORD: &str = "pl4nted-0perator";

/// The database.
pub const DATABASE: &str = "mcp_prod";
/// The role that the server comes as.
pub const USER: &str = "mcp_user";
/// The role that the operator comes as.
pub const OPERATOR: &str = "mcp_health";
/// What the server's sessions call themselves where nothing else is said.
pub const APPLICATION: &str = "mcp-server";

/// What the pod and its Service are called; and the Secret with the operator's URL, whose key is `url`.
const NAME: &str = "postgres";
/// The Secret with the server's URL.
const SERVER_SECRET: &str = "server-database";

/// The container with `psql` in a server's pods.
const BESIDE: &str = "psql";

/// Where a small disk of its own is.
const SMALL: &str = "/small";

/// Keeps it running, but for while it is stopped. Its data outlives it.
const KEEP: &str =
    "while :; do [ -e /data/stopped ] || /usr/bin/sh /files/start.sh; /usr/bin/sleep 0.1; done";

/// See the module.
pub struct Postgres<'a> {
    /// The pod.
    pub program: Running<'a>,
    bin: String,
}

impl<'a> Postgres<'a> {
    /// Starts it with these settings (`max_connections = 20`), and waits until it takes connections.
    pub async fn start(story: &'a Story, settings: &[&str]) -> Self {
        Self::start_with(story, settings, |program| program).await
    }

    /// The same, with the database on a disk of its own that holds no more than so much (`48Mi`); its write-ahead log is
    /// elsewhere.
    pub async fn start_on_a_small_disk(story: &'a Story, settings: &[&str], size: &'static str) -> Self {
        let postgres = Self::start_with(story, settings, |program| program.small_folder(SMALL, size)).await;
        let moved = format!(
            "mkdir {SMALL}/database && echo \"CREATE TABLESPACE small LOCATION '{SMALL}/database'; \
             ALTER DATABASE {DATABASE} SET TABLESPACE small\" | \
             \"$0\"/psql -Xq --set=ON_ERROR_STOP=1 --host=/tmp --username=postgres --dbname=postgres"
        );
        postgres.shell(&moved).await;
        postgres
    }

    async fn start_with(
        story: &'a Story,
        settings: &[&str],
        change: impl FnOnce(Program) -> Program,
    ) -> Self {
        environment::needs_a_node("PostgreSQL in a pod");
        let version = xtask::postgres::version();
        let version = version.unwrap_or_else(|| panic!("{}", xtask::postgres::how_to_install()));
        let server = format!(
            "CREATE ROLE {USER} LOGIN PASSWORD '{SERVER_PASSWORD}';\nGRANT CREATE ON SCHEMA public TO {USER};\n"
        );
        let password = format!("ALTER ROLE {OPERATOR} PASSWORD '{OPERATOR_PASSWORD}';\n");
        let files = json!({
            "start.sh": START, "settings.conf": settings.join("\n"),
            "1-server.sql": server, "2-role.sql": ROLE, "3-password.sql": password,
        });
        let program = Program::new(NAME, &["/usr/bin/sh", "-c", KEEP], &[5432]);
        let program = change(program.files(files).user(65532)).start(story).await;
        let postgres = Self { bin: format!("/usr/lib/postgresql/{version}/bin"), program };
        let address = postgres.address();
        postgres.operator_asks(&address).await;
        postgres.server_uses(&address).await;
        postgres.ready().await;
        postgres
    }

    async fn ready(&self) {
        self.program.ready().await;
        until("PostgreSQL answers", async || self.ask("SELECT 1").await.map(drop)).await;
    }

    /// Has the operator's Secret lead there.
    pub async fn operator_asks(&self, address: &str) {
        let url = url(OPERATOR, OPERATOR_PASSWORD, address);
        self.program.story.secret(NAME, &[("url", &url)]).await;
    }

    /// Has the servers' Secret lead there.
    pub async fn server_uses(&self, address: &str) {
        self.program.story.secret(SERVER_SECRET, &[("url", &url(USER, SERVER_PASSWORD, address))]).await;
    }

    /// The URL of a role, by the Service.
    pub fn url(&self, user: &str, password: &str) -> String {
        url(user, password, &self.address())
    }

    /// Where it is, by the Service.
    pub fn address(&self) -> String {
        format!("{}:5432", self.program.host())
    }

    /// The server's URL.
    pub fn server_url(&self) -> String {
        self.url(USER, SERVER_PASSWORD)
    }

    /// What a policy says of it: it is looked at every second.
    pub fn signal(&self) -> Value {
        json!({"connectionSecretRef": {"name": NAME, "key": "url"}, "interval": "1s", "timeout": "2s"})
    }

    /// What a statement answers, as a superuser: a line a row, `|` between columns.
    pub async fn query(&self, sql: &str) -> String {
        self.ask(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn ask(&self, sql: &str) -> Result<String, String> {
        self.ask_as("postgres", sql).await
    }

    /// What a statement answers to a role, or why not.
    pub async fn ask_as(&self, user: &str, sql: &str) -> Result<String, String> {
        let user = format!("--username={user}");
        let psql = format!("{}/psql", self.bin);
        let psql = [&psql, "-XqAt", "--host=/tmp", &user, "--set=ON_ERROR_STOP=1"];
        let said = self.program.run(&[&psql[..], &["--dbname", DATABASE, "--command", sql]].concat()).await;
        if said.well { Ok(said.out.trim().to_owned()) } else { Err(said.err) }
    }

    /// Awaits what a statement answers.
    pub async fn until(&self, sql: &str, answer: &str) {
        until(&format!("{sql}: {answer}"), async || {
            let said = self.ask(sql).await?;
            if said == answer { Ok(()) } else { Err(said) }
        })
        .await;
    }

    /// How many sessions of an application are in this state.
    pub async fn sessions(&self, application: &str, state: &str) -> usize {
        let ask = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND state = '{state}'"
        );
        self.query(&ask).await.parse().expect("a number")
    }

    /// Has a server use the database by a pool of so many connections; and puts a container with `psql` into its pods, so
    /// that sessions come from their addresses.
    pub fn used(&self, pool: usize) -> impl FnOnce(&mut Value) + use<> {
        let own = [
            json!({"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": SERVER_SECRET, "key": "url"}}}),
            json!({"name": "DB_POOL_SIZE", "value": pool.to_string()}),
        ];
        let (volumes, mounts) = host::folders(&host::system());
        let beside = json!({"name": BESIDE, "image": host::IMAGE, "volumeMounts": mounts});
        move |deployment| {
            let pod = &mut deployment["spec"]["template"]["spec"];
            pod["volumes"] = volumes;
            let containers = pod["containers"].as_array_mut().expect("containers");
            containers[0]["env"].as_array_mut().expect("the manifest has an env").extend(own);
            containers.push(beside);
        }
    }

    /// Opens a session of the server's role from this pod of the server, that calls itself so.
    pub async fn session_of(&self, pod: &str, application: &str) -> Session {
        let connection = format!("{}?application_name={application}", self.server_url());
        self.open(&[pod, "--container", BESIDE], &connection).await
    }

    /// Opens a session of a role from nowhere that a server is.
    pub async fn session(&self, user: &str, application: &str) -> Session {
        let connection = format!("host=/tmp user={user} dbname={DATABASE} application_name={application}");
        self.open(&[NAME], &connection).await
    }

    async fn open(&self, container: &[&str], connection: &str) -> Session {
        let psql = format!("{}/psql", self.bin);
        let mut kubectl = Command::new(environment::kubectl())
            .args(["--namespace", &self.program.story.namespace, "exec", "--stdin"])
            .args(container)
            .args(["--", &psql, "-XqAt", connection])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl can be run");
        let mut input = kubectl.stdin.take().expect("piped");
        input.write_all(b"SELECT pg_backend_pid();\n").await.expect("psql reads");
        let mut lines = BufReader::new(kubectl.stdout.take().expect("piped")).lines();
        let pid = lines.next_line().await.ok().flatten().unwrap_or_default();
        let pid = pid.parse().unwrap_or_else(|_| panic!("a session tells no process: {pid:?}"));
        // Left unread, its answers would end it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Session { pid, input, _kubectl: kubectl }
    }

    /// Stops it: nobody listens. Its data stays.
    pub async fn stop(&self) {
        self.shell(
            "touch /data/stopped; \"$0\"/pg_ctl stop --pgdata=/data/postgresql --mode=immediate --silent",
        )
        .await;
    }

    /// Starts it again.
    pub async fn start_again(&self) {
        self.shell("rm /data/stopped").await;
        self.ready().await;
    }

    /// Fills its disk with rows, to the last page.
    pub async fn fill(&self) {
        self.query("CREATE TABLE filler (words text)").await;
        let more = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 2000)";
        until("the disk is full", async || match self.ask(more).await {
            Err(error) if error.contains("No space left on device") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Ends all sessions of a role.
    pub async fn hang_up(&self, user: &str) {
        self.query(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'"
        ))
        .await;
    }

    /// Takes so many connections of others, until the pod is gone.
    pub async fn crowd(&self, count: usize) {
        let one = format!(
            "sleep 1000 | \"$0\"/psql -Xq 'host=/tmp user={USER} dbname={DATABASE} application_name=crowd'"
        );
        let all = format!("for i in $(seq {count}); do ({one}) >/dev/null 2>&1 & done");
        self.shell(&all).await;
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crowd'";
        self.until(ask, &count.to_string()).await;
    }

    /// Sends the crowd home.
    pub async fn disperse(&self) {
        self.query(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'crowd'",
        )
        .await;
    }

    async fn shell(&self, script: &str) {
        let script = format!("PATH=/usr/bin; {script}");
        self.program.run(&["/usr/bin/sh", "-c", &script, &self.bin]).await.ok();
    }
}

fn url(user: &str, password: &str, address: &str) -> String {
    format!("postgres://{user}:{password}@{address}/{DATABASE}")
}

/// A session that stays until it is dropped, or ended by somebody.
pub struct Session {
    /// Its process.
    pub pid: i32,
    input: ChildStdin,
    _kubectl: Child,
}

impl Session {
    /// Has it run this; waits for nothing.
    pub async fn tell(&mut self, sql: &str) {
        self.input.write_all(format!("{sql};\n").as_bytes()).await.expect("psql reads");
    }

    /// Has it run this, and awaits the state that it is in then: `active` where it waits, or runs for long.
    pub async fn tell_until(&mut self, postgres: &Postgres<'_>, sql: &str, state: &str) {
        self.tell(sql).await;
        // By its last statement it is told from how it was before.
        let words = sql.rsplit(';').next().unwrap_or_default().trim().replace('\'', "''");
        let ask = format!(
            "SELECT state FROM pg_stat_activity WHERE pid = {} AND position('{words}' in query) > 0",
            self.pid
        );
        postgres.until(&ask, state).await;
    }

    /// Whether it is still there.
    pub async fn is_there(&self, postgres: &Postgres<'_>) -> bool {
        let ask = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", self.pid);
        postgres.query(&ask).await == "1"
    }
}
