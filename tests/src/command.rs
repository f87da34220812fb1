//! kubectl and Helm as people run them.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::environment;

/// What a program said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The command line.
    pub line: String,
    /// Whether it ended well.
    pub well: bool,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Said {
    /// What it wrote, if it ended well; else the test fails with what it said.
    pub fn ok(self) -> String {
        assert!(self.well, "`{}` failed:\n{}{}", self.line, self.out, self.err);
        self.out
    }
}

/// Runs kubectl to its end; blocks.
pub fn kubectl_blocking(arguments: &[&str], input: &str) -> Said {
    run(&environment::kubectl(), arguments, input)
}

/// Runs Helm to its end; blocks.
pub fn helm_blocking(arguments: &[&str]) -> Said {
    run(&environment::helm(), arguments, "")
}

/// Runs kubectl to its end.
pub async fn kubectl(arguments: &[&str], input: &str) -> Said {
    aside(environment::kubectl(), arguments, input).await
}

/// Runs Helm to its end.
pub async fn helm(arguments: &[&str]) -> Said {
    aside(environment::helm(), arguments, "").await
}

/// Runs a program to its end, aside from what else is awaited.
pub async fn aside(program: impl AsRef<Path>, arguments: &[&str], input: &str) -> Said {
    let program = program.as_ref().to_owned();
    let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
    let input = input.to_owned();
    let work = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&program, &arguments, &input)
    };
    tokio::task::spawn_blocking(work).await.expect("the child process is waited for")
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Said {
    let line = format!("{} {}", program.display(), arguments.join(" "));
    let output = || -> std::io::Result<Output> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input to the end says so by its exit status.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    let output = output().unwrap_or_else(|error| panic!("`{line}` cannot be run: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { line, well: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}
