//! What the tests are told, and what each stage of them starts.

use std::process::Command;
use std::time::Duration;

use cluster::Plan;

use crate::workspace;

/// No stage takes this long, unless it hangs.
pub const LIMIT: Duration = Duration::from_mins(30);

/// What the tests are told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only what needs no cluster, no release build and no further tool.
    pub fast: bool,
    /// Only the tests whose names contain this, and nothing but tests.
    pub only: Option<String>,
    /// A cluster of ours for the end-to-end tests, brought up where it is down.
    pub name: String,
    /// A cluster that is there, instead.
    pub context: Option<String>,
    /// Leave the cluster, and what tests made in it, at the end.
    pub keep: bool,
    /// How a cluster of ours is brought up.
    pub plan: Plan,
}

/// Whether what cannot be tested here would be missed by nobody.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false")
}

/// A `cargo test` of what `which` picks, with the pattern of the options.
pub fn tests(which: &[&str], options: &Options, to_harness: &[&str]) -> Command {
    let mut command = workspace::cargo();
    // With CI set, snapshots are compared and never written, and a missing PostgreSQL is a failure.
    command.env("CI", "true").arg("test").args(which);
    command.args(["--no-fail-fast", "--"]).args(to_harness).args(options.only.as_deref());
    if console::colors_enabled() {
        command.arg("--color=always");
    }
    command
}
