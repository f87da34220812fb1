//! A PostgreSQL of one's own, sessions in it, and the operator's way to it.

use std::{
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use dependency_probe::{
    Barred, Permit,
    postgres::{Connection, Target},
};
use mcp_health_core::signals::{CheckStep, Failure};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

/// Long enough for everything that answers at all.
pub const SOON: Duration = Duration::from_secs(10);
/// Everything is permitted.
pub const ALL: Permit<'static> = &|_| true;
/// What the server's own sessions call themselves.
pub const APPLICATION: &str = "mcp-server";

/// A PostgreSQL for one test. Dropped, it ends.
pub struct Postgres {
    /// Its port on the loopback.
    pub port: u16,
    /// What it is started with, beside its folder.
    settings: Vec<String>,
    child: Option<Child>,
    folder: TempDir,
    owner: Option<(u32, u32)>,
    bin: PathBuf,
    /// MiB of a disk of its own, that nobody else sees.
    disk: Option<u32>,
}

impl Postgres {
    /// Starts one. None where PostgreSQL is not installed, except in CI, which must have it.
    pub async fn start(settings: &[&str]) -> Option<Self> {
        Self::start_on(None, settings).await
    }

    /// The same on a disk of so many MiB. None also where nothing may be mounted.
    pub async fn start_on_a_disk(mib: u32, settings: &[&str]) -> Option<Self> {
        let mount =
            apart(postgres_user().await).args(["sh", "-c", "mount -t tmpfs tmpfs /tmp"]).output().await;
        if !mount.as_ref().is_ok_and(|mount| mount.status.success()) {
            eprintln!("skipped: no disk can be mounted, neither as root nor in a user namespace: {mount:?}");
            return None;
        }
        Self::start_on(Some(mib), settings).await
    }

    async fn start_on(disk: Option<u32>, settings: &[&str]) -> Option<Self> {
        let Some(bin) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let on_it = |one: &mut Self| {
            one.disk = disk;
            bin
        };
        Some(Self::make(on_it, &[], settings).await)
    }

    /// One of this version, with checksums of its pages.
    pub async fn of_version(major: i32, settings: &[&str]) -> Self {
        let programs = found("MCP_HEALTH_POSTGRES").join(format!("postgres-{major}/native"));
        Self::make(|one| one.within_reach("programs", &programs).join("bin"), &["-k"], settings).await
    }

    async fn make(bin: impl FnOnce(&mut Self) -> PathBuf, flags: &[&str], settings: &[&str]) -> Self {
        let mut one = Self::empty(settings).await;
        one.bin = bin(&mut one);
        let mut initdb = one.command("initdb");
        initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"]).args(flags);
        initdb.arg("-D").arg(one.data());
        assert!(initdb.stdout(Stdio::null()).status().await.unwrap().success());
        one.run().await;
        let admin = one.client("postgres", "test").await;
        for statement in [
            "CREATE ROLE mcp LOGIN",
            "CREATE DATABASE mcp_prod OWNER mcp",
            "CREATE ROLE mcp_health LOGIN PASSWORD 'pl4nted'",
            "GRANT pg_monitor, pg_signal_backend TO mcp_health",
        ] {
            admin.batch_execute(statement).await.unwrap();
        }
        one
    }

    /// A folder for one.
    async fn empty(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("mcp-pg").tempdir_in("/tmp").unwrap();
        let owner = owner(folder.path()).await;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self { port: free_port(), settings, child: None, folder, owner, bin: PathBuf::new(), disk: None }
    }

    /// One that follows this one, called so; this one is stopped for it, and runs again.
    pub async fn replica(&mut self, name: &str) -> Self {
        let from = format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        let mut replica = Self::empty(&[&format!("primary_conninfo={from}")]).await;
        replica.bin.clone_from(&self.bin);
        self.copy(&self.data(), &replica.data());
        replica.file("data/standby.signal", "");
        self.run().await;
        replica.run().await;
        replica
    }

    /// Runs it, and waits until it answers.
    pub async fn run(&mut self) {
        let mut command = match self.disk {
            Some(mib) => self.on_a_disk(mib),
            None => self.command("postgres"),
        };
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
        awaited(async || self.try_client("postgres", "postgres", "test").await.ok()).await;
    }

    /// PostgreSQL with a copy of its data on a disk that only it sees, and that is gone with it.
    fn on_a_disk(&self, mib: u32) -> Command {
        const MOUNT: &str = "mkdir disk && mount -t tmpfs -o size=$0m tmpfs disk && cp -a data/. disk && \
                             mount --bind disk data && exec \"$@\"";
        let mut command = apart(self.owner);
        command.current_dir(self.folder.path()).args(["sh", "-c", MOUNT, &mib.to_string()]);
        match self.owner {
            Some((user, group)) => {
                let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
                command.args(["setpriv", &user, &group, "--clear-groups"]);
            }
            // Root of its own namespace; PostgreSQL takes nobody by that name.
            None => {
                command.args(["unshare", "--user", "--map-user=1000", "--map-group=1000"]);
            }
        }
        command.arg(self.bin.join("postgres"));
        command
    }

    /// Ends it at once, with everybody's sessions.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        Self::signal(&child, "-INT");
        child.wait().await.unwrap();
    }

    /// Sends its main process, and those of all sessions, a signal.
    pub fn signal_all(&self, signal: &str) {
        let child = self.child.as_ref().unwrap();
        let main = child.id().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap();
        Self::signal(child, signal);
        for pid in children.split_whitespace() {
            // One of them may have ended just now.
            let _ = std::process::Command::new("kill").args([signal, pid]).stderr(Stdio::null()).status();
        }
    }

    fn signal(child: &Child, signal: &str) {
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Where its data are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file in its folder that it may read.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = self.owner {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// Who may log in how, from now on.
    pub async fn let_in(&self, rules: &str) {
        std::fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
        let admin = self.client("postgres", "test").await;
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    /// A program, run as its owner in its folder.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        self.own(&mut command);
        command
    }

    /// A folder of programs where its owner may read it: a cache is often one user's alone.
    pub fn within_reach(&self, name: &str, programs: &Path) -> PathBuf {
        if self.owner.is_none() {
            return programs.to_owned();
        }
        let copy = self.folder.path().join(name);
        if !copy.exists() {
            self.copy(programs, &copy);
        }
        copy
    }

    /// Copies a folder, for its owner.
    fn copy(&self, from: &Path, to: &Path) {
        let run = |command: &mut std::process::Command| assert!(command.status().unwrap().success());
        run(std::process::Command::new("cp").arg("-a").arg(from).arg(to));
        if let Some((user, group)) = self.owner {
            run(std::process::Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(to));
        }
    }

    /// Has a program run as its owner in its folder.
    pub fn own(&self, command: &mut Command) {
        command.current_dir(self.folder.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
    }

    /// A superuser's session in `postgres`, or another role's in `mcp_prod`, by a socket of the machine.
    pub async fn client(&self, user: &str, application: &str) -> Client {
        let database = if user == "postgres" { "postgres" } else { "mcp_prod" };
        self.try_client(user, database, application).await.unwrap()
    }

    async fn try_client(
        &self,
        user: &str,
        database: &str,
        application: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let words = format!(
            "host={} port={} user={user} dbname={database} application_name={application}",
            self.folder.path().display(),
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&words, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A session of the application's.
    pub async fn session(&self) -> Client {
        self.client("mcp", APPLICATION).await
    }

    /// A session of the application's that has begun a transaction, and does nothing.
    pub async fn leak(&self, statement: &str) -> Client {
        let client = self.session().await;
        client.batch_execute(&format!("BEGIN; {statement}")).await.unwrap();
        client
    }

    /// A statement of a superuser's in the application's database.
    pub async fn administer(&self, statement: &str) {
        let admin = self.try_client("postgres", "mcp_prod", "test").await.unwrap();
        admin.batch_execute(statement).await.unwrap();
    }

    /// The operator's target.
    pub fn target(&self, more: &str) -> Target {
        target(self.port, more)
    }

    /// The operator's connection.
    pub async fn connection(&self) -> Connection {
        Connection::open(&self.target(""), None, ALL, SOON).await.0.unwrap()
    }

    /// How many sessions of the application there are.
    pub async fn count(&self) -> i64 {
        let admin = self.client("postgres", "test").await;
        let question = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        admin.query_one(question, &[&APPLICATION]).await.unwrap().get(0)
    }
}

/// The operator's target on a port of this machine.
pub fn target(port: u16, more: &str) -> Target {
    Target::parse(&format!("postgres://mcp_health:pl4nted@127.0.0.1:{port}/mcp_prod{more}")).unwrap()
}

/// The step that a connection fails at. The words never show the password.
pub async fn failure(target: &Target, patience: Duration) -> Failure {
    match Connection::open(target, None, ALL, patience).await.0 {
        Err(Barred::Failed(failure)) => {
            assert!(!format!("{failure} {failure:?} {target:?}").contains("pl4nted"));
            failure
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it connects"),
    }
}

/// That step, and words of it.
pub async fn fails(target: &Target, step: CheckStep, says: &str) {
    let failure = failure(target, SOON).await;
    assert!(failure.step == step && failure.said.contains(says), "{failure}");
}

/// Awaits that `holds` gives something.
pub async fn awaited<T>(mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + 3 * SOON;
    loop {
        if let Some(found) = timeout(SOON, holds()).await.ok().flatten() {
            return found;
        }
        assert!(Instant::now() < until, "it does not come about");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A program in mounts of its own, which root may make, and others as root of a namespace of their own.
fn apart(owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if owner.is_none() {
        command.arg("--map-root-user");
    }
    command
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where programs are, as `cargo xtask test` says.
pub fn found(variable: &str) -> PathBuf {
    let set = std::env::var_os(variable);
    set.unwrap_or_else(|| panic!("{variable} is not set: run this by `cargo xtask test`")).into()
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = debian.chain(std::env::split_paths(&path));
    candidates.find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// Postgres refuses to run as root: then it runs as its own user, who gets the folder.
async fn owner(folder: &Path) -> Option<(u32, u32)> {
    let owner = postgres_user().await?;
    chown(folder, Some(owner.0), Some(owner.1)).unwrap();
    Some(owner)
}

/// Postgres' own user, where the test runs as root.
async fn postgres_user() -> Option<(u32, u32)> {
    if id("-u", None).await != Some(0) {
        return None;
    }
    Some((id("-u", Some("postgres")).await?, id("-g", Some("postgres")).await?))
}

async fn id(flag: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(flag).args(user).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
