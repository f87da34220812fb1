//! Running other programs, with errors that name what failed, its last lines and what to do.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// How many of a program's last lines an error shows.
const LAST_LINES: usize = 12;

/// Runs a command to its end; on success gives what it wrote to its standard output.
pub fn run(what: &str, command: &mut Command) -> Result<String> {
    let output = output(command.stdin(Stdio::null()))?;
    finish(what, command, &output)
}

/// Like [`run`], with `input` on the command's standard input.
pub fn run_with_input(what: &str, command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| spawn_error(command, source))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|source| spawn_error(command, source))?;
    finish(what, command, &output)
}

/// Runs a command for its exit status alone; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line as a person would type it.
pub fn display(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains(|c: char| c.is_whitespace() || "'\"$;|&<>*()".contains(c)) {
                format!("'{}'", word.replace('\'', r"'\''"))
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last lines of a text, each indented, with a line break before the first.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().fold(String::new(), |all, line| all + "\n    " + line)
}

/// The path of a program, looked up in `PATH` and in the system folders that a user's `PATH` may lack.
pub fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().map_err(|source| spawn_error(command, source))
}

fn finish(what: &str, command: &Command, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.trim().is_empty() {
        said = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    Err(Error::Command {
        what: what.to_owned(),
        status: output.status.to_string(),
        command: display(command),
        output: last_lines(&said, LAST_LINES),
    })
}

/// The error of a program that cannot be started, with a hint where it is missing.
pub fn spawn_error(command: &Command, source: std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let hint = if source.kind() == std::io::ErrorKind::NotFound {
        " (install it, or put its folder into PATH)".to_owned()
    } else {
        String::new()
    };
    Error::Spawn { program, source, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_last_lines_of_the_program() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first >&2; echo 'the reason' >&2; exit 3"]);
        let message = run("the trial", &mut command).unwrap_err().to_string();
        assert!(message.starts_with("the trial failed (exit status: 3)"), "{message}");
        assert!(message.ends_with("first\n    the reason"), "{message}");
    }

    #[test]
    fn a_missing_program_is_named_with_a_hint() {
        let message = run("it", &mut Command::new("no-such-program")).unwrap_err().to_string();
        assert!(message.contains("no-such-program") && message.contains("PATH"), "{message}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let mut command = Command::new("echo");
        command.args(["plain", "two words", "it's"]);
        assert_eq!(display(&command), r"echo plain 'two words' 'it'\''s'");
    }
}
