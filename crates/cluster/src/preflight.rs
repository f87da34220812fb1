//! Looks at the machine before anything is touched, and names everything that is missing at once.
//!
//! What a node needs is not guessed from who is asking: each of it is tried, in namespaces that end with the
//! trial.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cache;
use crate::command::{run, succeeds, which};
use crate::error::{Error, Result};
use crate::kind::{Kind, Wanted};
use crate::parts::{self, GO, Part};
use crate::progress::say;
use crate::state::Layout;
use crate::{cgroups, machine, packages};

/// What building all parts takes, Go's own cache included.
const BUILD_SPACE: u64 = 8 << 30;
/// What a cluster writes at its start: keys, the store's first files, logs.
const RUN_SPACE: u64 = 512 << 20;

/// Where system programs are, whatever the user's `PATH` has.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Decides what the cluster has for a node. One that is there already keeps what it has; a new one gets a
/// real node where one can run here, or is wanted whatever it takes. Installs system packages where `install`
/// allows.
pub fn choose(wanted: Wanted, there: Option<Kind>, install: bool) -> Result<Kind> {
    if let Some(kind) = there {
        return if wanted.allows(kind) {
            Ok(kind)
        } else {
            Err(Error::other(format!(
                "the cluster is there, and its node is {kind}: take it down first, or give another one a name (--name)"
            )))
        };
    }
    if wanted == Wanted::Simulated {
        return Ok(Kind::Simulated);
    }
    let missing = missing_for_a_node(install);
    if missing.is_empty() {
        return Ok(Kind::Real);
    }
    if wanted == Wanted::Real {
        return Err(Error::NoNode(list(&missing)));
    }
    say(&format!(
        "this machine cannot run a node here and now:\n{}\n\
         Going on with the same control plane and a SIMULATED node: pods get ready, crash and are killed by what their \
         templates say, and nothing runs in them. (--node real stops here instead, --context NAME takes a cluster that \
         you have.)",
        list(&missing)
    ));
    Ok(Kind::Simulated)
}

/// Checks what the control plane needs whatever the node is: the means to build it, and room for it.
pub fn check_parts(wanted: &[&'static Part]) -> Result<()> {
    let mut missing = go(&parts::missing(wanted)?);
    missing.extend(space(&Layout::all()?, RUN_SPACE, "512 MiB", "for a cluster"));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Preflight(format!(
        "this machine cannot run the cluster yet:\n{}\nA cluster that you already have does as well: --context NAME",
        list(&missing)
    )))
}

/// What a node needs and whoever asks does not have here, each with what the trial of it said.
fn missing_for_a_node(install: bool) -> Vec<String> {
    if !cfg!(target_os = "linux") {
        return vec!["Linux: a node runs on this machine's own kernel".to_owned()];
    }
    let mut missing = Vec::new();
    let root = rustix::process::geteuid().is_root();
    if !root {
        let user = rustix::process::geteuid().as_raw();
        missing.push(format!("root: this is user {user} (run the same command with sudo)"));
    }
    missing.extend(namespaces());
    missing.extend(cgroups::shortcoming());
    missing.extend(cgroups::not_writable());
    missing.extend(machine::not_writable());
    let mut packages = packages::missing();
    if !packages.is_empty() && missing.is_empty() && install && packages::can_install() {
        match packages::install(&packages) {
            Ok(()) => packages.clear(),
            Err(error) => missing.push(format!("system packages: {error}")),
        }
    }
    if packages.is_empty() {
        missing.extend(network_devices());
    } else {
        missing.push(format!("system packages: {}", packages::command(&packages)));
    }
    missing
}

/// Tries to make the namespaces of a node, with the mounts in it.
fn namespaces() -> Option<String> {
    // Without the program the missing package is named.
    let unshare = which("unshare")?;
    let trial =
        "mount --make-rshared / && mount -t tmpfs trial /mnt && mkdir /mnt/a && mount --bind /mnt/a /mnt";
    let mut command = Command::new(unshare);
    command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "slave"]);
    // A tmpfs over /mnt is seen in the trial only.
    command.args(["sh", "-euc", trial]).env("PATH", SYSTEM_PATH);
    tried(&mut command)
        .map(|why| format!("namespaces for processes, mounts and the network, and mounts in them: {why}"))
}

/// Runs a trial; why it failed.
fn tried(command: &mut Command) -> Option<String> {
    match command.stdin(std::process::Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().map(str::trim).rfind(|line| !line.is_empty());
            Some(line.map_or_else(|| output.status.to_string(), str::to_owned))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn list(missing: &[String]) -> String {
    let list: Vec<String> = missing.iter().map(|item| format!("  - {item}")).collect();
    list.join("\n")
}

/// Too little room in a folder, or where it will be.
fn space(folder: &Path, needed: u64, words: &str, what: &str) -> Option<String> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    let free = stat.f_bavail * stat.f_frsize;
    (free < needed).then(|| {
        format!(
            "{words} free under {} {what}: {} MiB are (MCP_HEALTH_CACHE names another place)",
            folder.display(),
            free >> 20
        )
    })
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

fn go(to_build: &[&Part]) -> Vec<String> {
    if to_build.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = to_build.iter().map(|part| part.name).collect();
    let (major, minor, patch) = GO;
    let mut wanted =
        format!("Go {major}.{minor}.{patch} or later, to build {} (https://go.dev/dl)", names.join(", "));
    let mut absent = to_build.iter().flat_map(|part| part.programs());
    if parts::ASSETS.iter().any(|name| parts::from_assets(name).is_some()) {
        let without: Vec<&str> = absent.filter(|name| parts::from_assets(name).is_none()).collect();
        let _ = write!(wanted, "; without it KUBEBUILDER_ASSETS would need {} too", without.join(", "));
    } else if absent.all(|name| parts::ASSETS.contains(&name)) {
        let _ = write!(wanted, "; or KUBEBUILDER_ASSETS, a folder that has {}", parts::ASSETS.join(", "));
    }
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
        missing.extend(space(&root, BUILD_SPACE, "8 GiB", &format!("to build {}", names.join(", "))));
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

/// Tries what the node's network needs, in a network namespace that ends with the trial.
fn network_devices() -> Option<String> {
    let unshare = which("unshare")?;
    // Loads what is a module here; the trial below tells whether it is enough.
    for module in ["bridge", "veth", "br_netfilter", "overlay", "nf_conntrack"] {
        let _ = succeeds(Command::new("modprobe").arg(module));
    }
    let trial = "ip link add trial0 type bridge && ip link add trial1 type veth peer name trial2 && \
                 iptables -w -t nat -A POSTROUTING -s 10.0.0.0/8 -m comment --comment trial -j MASQUERADE && \
                 iptables -w -A FORWARD -m conntrack --ctstate ESTABLISHED -m statistic --mode random \
                 --probability 0.5 -j ACCEPT && iptables -w -A OUTPUT -d 10.0.0.0/8 -j REJECT";
    let mut command = Command::new(unshare);
    command.args(["--net", "sh", "-ec", trial]).env("PATH", SYSTEM_PATH);
    tried(&mut command).map(|why| {
        format!("a network namespace with a bridge, a virtual link and packet filter rules (nat, conntrack): {why}")
    })
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
    fn a_cluster_keeps_the_node_that_it_has() {
        assert_eq!(choose(Wanted::Auto, Some(Kind::Simulated), false).unwrap(), Kind::Simulated);
        assert_eq!(choose(Wanted::Simulated, None, false).unwrap(), Kind::Simulated);
        let error = choose(Wanted::Real, Some(Kind::Simulated), false).unwrap_err().to_string();
        assert!(error.contains("its node is simulated") && error.contains("take it down"), "{error}");
    }

    #[test]
    fn a_trial_that_fails_says_its_last_words() {
        assert_eq!(
            tried(Command::new("sh").args(["-c", "echo a >&2; echo why >&2; exit 1"])).unwrap(),
            "why"
        );
        assert_eq!(tried(&mut Command::new("true")), None);
        assert!(tried(&mut Command::new("no-such-program")).is_some());
    }
}
