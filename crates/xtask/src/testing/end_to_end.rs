//! The stages on a real cluster: its parts, built early; the cluster; the end-to-end tests.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::command::{last_lines, spawn_error};
use cluster::error::{Error, Result};
use cluster::kind::Kind;
use cluster::progress::{Step, say};
use cluster::status::Status;
use cluster::{Cluster, cache};
use cluster::{down, parts, preflight, state};

use super::needs;
use super::options::{LIMIT, Options, tests};
use super::report::Report;
use crate::install::{Images, build_images};
use crate::{interrupt, workspace};

/// The end-to-end tests. They are the only ones of that name; picked out of the whole workspace they share
/// what is compiled for the stage before, where their package alone would have its dependencies compiled once
/// more.
const SCENARIOS: [&str; 3] = ["--workspace", "--test", "scenarios"];

/// How many end-to-end tests run at the same time.
const THREADS: &str = "--test-threads=4";

/// The cluster's parts under way, where they have to be built.
pub struct Parts(Option<(Child, PathBuf)>);

impl Parts {
    /// Starts to build what is missing, beside everything else and with less of a claim to the processors:
    /// much of the time goes into downloads.
    pub fn begin(options: &Options, kind: Option<Kind>) -> Result<Self> {
        let Some(kind) = kind else { return Ok(Self(None)) };
        let wanted = parts::of(kind);
        if parts::missing(wanted)?.is_empty() {
            return Ok(Self(None));
        }
        preflight::check_parts(wanted)?;
        let log = cache::root()?.join("parts/build.log");
        state::write_folder(log.parent().unwrap_or(&log))?;
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let program = std::env::current_exe().map_err(Error::file("find", "this program"))?;
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(program).args(["cluster", "build", "--node"]);
        command.arg(options.plan.node.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        say(&format!("building the parts of the cluster meanwhile; log: {}", log.display()));
        let child = command.spawn().map_err(|source| spawn_error(&command, source))?;
        Ok(Self(Some((child, log))))
    }

    /// Waits until they are built.
    pub fn wait(mut self) -> Result<()> {
        let Some((mut child, log)) = self.0.take() else { return Ok(()) };
        let step = Step::start("building the parts of the cluster");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let status = loop {
            let status = child.try_wait().map_err(|error| Error::other(format!("cannot wait: {error}")))?;
            if let Some(status) = status {
                break status;
            }
            interrupt::check()?;
            step.note(said().lines().last().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(200));
        };
        if !status.success() {
            return Err(Error::other(format!("building the parts failed:{}", last_lines(&said(), 20))));
        }
        step.done();
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the end-to-end tests; the cluster goes at the end, where it came for them.
pub fn run(options: &Options, kind: Option<Kind>, report: &mut Report) -> Result<()> {
    if options.only.is_some() && none_is_meant(options)? {
        return Ok(());
    }
    let was_up = options.context.is_some() || Status::of(&options.name)?.node.is_some();
    let not_shown = cache::root()?.join(format!("not-shown-{}", std::process::id()));
    let outcome = report.run("end-to-end", |stage| {
        let cluster = match &options.context {
            Some(context) => Cluster::existing(context)?,
            None => Cluster::up(&options.name, &options.plan)?,
        };
        interrupt::check()?;
        let images = build_images(&cluster)?;
        let skipped = needs::skipped(kind);
        let mut command = tests(&SCENARIOS, options, &[&[THREADS], &skipped[..]].concat());
        command.envs(environment(&cluster, &images, options));
        if cluster.is_simulated() {
            command.env("MCP_HEALTH_NOT_SHOWN", &not_shown);
        }
        stage.tests(&mut command, LIMIT)
    });
    if let Ok(names) = fs::read_to_string(&not_shown) {
        report.not_asked(names.lines().map(str::to_owned).collect());
        let _ = fs::remove_file(&not_shown);
    }
    if !was_up && !options.keep && Status::of(&options.name)?.node.is_some() {
        down::down(&options.name)?;
    }
    outcome
}

/// Whether the pattern picks no end-to-end test: then no cluster is needed.
fn none_is_meant(options: &Options) -> Result<bool> {
    let step = Step::start("looking for end-to-end tests of that name");
    let mut list = tests(&SCENARIOS, options, &["--list"]);
    let said = workspace::watched(&mut list, &step)?;
    step.done();
    Ok(!said.lines().any(|line| line.ends_with(": test")))
}

/// What tells the tests where they are.
fn environment(cluster: &Cluster, images: &Images, options: &Options) -> Vec<(String, String)> {
    let path = |path: &std::path::Path| path.display().to_string();
    let name = if cluster.is_ours() { cluster.name.clone() } else { String::new() };
    let mut all = vec![
        ("KUBECONFIG", path(&cluster.kubeconfig)),
        ("MCP_HEALTH_CLUSTER", name),
        ("MCP_HEALTH_CONTEXT", cluster.context.clone().unwrap_or_default()),
        ("MCP_HEALTH_KUBECTL", path(&cluster.kubectl)),
        ("MCP_HEALTH_HELM", path(&cluster.helm)),
        ("MCP_HEALTH_CHART", path(&workspace::chart())),
        ("MCP_HEALTH_KEEP", if options.keep { "true".to_owned() } else { String::new() }),
    ];
    all.extend(images.environment());
    let mut all: Vec<(String, String)> =
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    // No proxy leads to the cluster.
    let kubectl = cluster.kubectl();
    all.extend(
        kubectl
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned()))),
    );
    all
}
