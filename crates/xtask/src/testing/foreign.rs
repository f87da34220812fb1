//! The stage that asks MCP servers which others wrote, in as many languages as there are on this machine.

use std::process::Command;
use std::time::Duration;

use cluster::command::{succeeds, which};
use cluster::error::{Error, Result};
use cluster::packages;

use super::options::{Options, in_ci, tests};
use super::report::Report;

/// They start in seconds; the first time their packages are fetched.
const LIMIT: Duration = Duration::from_mins(20);

/// A language that servers are written in.
struct Language {
    name: &'static str,
    is_here: fn() -> bool,
    /// What is missing where it is not.
    wants: &'static str,
    /// The modules of the tests that need it.
    tests: &'static [&'static str],
}

const PYTHON: Language = Language {
    name: "Python",
    // Debian packs the module apart from the program.
    is_here: || succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
    wants: "python3 and its module venv",
    tests: &["python::", "endurance::"],
};
const NODE: Language = Language {
    name: "Node",
    is_here: || which("node").is_some() && which("npm").is_some(),
    wants: "node and npm",
    tests: &["node::"],
};

/// Asks those that can run; notes the others. With `CI` set, Python is required: most MCP servers are written
/// in it.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let is_here = (PYTHON.is_here)();
    if !is_here && options.plan.install && rustix::process::geteuid().is_root() && packages::can_install() {
        packages::install(&["python3-venv"])?;
    }
    let missing: Vec<Language> =
        [PYTHON, NODE].into_iter().filter(|language| !(language.is_here)()).collect();
    report.run("foreign", |stage| {
        if in_ci() && missing.iter().any(|language| language.name == PYTHON.name) {
            return Err(Error::other(format!("CI is set, which requires {}", PYTHON.wants)));
        }
        let skipped = missing.iter().flat_map(|language| language.tests).flat_map(|name| ["--skip", *name]);
        let to_harness: Vec<&str> =
            ["--ignored", "--skip", "ten_thousand"].into_iter().chain(skipped).collect();
        stage.tests(&mut tests(&["--workspace", "--test", "foreign"], options, &to_harness), LIMIT)
    })?;
    if options.only.is_none() {
        for language in missing {
            report.lacking(format!("servers in {}", language.name), language.wants);
        }
    }
    Ok(())
}
