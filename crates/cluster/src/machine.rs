//! What clusters change on the machine as a whole: kernel settings, and empty folders to mount over. The
//! first cluster remembers how it was, the last one puts it back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::process::boot_id;
use crate::state::{self, Layout, Saved, write_file};

const FOLDER: &str = "/run/mcp-health";
const FORWARDING: &str = "net/ipv4/ip_forward";

/// Packet forwarding, and what every kubelet sets.
const SETTINGS: [&str; 7] = [
    FORWARDING,
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

#[derive(Default, Serialize, Deserialize)]
struct Before {
    boot: String,
    settings: BTreeMap<String, String>,
    /// Folders that were not there; deeper ones first.
    created: Vec<PathBuf>,
}

impl Before {
    fn add(&mut self, created: &[PathBuf]) {
        for folder in created {
            if !self.created.contains(folder) {
                self.created.push(folder.clone());
            }
        }
    }
}

/// Why the kernel's settings cannot be changed here: tried by opening the one that every start writes.
pub fn not_writable() -> Option<String> {
    let path = Path::new("/proc/sys").join(FORWARDING);
    let tried = fs::OpenOptions::new().write(true).open(&path);
    tried.err().map(|error| format!("kernel settings: cannot write {}: {error}", path.display()))
}

/// Holds other clusters' starts and removals back until the returned file is dropped.
pub fn lock() -> Result<File> {
    state::lock(&Layout::all()?.join(".machine.lock"))
}

/// Remembers the settings, unless a cluster already did, and turns forwarding on.
pub fn prepare() -> Result<()> {
    if load().is_none() {
        let settings = SETTINGS.into_iter().filter_map(|name| Some((name.to_owned(), read(name)?))).collect();
        store(&Before { boot: boot_id(), settings, created: Vec::new() })?;
    }
    write(FORWARDING, "1")
}

/// Remembers folders that were created to mount over them.
pub fn remember(created: &[PathBuf]) -> Result<()> {
    let Some(mut before) = load() else { return Ok(()) };
    before.add(created);
    store(&before)
}

/// Puts everything back, unless another cluster still needs it.
pub fn restore(saved: &Saved) -> Result<()> {
    let before = load();
    let known = before.is_some();
    let mut before = before.unwrap_or_default();
    before.add(&saved.created_folders);
    let others = fs::read_dir(FOLDER).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    });
    if others {
        // Removing a folder would take away what another cluster has mounted over it.
        return if known { store(&before) } else { Ok(()) };
    }
    for (name, value) in &before.settings {
        if read(name).as_ref() != Some(value) {
            write(name, value)?;
        }
    }
    for folder in &before.created {
        // One that others use by now is not empty and stays.
        let _ = fs::remove_dir(folder);
    }
    if file().exists() {
        fs::remove_file(file()).map_err(Error::file("remove", file()))?;
    }
    let _ = fs::remove_dir(FOLDER);
    Ok(())
}

/// What was remembered in this boot: a restart of the machine puts the settings back itself.
fn load() -> Option<Before> {
    let before: Before = serde_json::from_slice(&fs::read(file()).ok()?).ok()?;
    (before.boot == boot_id()).then_some(before)
}

fn store(before: &Before) -> Result<()> {
    let text = serde_json::to_string(before).map_err(|error| Error::other(error.to_string()))?;
    write_file(&file(), &text)
}

fn file() -> PathBuf {
    Path::new(FOLDER).join("before.json")
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|value| value.trim().to_owned())
}

fn write(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).map_err(Error::file("write", path))
}
