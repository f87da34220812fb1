//! What a cluster keeps on disk: where its files are, and what was started for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::endpoints::Endpoints;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::network::Network;
use crate::process::PidRecord;
use crate::progress::say;

/// The name of the cluster where none is given.
pub const DEFAULT_NAME: &str = "mcp-health";

/// What is added to a command so that it is about the cluster of this name; nothing for the default one.
pub fn name_option(name: &str) -> String {
    if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") }
}

/// Where one cluster's files are.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The cluster's name.
    pub name: String,
    /// Six hexadecimal digits of its own, for names that the whole machine shares.
    pub id: String,
    /// What outlives a restart of the machine: certificates, etcd's data, images, logs.
    pub dir: PathBuf,
    /// What does not: sockets, network namespaces, the runtime's view of running containers.
    pub run: PathBuf,
}

impl Layout {
    /// The layout of the cluster called `name`.
    pub fn new(name: &str) -> Result<Self> {
        let fits = (1..=40).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !fits {
            return Err(Error::other(format!(
                "`{name}` cannot name a cluster: use at most 40 lower-case letters, digits and inner hyphens"
            )));
        }
        let dir = Self::all()?.join(name);
        let id = hex(&Sha256::digest(dir.as_os_str().as_encoded_bytes()))[..6].to_owned();
        let run = Path::new("/run/mcp-health").join(&id);
        Ok(Self { name: name.to_owned(), id, dir, run })
    }

    /// The folder that holds a folder for each cluster.
    pub fn all() -> Result<PathBuf> {
        Ok(crate::cache::root()?.join("clusters"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Keys and certificates.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.dir.join("pki").join(file)
    }

    /// A generated configuration file.
    pub fn config(&self, file: &str) -> PathBuf {
        self.dir.join("config").join(file)
    }

    /// The log of one part.
    pub fn log(&self, part: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{part}.log"))
    }

    /// Links to the programs that a person may want: kubectl, helm, ctr.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// The container runtime's socket, as this machine sees it.
    pub fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd/containerd.sock")
    }

    /// The name of the Kubernetes node.
    pub fn node_name(&self) -> String {
        format!("{}-node", self.name)
    }

    /// Holds other commands on the same cluster back until the returned file is dropped.
    pub fn lock(&self) -> Result<File> {
        lock(&self.lock_file())
    }

    /// What they wait for.
    pub fn lock_file(&self) -> PathBuf {
        self.dir.with_extension("lock")
    }
}

/// Holds others who lock the same file back until the returned file is dropped.
pub fn lock(path: &Path) -> Result<File> {
    write_folder(path.parent().unwrap_or(path))?;
    loop {
        let file = File::create(path).map_err(Error::file("create", path))?;
        if file.try_lock().is_err() {
            say(&format!("waiting for another command that holds {}", path.display()));
            file.lock().map_err(Error::file("lock", path))?;
        }
        let mine = file.metadata().map_err(Error::file("read", path))?;
        // Whoever held it may have removed the file together with the cluster.
        if fs::metadata(path).is_ok_and(|current| current.ino() == mine.ino()) {
            return Ok(file);
        }
    }
}

/// What was started and chosen for a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// What it has for a node.
    pub kind: Kind,
    /// Its addresses.
    pub network: Option<Network>,
    /// Where the control plane listens.
    pub endpoints: Option<Endpoints>,
    /// How many simulated nodes it has that ordinary pods stay away from.
    pub simulated_nodes: u32,
    /// The first process of the node; all others live in its namespaces and end with it.
    pub node: Option<PidRecord>,
    /// The other processes, by part.
    pub daemons: BTreeMap<String, PidRecord>,
    /// The programs it runs, by name.
    pub programs: BTreeMap<String, PathBuf>,
    /// The versions of the parts it runs.
    pub versions: BTreeMap<String, String>,
    /// Folders outside its own that had to be created to mount over them.
    pub created_folders: Vec<PathBuf>,
}

impl Saved {
    /// Reads what was saved; nothing was, or it is unreadable: an empty one.
    pub fn load(layout: &Layout) -> Self {
        fs::read(layout.dir.join("cluster.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Saves it, whole or not at all.
    pub fn store(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::other(error.to_string()))?;
        write_file(&layout.dir.join("cluster.json"), &text)
    }
}

/// Creates a folder and those above it.
pub fn write_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("create the folder", path))
}

/// Writes a file that only its owner reads, whole or not at all, and the folders above it.
pub fn write_file(path: &Path, content: &str) -> Result<()> {
    write_folder(path.parent().unwrap_or(path))?;
    let partial = path.with_extension("partial");
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(content.as_bytes())?;
        fs::rename(&partial, path)
    };
    write().map_err(Error::file("write", path))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_different_names_share_nothing() {
        let (a, b) = (Layout::new("a").unwrap(), Layout::new("b").unwrap());
        assert_ne!(a.id, b.id);
        assert_ne!(a.dir, b.dir);
        assert_ne!(a.run, b.run);
        assert_eq!(a.id.len(), 6);
    }

    #[test]
    fn names_that_would_escape_the_folder_are_refused() {
        for name in ["", "..", "a/b", "-a", "a-", "A", &"x".repeat(41)] {
            assert!(Layout::new(name).is_err(), "{name}");
        }
    }
}
