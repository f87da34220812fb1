//! One stage: programs that run with their output passed on, within a limit, and the tests that they report.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster::command::{display, spawn_error};
use cluster::error::{Error, Result};
use cluster::progress::seconds;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt;

/// How long programs have to end by themselves when they are told to.
const GRACE: Duration = Duration::from_secs(20);

/// How many tests did what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

/// So many tests that are left out are named in a command line.
const FEW: usize = 3;

/// What a stage has run so far.
#[derive(Debug, Default)]
pub struct Stage {
    /// The tests in it; none where it is not made of tests.
    pub counts: Option<Counts>,
}

impl Stage {
    /// Like [`command`], for programs that report tests as cargo does.
    pub fn tests(&mut self, command: &mut Command, limit: Duration) -> Result<()> {
        println!("$ {}", shown(command));
        let (status, counts) = run(command, limit)?;
        let total = self.counts.get_or_insert_default();
        total.passed += counts.passed;
        total.failed += counts.failed;
        succeeded(status)
    }
}

/// Runs a program to its end; an error where it fails or takes longer than `limit`.
pub fn command(command: &mut Command, limit: Duration) -> Result<()> {
    println!("$ {}", shown(command));
    let (status, _) = run(command, limit)?;
    succeeded(status)
}

/// The command line, with the program as a person calls it. Of tests that are left out, more than a few are
/// counted: the report names them.
fn shown(command: &Command) -> String {
    let line = display(command);
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default();
    let line = line.replacen(program.as_ref(), name, 1);
    let mut parts = line.split(" --skip ");
    let head = parts.next().unwrap_or_default();
    match parts.clone().count() {
        ..=FEW => line,
        many => format!("{head} --skip … ({many} tests)"),
    }
}

fn succeeded(status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(Error::other(format!("it failed ({status})"))) }
}

fn run(command: &mut Command, limit: Duration) -> Result<(ExitStatus, Counts)> {
    // In a group of its own, so that all of it can be ended.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|source| spawn_error(command, source))?;
    let reader = child.stdout.take().map(|output| thread::spawn(move || pass_on(output)));
    let status = wait(&mut child, limit);
    if status.is_err() {
        end(&mut child);
    }
    let counts = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    Ok((status?, counts))
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let started = Instant::now();
    loop {
        interrupt::check()?;
        let status =
            child.try_wait().map_err(|error| Error::other(format!("cannot wait for it: {error}")))?;
        if let Some(status) = status {
            return Ok(status);
        }
        if started.elapsed() > limit {
            return Err(Error::other(format!("it was ended after {}: it hangs", seconds(limit))));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a program and all that it has started: as by Ctrl-C first.
fn end(child: &mut Child) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    let deadline = Instant::now() + GRACE;
    let _ = kill_process_group(group, Signal::INT);
    while child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    // What is left of the group holds the output open.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// Passes lines on, and counts the tests that they report.
fn pass_on(output: impl Read) -> Counts {
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some((passed, failed)) = result(&line) {
            counts.passed += passed;
            counts.failed += failed;
        }
    }
    counts
}

/// The numbers in `test result: ok. 3 passed; 0 failed; …`.
fn result(line: &str) -> Option<(u64, u64)> {
    let line = console::strip_ansi_codes(line);
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        numbers.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_a_few_tests_that_are_left_out_and_counts_many() {
        let line = |names: &[&str]| {
            let mut command = Command::new("/opt/bin/cargo");
            shown(command.args(["test", "--"]).args(names.iter().flat_map(|name| ["--skip", *name])))
        };
        assert_eq!(line(&["a", "b"]), "cargo test -- --skip a --skip b");
        assert_eq!(line(&["a", "b", "c", "d"]), "cargo test -- --skip … (4 tests)");
    }

    #[test]
    fn results_are_read_with_colour_and_without() {
        let plain =
            "test result: ok. 34 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.13s";
        assert_eq!(result(plain), Some((34, 1)));
        let coloured = "test result: \u{1b}[32mok\u{1b}[m. 2 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(result(coloured), Some((2, 0)));
        assert_eq!(result("test a::b ... ok"), None);
    }

    #[test]
    fn what_hangs_is_ended_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' INT; sleep 600 & echo started; wait"]);
        let started = Instant::now();
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        assert!(wait(&mut child, Duration::from_millis(300)).unwrap_err().to_string().contains("hangs"));
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process_group(group, Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_command_is_shown_as_a_person_would_type_it() {
        assert_eq!(shown(Command::new("/opt/bin/cargo").args(["test", "a b"])), "cargo test 'a b'");
    }

    #[test]
    fn a_program_that_fails_fails_its_stage() {
        let mut stage = Stage::default();
        let error = super::command(Command::new("false").arg("x"), Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
        let mut tests = Command::new("echo");
        tests.arg("test result: ok. 2 passed; 0 failed; 0 ignored");
        stage.tests(&mut tests, Duration::from_secs(5)).unwrap();
        assert_eq!(stage.counts, Some(Counts { passed: 2, failed: 0 }));
    }
}
