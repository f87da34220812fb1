//! An MCP server in Python, from PyPI, in a virtual environment that is kept from one run to the next.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{command, environment, host};

/// What is installed. A folder of its own for each version.
const PACKAGE: &str = "fastmcp==4.1.0";

/// A virtual environment with FastMCP.
pub struct Python {
    folder: PathBuf,
    prefix: PathBuf,
}

impl Python {
    /// Makes it, the first time.
    pub async fn ready() -> Self {
        let root = environment::cache().join("python");
        std::fs::create_dir_all(&root).expect("the cache folder can be made");
        let lock = File::create(root.join("lock")).expect("a lock file can be made");
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
        let _lock = lock.expect("the lock is waited for").expect("the lock can be taken");

        let ask = "import sys; print(sys.base_prefix)";
        let prefix = command::aside("python3", &["-c", ask], "").await.ok();
        let folder = root.join(PACKAGE.replace("==", "-"));
        let done = folder.join("done");
        if !done.exists() {
            let path = folder.display().to_string();
            command::aside("python3", &["-m", "venv", "--clear", &path], "").await.ok();
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
            command::aside(folder.join("bin/python"), &install, "").await.ok();
            std::fs::write(&done, "").expect("a file can be written");
        }
        Self { folder, prefix: Path::new(prefix.trim()).to_owned() }
    }

    /// A pod that runs `code` with it.
    pub fn pod(&self, code: &str) -> Value {
        let mut paths = host::system();
        paths.extend([self.folder.as_path(), self.prefix.as_path()]);
        // What is within another folder of the list is there already.
        let all = paths.clone();
        paths.retain(|path| !all.iter().any(|other| path != other && path.starts_with(other)));
        let (volumes, mounts) = host::folders(&paths);
        json!({
            "containers": [{
                "name": "server",
                "image": host::IMAGE,
                "command": [self.folder.join("bin/python"), "-u", "-c", code],
                "env": [{"name": "HOME", "value": "/tmp"}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
                "ports": [{"name": "http", "containerPort": 8000}],
                "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        })
    }
}
