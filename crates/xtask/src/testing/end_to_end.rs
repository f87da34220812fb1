//! The stages on a real cluster: its parts, built early; the cluster; the end-to-end tests.

use std::fs;
use std::process::Command;

use cluster::error::{Error, Result};
use cluster::kind::Kind;
use cluster::progress::Step;
use cluster::status::Status;
use cluster::{Cluster, cache};
use cluster::{down, parts, preflight};

use super::needs;
use super::options::{LIMIT, Options, tests};
use super::report::Report;
use crate::background::Background;
use crate::install::{Images, build_images};
use crate::{interrupt, workspace};

/// The end-to-end tests. They are the only ones of that name; picked out of the whole workspace they share
/// what is compiled for the stage before, where their package alone would have its dependencies compiled once
/// more.
const SCENARIOS: [&str; 3] = ["--workspace", "--test", "scenarios"];

/// How many end-to-end tests run at the same time.
const THREADS: &str = "--test-threads=4";

/// Starts to build the parts of the cluster that are missing; nothing where all are there.
pub fn begin_parts(options: &Options, kind: Option<Kind>) -> Result<Option<Background>> {
    let Some(kind) = kind else { return Ok(None) };
    let wanted = parts::of(kind);
    if parts::missing(wanted)?.is_empty() {
        return Ok(None);
    }
    preflight::check_parts(wanted)?;
    let program = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    let mut command = Command::new(program);
    command.args(["cluster", "build", "--node"]).arg(options.plan.node.to_string());
    Background::start("building the parts of the cluster", "parts.log", 10, command).map(Some)
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
