//! The few programs that come from the system's own packages: installed when allowed, named otherwise.

use std::process::Command;

use crate::command::{run, succeeds, which};
use crate::error::Result;
use crate::progress::{Step, say};

/// A program that the cluster runs, and the Debian package that has it.
const NEEDED: [(&str, &str); 8] = [
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("unshare", "util-linux"),
    ("sh", "dash"),
];

/// The packages whose programs are not there.
pub fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> = NEEDED
        .into_iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| package)
        .collect();
    packages.dedup();
    packages
}

/// Whether this is a system on which [`install`] works.
pub fn can_install() -> bool {
    which("apt-get").is_some()
}

/// The command that a person would type to install them.
pub fn command(packages: &[&str]) -> String {
    if can_install() {
        format!("apt-get install --no-install-recommends {}", packages.join(" "))
    } else {
        format!("install {} with your system's package manager", packages.join(", "))
    }
}

/// Installs packages, and says so first.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    say(&format!("installing system packages: {} (--no-install refuses this)", packages.join(", ")));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(args);
        command
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    let step = Step::start(format!("installing {}", packages.join(", ")));
    // With fresh package lists the first try succeeds; without, they are fetched once.
    if !succeeds(&mut apt(&install)) {
        step.note("fetching the package lists");
        run("fetching the package lists", &mut apt(&["update"]))?;
        run("installing system packages", &mut apt(&install))?;
    }
    step.done();
    Ok(())
}
