//! The checkout that this program was built from, and cargo runs in it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use cluster::command::{display, spawn_error};
use cluster::error::{Error, Result};
use cluster::progress::Step;
use serde_json::Value;

/// The checkout's root: this crate stands two folders below it.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The operator's Helm chart.
pub fn chart() -> PathBuf {
    root().join("charts/mcp-health-operator")
}

/// A cargo that works as if a person had called it from the root; arguments are to be added.
///
/// What `cargo run` tells the program it runs does not reach it: build scripts that look at such variables
/// would run again with every change between the two ways to call cargo.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if told.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that builds programs as they are released.
pub fn release_build(packages: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["build", "--release"]);
    command.args(packages.iter().map(|package| format!("--package={package}")));
    command
}

/// Builds programs as they are released, and tells where they are, in the order of `packages`.
pub fn build_release(packages: &[&str]) -> Result<Vec<PathBuf>> {
    let step = Step::start(format!("building {}", packages.join(" and ")));
    let mut command = release_build(packages);
    command.arg("--message-format=json-render-diagnostics");
    let said = watched(&mut command, &step)?;
    let programs: Vec<(String, PathBuf)> = said.lines().filter_map(program).collect();
    let found = packages.iter().map(|package| {
        let program = programs.iter().find(|(name, _)| name == package);
        program.map(|(_, path)| path.clone()).ok_or_else(|| {
            Error::other(format!("the package {package} has no program of its own name to make an image of"))
        })
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    step.done();
    Ok(found)
}

/// Runs a cargo to its end, with its progress on `step`; gives what it wrote to its standard output.
pub fn watched(command: &mut Command, step: &Step) -> Result<String> {
    command
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| spawn_error(command, source))?;
    let output = child.stdout.take().map(|mut output| {
        thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            text
        })
    });
    let mut said = Vec::new();
    if let Some(errors) = child.stderr.take() {
        follow(errors, step, &mut said);
    }
    let status = child.wait().map_err(|source| spawn_error(command, source))?;
    let output = output.and_then(|reader| reader.join().ok()).unwrap_or_default();
    if status.success() {
        return Ok(output);
    }
    Err(Error::Command {
        what: "cargo".to_owned(),
        status: status.to_string(),
        command: display(command),
        // What the compiler says is only useful whole.
        output: cluster::command::last_lines(&said.join("\n"), 200),
    })
}

/// Reads what cargo says: its progress becomes the step's note, the rest is kept for an error.
fn follow(errors: impl Read, step: &Step, said: &mut Vec<String>) {
    let mut reader = BufReader::new(errors);
    let mut line = Vec::new();
    // The progress is redrawn after a carriage return, without a line break.
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).into_owned();
        for piece in text.split(['\r', '\n']) {
            let piece = piece.trim_start_matches("\u{1b}[K").trim();
            match (progress(piece), piece.split_once(' ').map_or("", |(verb, _)| verb)) {
                (Some(done), _) => step.note(done),
                (None, "" | "Compiling" | "Downloading" | "Downloaded" | "Finished") => {}
                (None, _) => said.push(piece.to_owned()),
            }
        }
        line.clear();
    }
}

/// `12/300: serde, tokio` of `Building [===>   ] 12/300: serde, tokio`.
fn progress(piece: &str) -> Option<String> {
    let (verb, rest) = piece.split_once(' ')?;
    let bar = rest.trim_start().strip_prefix('[')?;
    let (_, counts) = bar.split_once("] ")?;
    (verb == "Building" && counts.contains('/')).then(|| counts.to_owned())
}

/// Package and path of a program, from one of cargo's messages.
fn program(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_the_workspace_and_the_chart() {
        assert!(root().join("Cargo.lock").is_file());
        assert!(chart().join("Chart.yaml").is_file());
    }

    #[test]
    fn cargos_progress_is_read() {
        let line = "Building [=====>          ] 12/300: serde, tokio(build)";
        assert_eq!(progress(line).as_deref(), Some("12/300: serde, tokio(build)"));
        assert_eq!(progress("Compiling serde v1.0.0"), None);
        assert_eq!(progress("error[E0425]: cannot find value"), None);
    }

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":"/t/a"}"#;
        assert_eq!(program(message), Some(("a".to_owned(), PathBuf::from("/t/a"))));
        assert_eq!(program(r#"{"target":{"name":"a"},"executable":null}"#), None);
    }
}
