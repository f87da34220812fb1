//! PostgreSQL from the system's packages: the tests run it, and the demo makes an image of it.

use std::fs;
use std::path::{Path, PathBuf};

use cluster::command::which;
use cluster::error::{Error, Result};
use cluster::images::Image;
use cluster::packages;
use cluster::progress::say;

/// Starts it in a container.
pub const START: &str = include_str!("postgres/start.sh");

/// The role as which the operator comes.
pub const ROLE: &str = include_str!("../../../deploy/postgres/role.sql");

/// Debian's package.
const PACKAGE: &str = "postgresql";

/// Where Debian keeps its programs, by version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// What a server needs at its start, and what its making does.
const PROGRAMS: [&str; 4] = ["initdb", "pg_ctl", "postgres", "psql"];

/// The modules that are loaded.
const MODULES: [&str; 3] = ["dict_snowball.so", "pg_stat_statements.so", "plpgsql.so"];

/// Whether its programs are there, installed now where that is allowed.
pub fn ensure(install: bool) -> Result<bool> {
    if is_installed() {
        return Ok(true);
    }
    if !(install && rustix::process::geteuid().is_root() && packages::can_install()) {
        return Ok(false);
    }
    packages::install(&[PACKAGE])?;
    Ok(is_installed())
}

/// The same, where tests fail without it.
pub fn for_tests(install: bool) -> Result<()> {
    if !ensure(install)? {
        say(&format!("PostgreSQL is missing, and its tests will fail: {}", how_to_install()));
    }
    Ok(())
}

/// The command that a person would type.
pub fn how_to_install() -> String {
    packages::command(&[PACKAGE])
}

fn is_installed() -> bool {
    version().is_some() || ["initdb", "postgres"].iter().all(|name| which(name).is_some())
}

/// The newest version that is installed as Debian does it.
pub fn version() -> Option<String> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let names = versions.filter_map(|version| version.file_name().into_string().ok());
    let whole = |version: &String| PROGRAMS.iter().all(|name| bin(version).join(name).is_file());
    names.filter(whole).max_by_key(|version| version.parse::<u32>().ok())
}

fn bin(version: &str) -> PathBuf {
    Path::new(VERSIONS).join(version).join("bin")
}

/// An image that runs it: [`START`], and the few files that it takes.
pub fn image(name: &str) -> Result<Image> {
    let missing = || Error::other(format!("PostgreSQL is not installed: {}", how_to_install()));
    let version = version().ok_or_else(missing)?;
    let mut image = Image::empty(name).with_program(Path::new("/bin/sh"), "/bin/sh")?;
    for program in PROGRAMS {
        let program = bin(&version).join(program);
        image = image.with_program(&program, &program.display().to_string())?;
    }
    for module in MODULES {
        let module = Path::new(VERSIONS).join(&version).join("lib").join(module);
        image = image.with_program(&module, &module.display().to_string())?;
    }
    let share = Path::new("/usr/share/postgresql").join(&version);
    image = image.folder(&share, &|path| !path.starts_with(share.join("man")))?;
    Ok(image.text("/start.sh", START).entrypoint(&["/bin/sh", "/start.sh"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_all_that_a_server_takes() {
        let Some(version) = version() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed: {}", how_to_install());
            return;
        };
        let image = image("example.test/postgres:1").unwrap();
        let paths = image.paths();
        for path in ["bin/sh", "start.sh", &format!("usr/share/postgresql/{version}/postgres.bki")] {
            assert!(paths.contains(&path), "{path} is missing: {paths:?}");
        }
        assert!(paths.iter().any(|path| path.contains("ld-linux")), "{paths:?}");
        assert!(!paths.iter().any(|path| path.contains("/man/")), "{paths:?}");
    }
}
