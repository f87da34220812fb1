//! PostgreSQL of each version that the operator can ask, so that none hangs on what this system's packages
//! have: real servers out of npm's packages, kept in the cache. No script of a package is run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::command::{run as command, which};
use cluster::error::{Error, Result};

use super::cached::cached;

/// What is missing where they cannot be had.
pub const WANTS: &str = "npm, on Linux for x86-64";

/// The packages.
const MANIFEST: &str = include_str!("versions/package.json");

/// Their checksums, by which npm proves them, whatever registry this machine has them from.
const LOCK: &str = include_str!("versions/package-lock.json");

/// Whether they can be had here.
pub fn can_be_had() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64")) && which("npm").is_some()
}

/// A folder with `postgres-12/native/{bin,lib,share}` to `postgres-18`; fetched where it is not there yet.
pub fn folder() -> Result<PathBuf> {
    let is_whole =
        |root: &Path| fs::read_to_string(root.join("package-lock.json")).is_ok_and(|lock| lock == LOCK);
    let root = cached("postgres", is_whole, "PostgreSQL 12 to 18", |partial| install(&partial.join("root")))?;
    Ok(root.join("node_modules"))
}

fn install(root: &Path) -> Result<()> {
    for (name, content) in [("package.json", MANIFEST), ("package-lock.json", LOCK)] {
        let file = root.join(name);
        fs::write(&file, content).map_err(Error::file("write", &file))?;
    }
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    command("fetching PostgreSQL", Command::new("npm").current_dir(root).args(npm))?;
    for package in entries(&root.join("node_modules"))? {
        link_libraries(&package.join("native/lib"))?;
    }
    Ok(())
}

/// npm's packages hold no links: `libicuuc.so.60.2` is asked for as `libicuuc.so.60`.
fn link_libraries(lib: &Path) -> Result<()> {
    for file in entries(lib)? {
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let Some((short, _)) = name.rsplit_once('.').filter(|(short, _)| short.contains(".so.")) else {
            continue;
        };
        let link = lib.join(short);
        symlink(name, &link).map_err(Error::file("link", &link))?;
    }
    Ok(())
}

/// What is in a folder and not hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let all = fs::read_dir(folder).map_err(Error::file("read", folder))?.flatten();
    let shown = all.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    Ok(shown.map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_pinned_by_its_checksum_and_names_no_registry() {
        let lock: serde_json::Value = serde_json::from_str(LOCK).unwrap();
        let packages = lock["packages"].as_object().unwrap();
        for major in 12..=18 {
            let package = &packages[&format!("node_modules/postgres-{major}")];
            let version = package["version"].as_str().unwrap();
            assert!(version.starts_with(&format!("{major}.")), "{version}");
            assert!(package["integrity"].as_str().unwrap().starts_with("sha512-"), "{version}");
            assert!(MANIFEST.contains(&format!("@{version}\"")), "{version}");
        }
        assert_eq!(packages.len(), 8);
        assert!(!LOCK.contains("://"));
    }
}
