//! The node: a set of namespaces in which every process, mount and network device of the cluster lives.
//!
//! Its first process holds the namespaces for processes, mounts and the network. When that one ends, the
//! kernel ends all others with it, and their mounts and network devices go too. Whatever was killed, nothing
//! is left to find.
//!
//! A cluster whose node is simulated has no namespaces: its few parts are plain processes of this machine,
//! known by the cluster's folder on their command lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{last_lines, spawn_error, which};
use crate::endpoints::is_free;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::network::ip_program;
use crate::process::{self, PidRecord, Process, wait_until};
use crate::state::{Layout, Saved, write_folder};
use crate::{cgroups, link, machine};

/// What marks the first process of a node on its command line.
const MARK: &str = "mcp-health-node";

/// The parts that run without a node, in the order in which they start.
const PARTS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"];

/// The operator, where it runs beside such a cluster.
pub const OPERATOR: &str = "mcp-health-operator";

/// What asks such a cluster something: a command that was killed leaves one behind.
const CLIENTS: [&str; 2] = ["kubectl", "helm"];

/// A running node, or the place of the parts that need none.
pub struct Node<'a> {
    layout: &'a Layout,
    /// The first process of its namespaces; none where it has none.
    record: Option<PidRecord>,
}

/// Finds the cluster's node, or starts one. `pause` is the program that holds its namespaces.
pub fn ensure<'a>(layout: &'a Layout, saved: &mut Saved, pause: &Path) -> Result<Node<'a>> {
    if let Some(record) = find(layout, saved) {
        return Ok(Node { layout, record: Some(record) });
    }
    // Nothing of an earlier node runs any more: its sockets, its groups and its link are of no use.
    saved.daemons.clear();
    cgroups::remove(layout)?;
    link::remove(layout)?;
    let _lock = machine::lock()?;
    if layout.run.exists() {
        fs::remove_dir_all(&layout.run).map_err(Error::file("remove", &layout.run))?;
    }
    machine::prepare()?;
    cgroups::ensure(layout)?;
    let record = start(layout, saved, pause)?;
    saved.node = Some(record.clone());
    saved.store(layout)?;
    cgroups::adopt(layout, record.pid);
    Ok(Node { layout, record: Some(record) })
}

/// The process that tells that the cluster runs: the node's first, or any part where there is no node. It is
/// found also when its start was cut short before it was recorded.
pub fn find(layout: &Layout, saved: &Saved) -> Option<PidRecord> {
    if saved.kind == Kind::Simulated {
        let found = parts_here(layout).into_iter();
        return found.map(|process| process.record).next();
    }
    saved.node.clone().filter(PidRecord::is_alive).or_else(|| {
        let found = process::find(|argv| argv.len() == 3 && argv[1] == MARK && argv[2] == layout.id);
        found.into_iter().next().map(|process| process.record)
    })
}

fn start(layout: &Layout, saved: &mut Saved, pause: &Path) -> Result<PidRecord> {
    // The usual places, each backed by a folder of the cluster, so that the node's programs keep their
    // defaults.
    let mounts = [
        (layout.dir.join("containerd"), "/var/lib/containerd"),
        (layout.dir.join("kubelet"), "/var/lib/kubelet"),
        (layout.dir.join("logs/pods"), "/var/log/pods"),
        (layout.dir.join("logs/containers"), "/var/log/containers"),
        (layout.run.join("containerd"), "/run/containerd"),
        (layout.run.join("cni"), "/var/lib/cni"),
        (layout.run.join("netns"), "/run/netns"),
    ];
    let ready = layout.run.join("node-ready");
    // Mounts inside are shared among the node's own processes, and never leave the node.
    let mut script = "mount --make-rshared /\n".to_owned();
    for (from, to) in &mounts {
        write_folder(from)?;
        create_mount_point(saved, Path::new(to))?;
        let _ = writeln!(script, "mount --bind '{}' '{to}'", from.display());
    }
    // Remembered before anything runs, so that `down` also removes them after a start that was cut short.
    saved.store(layout)?;
    machine::remember(&saved.created_folders)?;
    let _ = writeln!(
        script,
        "'{ip}' link set lo up\n\
         echo 1 > /proc/sys/net/ipv4/ip_forward\n\
         for which in all default; do echo 0 > /proc/sys/net/ipv4/conf/$which/send_redirects; done\n\
         if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then\n\
         echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables\n\
         fi\n\
         : > '{ready}'\n\
         exec '{pause}' {MARK} {id}",
        ip = ip_program().display(),
        ready = ready.display(),
        pause = pause.display(),
        id = layout.id,
    );

    let log = layout.log("node");
    let mut command = Command::new("setsid");
    command
        .args(["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "slave"])
        .args(["sh", "-euc", &script])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(open_log(&log)?);
    let mut child = command.spawn().map_err(|source| spawn_error(&command, source))?;
    let mut found = None;
    let saved = Saved::default();
    wait_until(Duration::from_secs(10), || {
        found = find(layout, &saved).filter(|_| ready.exists());
        found.is_some() || child.try_wait().is_ok_and(|status| status.is_some())
    });
    found.ok_or_else(|| Error::Part {
        part: "the node's namespaces".to_owned(),
        problem: "did not come up".to_owned(),
        log: log_tail(&log),
    })
}

/// Creates a folder to mount over, and remembers each level that was not there.
fn create_mount_point(saved: &mut Saved, path: &Path) -> Result<()> {
    let absent: Vec<PathBuf> =
        path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    for folder in absent {
        if !saved.created_folders.contains(&folder) {
            saved.created_folders.push(folder);
        }
    }
    write_folder(path)
}

/// The processes of a cluster without a node.
fn parts_here(layout: &Layout) -> Vec<Process> {
    // The operator is called by a link in the folder; nothing else of its command line has it.
    called_here(layout, |name| PARTS.contains(&name) || name == OPERATOR)
}

/// The processes of such a name that have the cluster's folder on their command lines, in the order of their
/// start.
fn called_here(layout: &Layout, is_wanted: impl Fn(&str) -> bool) -> Vec<Process> {
    let folder = format!("{}/", layout.dir.display());
    let mut found = process::find(|argv| {
        let mut names = argv.iter().map(|word| word.rsplit('/').next().unwrap_or_default());
        // One that has not become its part yet is one all the same.
        let name = names.find(|name| !["env", "setsid"].contains(name)).unwrap_or_default();
        is_wanted(name) && argv.iter().any(|argument| argument.contains(&folder))
    });
    found.sort_by_key(|process| process.record.started);
    found
}

impl<'a> Node<'a> {
    /// No node: parts run as they are.
    pub fn none(layout: &'a Layout) -> Self {
        Self { layout, record: None }
    }
}

impl Node<'_> {
    /// The number of its first process; none where it has none.
    pub fn pid(&self) -> Option<i32> {
        self.record.as_ref().map(|record| record.pid)
    }

    /// A command that runs inside the node, or where there is none; the program and its arguments are to be
    /// added.
    pub fn enter(&self) -> Command {
        let Some(pid) = self.pid() else {
            let mut command = Command::new("env");
            command.current_dir("/");
            return command;
        };
        let mut command = Command::new(which("nsenter").unwrap_or_else(|| "nsenter".into()));
        command.args(["-t", &pid.to_string(), "-m", "-n", "-p", "--"]).current_dir("/");
        command
    }

    /// Starts a part inside the node unless it runs, with its output going to its log.
    pub fn daemon(&self, saved: &mut Saved, name: &str, program: &Path, args: &[String]) -> Result<()> {
        if let Some(record) = self.running(program) {
            saved.daemons.insert(name.to_owned(), record);
            return Ok(());
        }
        let log = self.layout.log(name);
        let output = open_log(&log)?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        self.refuse_taken_ports(saved, name)?;
        let mut command = self.enter();
        // A session of its own outlives the terminal.
        match (self.record.is_some(), which("setsid")) {
            (true, _) => command.args(["setsid", "--fork"]),
            (false, Some(setsid)) => command.arg(setsid),
            (false, None) => command.process_group(0),
        };
        command
            .arg(program)
            .args(args)
            // The parts take nothing from the environment of whoever starts the cluster, its proxies least of
            // all.
            .env_clear()
            .envs(BTreeMap::from([
                ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", "/"),
            ]))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let mut child = command.spawn().map_err(|source| spawn_error(&command, source))?;
        if self.record.is_some() {
            child.wait().map_err(|source| spawn_error(&command, source))?;
        }
        let mut record = None;
        wait_until(Duration::from_secs(5), || {
            record = self.running(program);
            record.is_some() || (self.record.is_none() && child.try_wait().is_ok_and(|ended| ended.is_some()))
        });
        let Some(record) = record else {
            return Err(self.ended(name));
        };
        if self.record.is_some() {
            cgroups::adopt(self.layout, record.pid);
        }
        saved.daemons.insert(name.to_owned(), record);
        saved.store(self.layout)
    }

    /// Waits until `ready` holds; an error with the last lines of the part's log when it ends or takes too
    /// long.
    pub fn await_daemon(
        &self,
        saved: &Saved,
        name: &str,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut ended = false;
        let came_up = wait_until(limit, || {
            ended = !saved.daemons.get(name).is_some_and(PidRecord::is_alive);
            ended || ready()
        });
        if ended {
            return Err(self.ended(name));
        }
        if !came_up {
            return Err(Error::Part {
                part: name.to_owned(),
                problem: format!("did not become ready within {} s", limit.as_secs()),
                log: log_tail(&self.layout.log(name)),
            });
        }
        Ok(())
    }

    fn ended(&self, name: &str) -> Error {
        Error::Part {
            part: name.to_owned(),
            problem: "ended right after its start".to_owned(),
            log: log_tail(&self.layout.log(name)),
        }
    }

    /// An error where a part's ports belong to another program: what the part itself says is hard to find.
    fn refuse_taken_ports(&self, saved: &Saved, name: &str) -> Result<()> {
        let (None, Some(endpoints)) = (&self.record, saved.endpoints) else { return Ok(()) };
        let taken = |port: &u16| !wait_until(Duration::from_secs(2), || is_free(*port));
        endpoints.of(name).into_iter().find(taken).map_or(Ok(()), |port| {
            Err(Error::Part {
                part: name.to_owned(),
                problem: format!(
                    "cannot come back: another program has taken its port {port} of 127.0.0.1. End that program, or \
                     take the cluster down and bring it up again: it chooses free ports then"
                ),
                log: String::new(),
            })
        })
    }

    fn running(&self, program: &Path) -> Option<PidRecord> {
        let program = program.to_string_lossy();
        let candidates = match self.pid() {
            Some(pid) => process::in_namespace_of(pid),
            None => parts_here(self.layout),
        };
        candidates
            .into_iter()
            .find(|process| process.argv.first().is_some_and(|first| *first == program))
            .map(|process| process.record)
    }
}

/// Ends the node and with it everything inside.
pub fn stop(layout: &Layout, saved: &Saved) -> Result<()> {
    if saved.kind == Kind::Simulated {
        return stop_parts(layout);
    }
    // As with a machine whose power is cut: what is inside is thrown away, nothing needs to say good-bye.
    while let Some(record) = find(layout, saved) {
        let inside = process::in_namespace_of(record.pid);
        record.kill();
        if !record.wait_gone(Duration::from_secs(15)) {
            return Err(Error::other(format!("process {} (the node) does not end", record.pid)));
        }
        for process in inside {
            if !process.record.wait_gone(Duration::from_secs(15)) {
                let name = process.argv.first().cloned().unwrap_or_default();
                return Err(Error::other(format!("process {} ({name}) does not end", process.record.pid)));
            }
        }
    }
    Ok(())
}

/// Ends the processes of a cluster without a node, the store last.
fn stop_parts(layout: &Layout) -> Result<()> {
    let clients = called_here(layout, |name| CLIENTS.contains(&name));
    for process in clients.into_iter().chain(parts_here(layout).into_iter().rev()) {
        process.record.kill();
        if !process.record.wait_gone(Duration::from_secs(15)) {
            let name = process.argv.first().cloned().unwrap_or_default();
            return Err(Error::other(format!(
                "process {} ({name}) does not end: it may be another user's",
                process.record.pid
            )));
        }
    }
    Ok(())
}

/// The last lines of a log and where it is, for the end of an error.
pub fn log_tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    format!("{}\n  its log: {}", last_lines(&text, 12), log.display())
}

fn open_log(log: &Path) -> Result<File> {
    write_folder(log.parent().unwrap_or(log))?;
    File::options().append(true).create(true).open(log).map_err(Error::file("open", log))
}
