//! The commands where rights are missing: as another user, without capabilities, with what they need taken
//! away.
//!
//! Heavy ones need the parts: `cargo test -p xtask --test simulated -- --ignored`. What takes rights away
//! needs root to do so, and says so where it is not.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cluster::parts;
use cluster::process::{self, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A user without any rights.
const NOBODY: &str = "65534";

/// The program, a cache that has the parts by links, and an ordinary user's view of both.
struct Machine {
    folder: TempDir,
    /// Words that come before the program: what takes rights away.
    without: Vec<String>,
    /// `PATH`.
    path: String,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("xtask-").tempdir_in("/tmp").unwrap();
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        open(folder.path());
        let program = folder.path().join("xtask");
        // Not copied by this process: a program that another test starts meanwhile would have the copy open
        // for writing.
        let copied =
            Command::new("cp").args([env!("CARGO_BIN_EXE_xtask").as_ref(), program.as_path()]).status();
        assert!(copied.unwrap().success());
        let cache = folder.path().join("cache");
        fs::create_dir(&cache).unwrap();
        open(&cache);
        Self { folder, without: Vec::new(), path: std::env::var("PATH").unwrap() }
    }

    /// Brings the parts into its cache: copies, since another user may not follow a link into ours.
    fn with_parts(self) -> Self {
        parts::ensure(&parts::SIMULATED).unwrap();
        for part in parts::SIMULATED {
            let from = part.folder().unwrap();
            let to = self.cache().join("parts").join(from.file_name().unwrap()).join("bin");
            fs::create_dir_all(&to).unwrap();
            for program in part.programs() {
                let file = to.join(program);
                fs::hard_link(from.join("bin").join(program), &file)
                    .or_else(|_| fs::copy(from.join("bin").join(program), &file).map(drop))
                    .unwrap();
            }
        }
        fs::set_permissions(self.cache().join("parts"), fs::Permissions::from_mode(0o777)).unwrap();
        self
    }

    /// Nobody asks: no root, no capabilities.
    fn without_rights(mut self) -> Self {
        let words = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
        self.without.extend(words.map(str::to_owned));
        self
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn clusters(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache().join("clusters")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let program = self.folder.path().join("xtask").display().to_string();
        let mut words = self.without.iter().map(String::as_str).chain([program.as_str()]);
        Command::new(words.next().unwrap())
            .args(words)
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.folder.path())
            .env("MCP_HEALTH_CACHE", self.cache())
            .output()
            .unwrap()
    }

    fn up(&self) -> Output {
        self.run(&["cluster", "up", "--name", "rights", "--no-install"])
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let cluster = self.cache().join("clusters/rights");
        let output = Command::new(cluster.join("bin/kubectl"))
            .arg("--kubeconfig")
            .arg(cluster.join("kubeconfig"))
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The processes that have anything of this machine on their command lines.
    fn processes(&self) -> BTreeSet<i32> {
        let folder = self.folder.path().display().to_string();
        let mine = |argv: &[String]| argv.iter().any(|word| word.contains(&folder));
        process::find(mine).into_iter().map(|process| process.record.pid).collect()
    }

    /// Fails if anything was left: a process, or a cluster's files.
    fn has_nothing_left(&self) {
        assert_eq!(self.processes(), BTreeSet::new());
        assert_eq!(self.clusters(), Vec::<PathBuf>::new());
    }
}

impl Drop for Machine {
    /// What a test that failed has left.
    fn drop(&mut self) {
        for pid in self.processes().into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

#[track_caller]
fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "it succeeded: {}", said(output));
    said(output)
}

#[test]
fn without_go_it_says_what_to_install_and_leaves_nothing() {
    let mut machine = Machine::new();
    machine.path = "/nonexistent".to_owned();
    let told = failed(&machine.run(&["cluster", "up", "--name", "rights", "--node", "simulated"]));
    assert!(told.contains("Go 1.26.6 or later, to build kubernetes, etcd, helm, kwok"), "{told}");
    assert!(told.contains("https://go.dev/dl") && told.contains("KUBEBUILDER_ASSETS"), "{told}");
    assert!(told.contains("--context NAME"), "{told}");
    machine.has_nothing_left();
}

#[test]
fn with_an_older_go_it_says_which_is_there() {
    let mut machine = Machine::new();
    let bin = machine.folder.path().join("go-bin");
    fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\n[ \"$1\" = version ] && echo go version go1.22.1 linux/amd64 || echo local\n";
    fs::write(bin.join("go"), script).unwrap();
    fs::set_permissions(bin.join("go"), fs::Permissions::from_mode(0o755)).unwrap();
    machine.path = format!("{}:/usr/bin:/bin", bin.display());
    let told = failed(&machine.run(&["cluster", "up", "--name", "rights", "--node", "simulated"]));
    assert!(told.contains("Go 1.26.6 or later") && told.contains("here is: go version go1.22.1"), "{told}");
    machine.has_nothing_left();
}

#[test]
fn a_folder_of_ready_made_programs_says_what_it_lacks() {
    let machine = Machine::new();
    let assets = machine.folder.path().join("assets");
    fs::create_dir(&assets).unwrap();
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        fs::write(assets.join(name), "").unwrap();
    }
    let output = Command::new(machine.folder.path().join("xtask"))
        .args(["cluster", "up", "--name", "rights", "--node", "simulated"])
        .env_clear()
        .env("PATH", "/nonexistent")
        .env("MCP_HEALTH_CACHE", machine.cache())
        .env("KUBEBUILDER_ASSETS", &assets)
        .output()
        .unwrap();
    let told = failed(&output);
    let lacks = "KUBEBUILDER_ASSETS would need kube-controller-manager, kube-scheduler, helm, kwok too";
    assert!(told.contains(lacks), "{told}");
    machine.has_nothing_left();
}

#[test]
fn ci_requires_a_real_node() {
    let mut machine = Machine::new();
    if is_root() {
        machine = machine.without_rights();
    }
    machine.without.splice(0..0, ["env".to_owned(), "CI=true".to_owned()]);
    let told = failed(&machine.run(&["test", "--name", "rights", "--no-install"]));
    assert!(told.contains("CI is set, which requires a real node") && told.contains("root"), "{told}");
    assert!(!told.contains("--node simulated"), "it would be refused as well: {told}");
    machine.has_nothing_left();
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    if !is_root() {
        return;
    }
    let machine = Machine::new().without_rights();
    fs::set_permissions(machine.cache(), fs::Permissions::from_mode(0o755)).unwrap();
    let told = failed(&machine.up());
    assert!(
        told.contains(&machine.cache().display().to_string()) && told.contains("Permission denied"),
        "{told}"
    );
    machine.has_nothing_left();
}

#[test]
#[ignore = "needs the parts of a cluster: minutes the first time"]
fn an_ordinary_user_gets_a_simulated_node_that_does_what_templates_ask_for() {
    let machine =
        if is_root() { Machine::new().with_parts().without_rights() } else { Machine::new().with_parts() };
    let told = failed(&machine.run(&["cluster", "up", "--name", "rights", "--node", "real", "--no-install"]));
    for word in ["root", "namespaces", "control groups", "--node simulated", "--context NAME"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    machine.has_nothing_left();

    let told = succeeded(&machine.up());
    assert!(told.contains("SIMULATED") && told.contains("root: this is user"), "{told}");
    let first = machine.processes();
    assert_eq!(first.len(), 5);
    let told = succeeded(&machine.up());
    assert!(!told.contains("SIMULATED"), "it was said the first time: {told}");
    assert_eq!(machine.processes(), first, "twice is the same as once");

    pods_do_what_their_templates_ask_for(&machine);

    // Some part, then all but one: the start after it brings back what is missing.
    let api_server = process::find(|argv| argv[0].ends_with("/kube-apiserver"));
    let mine = api_server.into_iter().find(|one| first.contains(&one.record.pid)).unwrap();
    mine.record.kill();
    assert!(mine.record.wait_gone(Duration::from_secs(10)));
    succeeded(&machine.up());
    assert_eq!(machine.processes().len(), 5);

    // A port that somebody takes while it is down is given up for another one.
    let kubeconfig = machine.cache().join("clusters/rights/kubeconfig");
    let port = |text: &str| text.split("127.0.0.1:").nth(1).unwrap()[..5].trim_end_matches('"').to_owned();
    let before = port(&fs::read_to_string(&kubeconfig).unwrap());
    for process in process::find(|argv| argv.iter().any(|word| word.contains("clusters/rights/"))) {
        if machine.processes().contains(&process.record.pid) {
            process.record.kill();
            assert!(process.record.wait_gone(Duration::from_secs(10)));
        }
    }
    // Another test's cluster may have been faster: taken it is.
    let taken = TcpListener::bind(format!("127.0.0.1:{before}"));
    succeeded(&machine.up());
    assert_ne!(port(&fs::read_to_string(&kubeconfig).unwrap()), before);
    drop(taken);

    succeeded(&machine.run(&["cluster", "down", "--name", "rights"]));
    machine.has_nothing_left();
    succeeded(&machine.run(&["cluster", "down", "--name", "rights"]));
}

/// Five Deployments, each with something of its own.
fn pods_do_what_their_templates_ask_for(machine: &Machine) {
    let deployment = |name: &str, annotations: &str, container: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: default}}, spec: {{selector: \
             {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}, annotations: \
             {{{annotations}}}}}, spec: {{containers: [{{name: main, {container}}}]}}}}}}}}\n---\n"
        )
    };
    let prefix = "simulation.mcphealth.dev";
    let manifest = [
        deployment("well", "", "image: x:1"),
        deployment(
            "crash",
            &format!("{prefix}/crash-after: 100ms, {prefix}/exit-code: '3', {prefix}/message: 'KeyError: A'"),
            "image: x:1",
        ),
        deployment(
            "oom",
            &format!("{prefix}/memory: 60Mi"),
            "image: x:1, resources: {limits: {memory: 48Mi}}",
        ),
        deployment(
            "fits",
            &format!("{prefix}/memory: 60Mi"),
            "image: x:1, resources: {limits: {memory: 0.1Gi}}",
        ),
        deployment("unready", &format!("{prefix}/never-ready: 'true'"), "image: x:1"),
        deployment("image", "", "image: 'registry.invalid/x:1'"),
        deployment("nope", "", "image: 'x:nope'"),
        deployment(
            "config",
            &format!(
                "{prefix}/waiting: CreateContainerConfigError, {prefix}/message: 'configmap \"a\" not found'"
            ),
            "image: x:1",
        ),
        deployment("server", "", "image: x:1, env: [{name: MCP_REQUIRE, value: DATABASE_URL}]"),
    ]
    .concat();
    let file = machine.folder.path().join("pods.yaml");
    fs::write(&file, manifest).unwrap();
    machine.kubectl(&["apply", "-f", &file.display().to_string()]);
    let becomes = |name: &str, path: &str, expected: &str| {
        let (selector, query) =
            (format!("--selector=app={name}"), format!("jsonpath={{.items[0].status.{path}}}"));
        let mut last = String::new();
        let came = wait_until(Duration::from_mins(1), || {
            last = machine.kubectl(&["get", "pods", &selector, "-o", &query]);
            last == expected
        });
        assert!(came, "{name}: {path} is {last:?}, not {expected:?}");
    };
    let (waiting, ended) =
        ("containerStatuses[0].state.waiting", "containerStatuses[0].lastState.terminated");
    becomes("well", "containerStatuses[0].ready", "true");
    becomes("fits", "containerStatuses[0].ready", "true");
    becomes("crash", &format!("{waiting}.reason"), "CrashLoopBackOff");
    becomes("crash", &format!("{ended}.exitCode"), "3");
    becomes("crash", &format!("{ended}.message"), "KeyError: A");
    becomes("crash", "containerStatuses[0].restartCount", "2");
    becomes("oom", &format!("{ended}.reason"), "OOMKilled");
    becomes("oom", &format!("{ended}.exitCode"), "137");
    becomes("unready", "phase", "Running");
    becomes("unready", "containerStatuses[0].ready", "false");
    becomes("image", &format!("{waiting}.reason"), "ImagePullBackOff");
    becomes("nope", &format!("{waiting}.reason"), "ImagePullBackOff");
    becomes("config", &format!("{waiting}.reason"), "CreateContainerConfigError");
    becomes("config", &format!("{waiting}.message"), "configmap \"a\" not found");
    let missing = "configuration error: required setting DATABASE_URL is not set";
    becomes("server", &format!("{ended}.message"), missing);
    let restarts =
        machine.kubectl(&["get", "pods", "--selector=app=well", "-o", "jsonpath={..restartCount}"]);
    assert_eq!(restarts, "0");
}

#[test]
#[ignore = "needs the parts of a cluster, and root to take rights away from"]
fn root_without_rights_gets_a_simulated_node() {
    if !is_root() {
        return;
    }
    let mut machine = Machine::new().with_parts();
    let words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"];
    machine.without.extend(words.map(str::to_owned));
    let words = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", "sh", "-c"];
    machine.without.extend(words.map(str::to_owned));
    // The namespace ends with its first process, and the cluster with it: so all of it happens in one.
    let script = "\"$0\" \"$@\" --name rights --no-install && \"$0\" cluster status --name rights && \
                  \"$0\" cluster down --name rights";
    machine.without.push(script.to_owned());
    let output = machine.run(&["cluster", "up"]);
    let told = succeeded(&output);
    assert!(told.contains("namespaces") && !told.contains("root: this is user"), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Ready, simulated"), "{output:?}");
    machine.has_nothing_left();
}

#[test]
#[ignore = "needs the parts of a cluster, and root to take rights away from"]
fn with_a_read_only_cgroup_tree_the_node_is_simulated() {
    if !is_root() {
        return;
    }
    let mut machine = Machine::new().with_parts();
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"];
    machine.without.extend(words.map(str::to_owned));
    // Each hierarchy of version 1 is a mount of its own; version 2 is one.
    let script = "for m in $(grep -o ' /sys/fs/cgroup[^ ]*' /proc/self/mountinfo); do \
                  mount -o remount,bind,ro $m; done; \"$0\" \"$@\"";
    machine.without.push(script.to_owned());
    let told = succeeded(&machine.up());
    assert!(told.contains("control groups: cannot make one in /sys/fs/cgroup"), "{told}");
    assert!(told.contains("Read-only file system") && told.contains("SIMULATED"), "{told}");
    succeeded(&machine.run(&["cluster", "down", "--name", "rights"]));
    machine.has_nothing_left();
}

#[test]
#[ignore = "needs the parts of a cluster, and root to mount a small disk"]
fn on_a_full_disk_it_says_how_much_is_needed_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let mut machine = Machine::new().with_parts();
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"];
    machine.without.extend(words.map(str::to_owned));
    let script = "mkdir -p \"$MCP_HEALTH_CACHE/clusters\"; mount -t tmpfs -o size=4m small \
                  \"$MCP_HEALTH_CACHE/clusters\"; \"$0\" \"$@\"; code=$?; ls -A \"$MCP_HEALTH_CACHE/clusters\" >&2; \
                  exit $code";
    machine.without.push(script.to_owned());
    let told = failed(&machine.run(&["cluster", "up", "--name", "rights", "--node", "simulated"]));
    assert!(told.contains("512 MiB free under") && told.contains("MCP_HEALTH_CACHE names another"), "{told}");
    assert!(!told.contains("rights\n") && !told.contains("rights.lock"), "{told}");
    machine.has_nothing_left();
}

#[test]
#[ignore = "needs the parts of a cluster: minutes the first time"]
fn a_start_that_was_killed_half_way_is_taken_down_to_the_last_process() {
    let machine =
        if is_root() { Machine::new().with_parts().without_rights() } else { Machine::new().with_parts() };
    let program = machine.folder.path().join("xtask");
    let words: Vec<&str> =
        machine.without.iter().map(String::as_str).chain([program.to_str().unwrap()]).collect();
    let mut up = Command::new(words[0])
        .args(&words[1..])
        .args(["cluster", "up", "--name", "rights", "--node", "simulated"])
        .current_dir("/")
        .env("HOME", machine.folder.path())
        .env("MCP_HEALTH_CACHE", machine.cache())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = |name: &str| {
        let folder = machine.folder.path().display().to_string();
        !process::find(|argv| argv[0].ends_with(name) && argv.iter().any(|word| word.contains(&folder)))
            .is_empty()
    };
    assert!(wait_until(Duration::from_secs(30), || started("/kube-apiserver")));
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(!machine.processes().is_empty());
    succeeded(&machine.run(&["cluster", "down", "--name", "rights"]));
    machine.has_nothing_left();
}
