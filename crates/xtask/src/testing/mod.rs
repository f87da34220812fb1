//! `cargo xtask test`: everything that there is to check, cheap failures first, the same here as in CI.
//!
//! ```text
//! formatting ──► lints ──► tests ──► foreign servers, services ──► chart ──► licences ──► the cluster's own test ──► end-to-end
//!   └─ beside them, where it is the first time: the parts of the cluster are built
//! ```

mod cached;
mod end_to_end;
mod foreign;
mod needs;
mod options;
mod report;
pub mod services;
mod stage;
mod tools;
mod versions;

use std::process::Command;
use std::time::{Duration, Instant};

use cluster::Cluster;
use cluster::error::{Error, Result};
use cluster::kind::{Kind, Wanted};
use cluster::progress::say;
use cluster::{Plan, parts, preflight};

use crate::background::Background;
use crate::{interrupt, postgres, workspace};
use options::{LIMIT, in_ci, tests};
use report::Report;
use stage::{Stage, command};

pub use options::Options;

/// The package of the end-to-end tests.
const END_TO_END: &str = "mcp-health-e2e";

/// The test that brings clusters up and down does not take this long, unless it hangs.
const CLUSTER_LIMIT: Duration = Duration::from_mins(10);

/// Runs everything that the options ask for; false where something failed.
pub fn run(options: &Options) -> Result<bool> {
    interrupt::watch()?;
    let started = Instant::now();
    let mut report = Report::default();
    let kind = kind(options)?;
    // From here on it is decided, and said once.
    let plan = Plan { node: kind.map_or(options.plan.node, Wanted::from), ..options.plan };
    let options = &Options { plan, ..options.clone() };
    let parts = end_to_end::begin_parts(options, kind)?;
    let stages = stages(options, kind, &mut report, parts);
    report.print(started.elapsed());
    stages?;
    if options.only.is_some() && report.passes() && report.tests() == 0 {
        return Err(Error::other(
            "no test has a name like that: `cargo test --workspace -- --list` lists them",
        ));
    }
    Ok(report.passes())
}

/// What the cluster of ours has for a node; none where none is used. With `CI` set a real one is required:
/// what was not tested there would not be missed.
fn kind(options: &Options) -> Result<Option<Kind>> {
    if options.fast || options.context.is_some() {
        return Ok(None);
    }
    let ci = in_ci();
    let there = Cluster::kind(&options.name)?;
    let wanted = if ci { Wanted::Real } else { options.plan.node };
    let refused = |why: String| {
        Error::other(format!(
            "CI is set, which requires a real node: {why}\nInstead: mend this, or take a cluster that you have \
             (--context NAME). Without CI in the environment the node may be simulated."
        ))
    };
    if ci && options.plan.node == Wanted::Simulated {
        return Err(refused("--node simulated would leave tests out".to_owned()));
    }
    let chosen = preflight::choose(wanted, there, options.plan.install).map_err(|error| match error {
        Error::NoNode(missing) if ci => {
            refused(format!("this machine cannot run one here and now:\n{missing}"))
        }
        error if ci => refused(error.to_string()),
        error => error,
    })?;
    if chosen == Kind::Simulated && options.only.is_none() {
        let count = needs::a_node().len();
        say(&format!("{count} tests need a real node. They are left out, and named at the end."));
    }
    Ok(Some(chosen))
}

fn stages(
    options: &Options,
    kind: Option<Kind>,
    report: &mut Report,
    parts: Option<Background>,
) -> Result<()> {
    if options.only.is_none() {
        report.run("formatting", |_| command(workspace::cargo().args(["fmt", "--all", "--check"]), LIMIT))?;
        report.run("lints", |_| {
            let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            command(workspace::cargo().args(clippy), LIMIT)
        })?;
    }
    report.run("tests", |stage| {
        postgres::for_tests(options.plan.install)?;
        stage.tests(&mut tests(&["--workspace", "--exclude", END_TO_END], options, &[]), LIMIT)
    })?;
    if options.fast {
        if options.only.is_none() && parts::HELM.is_built()? {
            report.run("chart", chart)?;
        }
        return Ok(());
    }

    foreign::run(options, report)?;
    services::run(options, report)?;
    parts.map_or(Ok(()), Background::wait)?;
    if options.only.is_none() {
        report.run("chart", chart)?;
        report.run("licences", |_| {
            let path = tools::cargo_deny()?;
            let deny = ["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
            command(workspace::cargo().env("PATH", path).args(deny), LIMIT)
        })?;
    }
    if options.context.is_none() {
        report.run("cluster", |stage| {
            let which = ["--workspace", "--test", "cluster", "--test", "simulated"];
            let skipped = needs::skipped(kind);
            let mut command = tests(&which, options, &[&["--ignored"], &skipped[..]].concat());
            stage.tests(&mut command, CLUSTER_LIMIT)
        })?;
    }
    end_to_end::run(options, kind, report)?;
    if kind == Some(Kind::Simulated) && options.only.is_none() {
        report.left_out(needs::a_node());
    }
    Ok(())
}

fn chart(_: &mut Stage) -> Result<()> {
    let programs = parts::ensure(&[&parts::HELM])?;
    command(Command::new(programs.path("helm")?).arg("lint").arg(workspace::chart()), LIMIT)
}
