//! What the tests need beside Rust: cargo-deny from its source. For PostgreSQL see [`crate::postgres`].

use std::env;
use std::ffi::OsString;

use cluster::cache;
use cluster::error::{Error, Result};
use cluster::progress::Step;

use crate::workspace;

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

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
