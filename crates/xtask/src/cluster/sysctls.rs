//! Kernel settings of the whole machine that a cluster changes: remembered by the first, put back by the last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::process::boot_id;
use super::state::write_file;
use crate::error::{Error, Result};

const FILE: &str = "/run/mcp-health/sysctls.json";
const FORWARDING: &str = "net/ipv4/ip_forward";

/// Packet forwarding, and what every kubelet sets.
const CHANGED: [&str; 7] = [
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
    values: BTreeMap<String, String>,
}

/// Remembers the settings, unless a cluster already did, and turns forwarding on.
pub fn save() -> Result<()> {
    if load().is_none() {
        let values = CHANGED.into_iter().filter_map(|name| Some((name.to_owned(), read(name)?))).collect();
        let text = serde_json::to_string(&Before { boot: boot_id(), values })
            .map_err(|error| Error::other(error.to_string()))?;
        write_file(Path::new(FILE), &text)?;
    }
    write(FORWARDING, "1")
}

/// Puts the settings back, unless another cluster still needs them.
pub fn restore() -> Result<()> {
    let folder = Path::new(FILE).parent().unwrap_or(Path::new("/"));
    let others = fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    });
    if others {
        return Ok(());
    }
    if let Some(before) = load() {
        for (name, value) in before.values {
            if read(&name).as_ref() != Some(&value) {
                write(&name, &value)?;
            }
        }
    }
    if Path::new(FILE).exists() {
        fs::remove_file(FILE).map_err(Error::file("remove", FILE))?;
    }
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// What was remembered in this boot: a restart has put everything back itself.
fn load() -> Option<Before> {
    let before: Before = serde_json::from_slice(&fs::read(FILE).ok()?).ok()?;
    (before.boot == boot_id()).then_some(before)
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|value| value.trim().to_owned())
}

fn write(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).map_err(Error::file("write", path))
}
