//! Takes a cluster away, whole or half started, running, killed or from before a restart of the machine.

use std::fs;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::progress::Step;
use crate::state::{Layout, Saved};
use crate::{cgroups, link, machine, node};

/// Removes everything that the cluster called `name` has on this machine; nothing there is fine too.
pub fn down(name: &str) -> Result<()> {
    let layout = Layout::new(name)?;
    let root = rustix::process::geteuid().is_root();
    if !root && !layout.dir.exists() {
        return Ok(());
    }
    let saved = Saved::load(&layout);
    let simulated = saved.kind == Kind::Simulated;
    if !root && !simulated {
        return Err(Error::other("removing a cluster needs root: run the same command with sudo"));
    }
    let lock = layout.lock()?;
    let step = Step::start(format!("removing the cluster {name}"));
    let saved = Saved::load(&layout);

    node::stop(&layout, &saved)?;
    if !simulated {
        cgroups::remove(&layout)?;
        link::remove(&layout)?;
        let _lock = machine::lock()?;
        remove_folder(&layout.run)?;
        machine::restore(&saved)?;
    }
    remove_folder(&layout.dir)?;
    let _ = fs::remove_file(layout.lock_file());
    drop(lock);
    step.done();
    Ok(())
}

/// Removes a folder. Its mounts were inside the node and ended with it, so there is nothing to unmount, and
/// nothing that a mount could lead to.
pub(crate) fn remove_folder(folder: &std::path::Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while folder.exists() {
        match fs::remove_dir_all(folder) {
            Ok(()) => break,
            // The kernel may need a moment for the last mounts of a node that has just ended.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(source) => return Err(Error::file("remove", folder)(source)),
        }
    }
    Ok(())
}
