//! The control groups of a cluster: one folder of its own in each hierarchy, under version 1 and version 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::{PidRecord, wait_until};
use crate::state::Layout;

const V2_CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
const V1_CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// How this machine's control groups are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// A folder for each controller, or for a few together.
    V1(Vec<PathBuf>),
    /// One hierarchy for all.
    V2(PathBuf),
}

/// Looks at what is mounted.
pub fn detect() -> Version {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return Version::V2(root.to_owned());
    }
    Version::V1(v1_hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()))
}

/// What the kubelet needs and this machine does not have, as a sentence.
pub fn shortcoming() -> Option<String> {
    let missing: Vec<&str> = match detect() {
        Version::V2(root) => {
            let present = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            let present: Vec<&str> = present.split_whitespace().collect();
            V2_CONTROLLERS.into_iter().filter(|controller| !present.contains(controller)).collect()
        }
        Version::V1(hierarchies) => V1_CONTROLLERS
            .into_iter()
            .filter(|controller| {
                !hierarchies.iter().any(|path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.split(',').any(|part| part == *controller)
                })
            })
            .collect(),
    };
    (!missing.is_empty()).then(|| format!("the kernel offers no control group for {}", missing.join(", ")))
}

/// Tries to make a group in every hierarchy, and a group that controls in it; why that fails.
pub fn not_writable() -> Option<String> {
    let hierarchies = match detect() {
        Version::V2(root) => vec![root],
        Version::V1(hierarchies) => hierarchies,
    };
    hierarchies.iter().find_map(|hierarchy| {
        let folder = hierarchy.join(format!("mcp-health-trial-{}", std::process::id()));
        let tried = fs::create_dir(&folder);
        let _ = fs::remove_dir(&folder);
        tried
            .err()
            .map(|error| format!("control groups: cannot make one in {}: {error}", hierarchy.display()))
    })
}

/// The cluster's folder as the kubelet calls it.
pub fn name(layout: &Layout) -> String {
    format!("/mcp-health-{}", layout.id)
}

/// Creates the cluster's folders.
pub fn ensure(layout: &Layout) -> Result<()> {
    match detect() {
        Version::V2(root) => {
            enable_controllers(&root)?;
            let folder = root.join(&name(layout)[1..]);
            create(&folder)?;
            enable_controllers(&folder)?;
            create(&folder.join("node"))
        }
        Version::V1(hierarchies) => {
            for hierarchy in hierarchies {
                let folder = hierarchy.join(&name(layout)[1..]);
                create(&folder)?;
                let node = folder.join("node");
                create(&node)?;
                // Without processors and memory nodes of its own a cpuset accepts no process.
                for setting in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(value) = fs::read_to_string(hierarchy.join(setting)) {
                        for folder in [&folder, &node] {
                            let file = folder.join(setting);
                            fs::write(&file, value.trim()).map_err(Error::file("write", &file))?;
                        }
                    }
                }
            }
            Ok(())
        }
    }
}

/// Moves a process of the node into the cluster's folder, out of the group of whoever ran the command.
pub fn adopt(layout: &Layout, pid: i32) {
    for folder in folders(layout) {
        // Best effort: the process works in any group, this one only makes it easier to see and to end.
        let _ = fs::write(folder.join("node/cgroup.procs"), pid.to_string());
    }
}

/// Ends whatever still runs in the cluster's folders, then removes them.
pub fn remove(layout: &Layout) -> Result<()> {
    for folder in folders(layout) {
        let gone = wait_until(Duration::from_secs(10), || {
            kill(&folder);
            remove_tree(&folder);
            !folder.exists()
        });
        if !gone {
            return Err(Error::other(format!(
                "the control group {} does not go away; processes in it: {}",
                folder.display(),
                processes(&folder).iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
    }
    Ok(())
}

/// The cluster's folders that exist.
fn folders(layout: &Layout) -> Vec<PathBuf> {
    let roots = match detect() {
        Version::V2(root) => vec![root],
        // Beside version 1 there may be a version 2 hierarchy without controllers, which containers also
        // join.
        Version::V1(mut hierarchies) => {
            hierarchies.push(PathBuf::from("/sys/fs/cgroup/unified"));
            hierarchies
        }
    };
    roots.into_iter().map(|root| root.join(&name(layout)[1..])).filter(|folder| folder.is_dir()).collect()
}

fn kill(folder: &Path) {
    for pid in processes(folder) {
        if let Some(record) = PidRecord::of(pid) {
            record.kill();
        }
    }
}

fn processes(folder: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_to_string(folder.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
        .collect();
    for child in children(folder) {
        pids.extend(processes(&child));
    }
    pids
}

fn remove_tree(folder: &Path) {
    for child in children(folder) {
        remove_tree(&child);
    }
    // Fails while a process is in it; the caller looks again.
    let _ = fs::remove_dir(folder);
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file("create the control group", folder))
}

fn enable_controllers(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let enable = V2_CONTROLLERS.map(|controller| format!("+{controller}")).join(" ");
    fs::write(&file, enable).map_err(Error::file("enable controllers in", &file))
}

/// The mount points of version 1 hierarchies; controllers mounted twice count once.
fn v1_hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let mut hierarchies: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            (after.split(' ').next() == Some("cgroup")).then_some(())?;
            before.split(' ').nth(4).map(PathBuf::from)
        })
        .collect();
    hierarchies.sort();
    hierarchies.dedup();
    hierarchies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_1_mounts_are_hierarchies() {
        let mountinfo = "\
            30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            33 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let expected = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"].map(PathBuf::from);
        assert_eq!(v1_hierarchies(mountinfo), expected);
    }
}
