//! What the tests need beside Rust: PostgreSQL from the system's packages, cargo-deny from its source.

use std::ffi::OsString;
use std::path::Path;
use std::{env, fs};

use crate::cluster::packages;
use crate::command::which;
use crate::error::{Error, Result};
use crate::progress::{Step, say};
use crate::{cache, workspace};

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// PostgreSQL's programs: the demo server's tests run a server of their own.
pub fn postgres(install: bool) -> Result<()> {
    if has_postgres() {
        return Ok(());
    }
    let wanted = ["postgresql"];
    if !(install && rustix::process::geteuid().is_root() && packages::can_install()) {
        say(&format!("PostgreSQL is missing, and its tests will fail: {}", packages::command(&wanted)));
        return Ok(());
    }
    packages::install(&wanted)
}

fn has_postgres() -> bool {
    let in_folder = |folder: &Path| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).any(|folder| in_folder(&folder))
        || ["initdb", "postgres"].iter().all(|name| which(name).is_some())
}

/// Builds cargo-deny where it is not there yet; gives a `PATH` that has it.
pub fn cargo_deny() -> Result<OsString> {
    let root = cache::root()?.join("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    if !root.join("bin/cargo-deny").is_file() {
        let step = Step::start(format!("building cargo-deny {CARGO_DENY}"));
        let mut install = workspace::cargo();
        // Optimising takes longer than all that it will ever check.
        install.args(["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"]);
        install.arg(&root).env("CARGO_PROFILE_DEV_DEBUG", "0");
        workspace::watched(&mut install, &step)?;
        step.done();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(root.join("bin")).chain(env::split_paths(&path)))
        .map_err(|error| Error::other(format!("cannot put cargo-deny into PATH: {error}")))
}
