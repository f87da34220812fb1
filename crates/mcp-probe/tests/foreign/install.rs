//! Packages of foreign registries, kept from one run to the next in the folder that `cargo xtask` keeps its parts in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python of a virtual environment that has these packages.
pub async fn python(name: &str, packages: &[&str]) -> PathBuf {
    let install = |folder: &Path| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(folder.join("bin/python")).args(pip).args(packages));
    };
    // What it was made of may have gone with an upgrade, and it leads nowhere then.
    kept("python", name, |folder| folder.join("bin/python").exists(), install).await.join("bin/python")
}

/// A folder whose programs find these packages.
pub async fn node(name: &str, packages: &[&str]) -> PathBuf {
    let install = |folder: &Path| {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("package.json"), "{}").unwrap();
        let npm = ["install", "--silent", "--no-audit", "--no-fund", "--save-exact"];
        run(Command::new("npm").args(npm).args(packages).current_dir(folder));
    };
    kept("node", name, |_| true, install).await
}

/// Makes the folder, the first time and where it is not whole any more; no two at the same time.
async fn kept(
    language: &str,
    name: &str,
    is_whole: impl FnOnce(&Path) -> bool,
    install: impl FnOnce(&Path),
) -> PathBuf {
    let root = cache().join(language);
    std::fs::create_dir_all(&root).unwrap();
    let lock = File::create(root.join("lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = lock.unwrap().unwrap();
    let folder = root.join(name);
    let done = folder.join("done");
    if !(done.exists() && is_whole(&folder)) {
        install(&folder);
        std::fs::write(&done, "").unwrap();
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}

fn cache() -> PathBuf {
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("MCP_HEALTH_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("mcp-health-operator")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/mcp-health-operator")))
        .expect("MCP_HEALTH_CACHE or HOME is set: there is nowhere to keep packages")
}
