//! Looks at the machine before anything is touched, and names everything that is missing at once.

use std::fs;
use std::process::Command;

use super::parts::{self, GO, Part};
use super::{cgroups, packages};
use crate::cache;
use crate::command::{run, succeeds, which};
use crate::error::{Error, Result};

/// What building all parts takes, Go's own cache included.
const BUILD_SPACE: u64 = 8 << 30;

/// Checks everything that a cluster of our own needs, and installs system packages where `install` allows.
pub fn check(wanted: &[&'static Part], install: bool) -> Result<()> {
    let mut missing = Vec::new();
    let root = rustix::process::geteuid().is_root();
    if !root {
        missing.push("root: run the same command with sudo".to_owned());
    }
    missing.extend(go(&parts::missing(wanted)?));
    missing.extend(kernel());
    let packages = packages::missing();
    let may_install = root && install && packages::can_install();
    if !packages.is_empty() && !may_install {
        missing.push(format!("system packages: {}", packages::command(&packages)));
    }
    if packages.is_empty() && root {
        missing.extend(network_devices());
    }
    report(&missing)?;
    if !packages.is_empty() {
        packages::install(&packages)?;
        report(&network_devices().into_iter().collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Whether the kernel can stack file systems; without it images are copied, which is slow but works.
pub fn has_overlay() -> bool {
    let listed = || {
        fs::read_to_string("/proc/filesystems")
            .unwrap_or_default()
            .lines()
            .any(|line| line.split_whitespace().last() == Some("overlay"))
    };
    listed() || (succeeds(Command::new("modprobe").arg("overlay")) && listed())
}

/// Whether containers may be given a lower score for the kernel's out-of-memory choice than this process has.
pub fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << CAP_SYS_RESOURCE) != 0)
}

fn report(missing: &[String]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing.iter().map(|item| format!("  - {item}")).collect();
    Err(Error::Preflight(format!(
        "{}\nA cluster that you already have does as well: --context NAME",
        list.join("\n")
    )))
}

fn go(to_build: &[&Part]) -> Vec<String> {
    if to_build.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = to_build.iter().map(|part| part.name).collect();
    let (major, minor, patch) = GO;
    let wanted =
        format!("Go {major}.{minor}.{patch} or later, to build {} (https://go.dev/dl)", names.join(", "));
    let mut missing = Vec::new();
    match run("asking Go for its version", Command::new("go").arg("version")) {
        Err(_) => missing.push(wanted),
        Ok(said) => {
            // An older Go fetches the one that is asked for, unless told not to.
            let fetches = run("asking Go for its settings", Command::new("go").args(["env", "GOTOOLCHAIN"]))
                .is_ok_and(|setting| setting.contains("auto") || setting.contains("path"));
            let enough =
                go_version(&said).is_some_and(|version| version >= GO || (fetches && version >= (1, 21, 0)));
            if !enough {
                missing.push(format!("{wanted}; here is: {}", said.trim()));
            }
        }
    }
    if let Ok(root) = cache::root() {
        let existing = root.ancestors().find(|folder| folder.exists());
        let free = existing
            .and_then(|folder| rustix::fs::statvfs(folder).ok())
            .map(|stat| stat.f_bavail * stat.f_frsize);
        if free.is_some_and(|free| free < BUILD_SPACE) {
            missing.push(format!(
                "8 GiB free under {} to build {} (MCP_HEALTH_CACHE names another place)",
                root.display(),
                names.join(", ")
            ));
        }
    }
    missing
}

/// The version in "go version go1.26.8 linux/amd64".
fn go_version(said: &str) -> Option<(u32, u32, u32)> {
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    // A release candidate counts as its release.
    let release = version.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    Some((1, numbers.next()?, numbers.next().unwrap_or_default()))
}

fn kernel() -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("Linux: the node runs on this machine's own kernel".to_owned());
    }
    let absent: Vec<&str> = ["net", "mnt", "pid", "uts", "ipc"]
        .into_iter()
        .filter(|kind| !std::path::Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    if !absent.is_empty() {
        missing.push(format!("kernel namespaces: {}", absent.join(", ")));
    }
    missing.extend(cgroups::shortcoming());
    missing
}

/// Tries what the node's network needs, in a network namespace that ends with the trial.
fn network_devices() -> Option<String> {
    which("unshare")?;
    // Loads what is a module here; the trial below tells whether it is enough.
    for module in ["bridge", "veth", "br_netfilter", "overlay", "nf_conntrack"] {
        let _ = succeeds(Command::new("modprobe").arg(module));
    }
    let trial = "ip link add trial0 type bridge && ip link add trial1 type veth peer name trial2 && \
                 iptables -w -t nat -A POSTROUTING -s 10.0.0.0/8 -m comment --comment trial -j MASQUERADE && \
                 iptables -w -A FORWARD -m conntrack --ctstate ESTABLISHED -m statistic --mode random \
                 --probability 0.5 -j ACCEPT && iptables -w -A OUTPUT -d 10.0.0.0/8 -j REJECT";
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    run("the trial", Command::new("unshare").args(["--net", "sh", "-ec", trial]).env("PATH", path))
        .err()
        .map(|error| format!("network namespaces with bridge, veth and iptables (nat, conntrack); {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_read() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26, 8)));
        assert_eq!(go_version("go version go1.27rc1 linux/arm64"), Some((1, 27, 0)));
        assert_eq!(go_version("go version devel"), None);
    }

    #[test]
    fn everything_missing_is_listed_at_once() {
        let error = report(&["root".to_owned(), "Go".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("  - root\n  - Go\n") && error.contains("--context"), "{error}");
        assert!(report(&[]).is_ok());
    }
}
