//! A program that works on something for later, beside everything else.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::cache;
use cluster::command::{last_lines, spawn_error};
use cluster::error::{Error, Result};
use cluster::progress::{Step, say};
use cluster::state::write_folder;
use rustix::process::{Pid, Signal, kill_process_group, setpriority_process};

use crate::interrupt;

/// One that runs. Dropping it ends it, and what it has started.
pub struct Background {
    what: &'static str,
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `command`; `what` reads as "building the parts of the cluster". Its log is called `log`;
    /// the greater `nice` is, the less of a claim it has to the processors.
    pub fn start(what: &'static str, log: &str, nice: i32, mut command: Command) -> Result<Self> {
        let log = cache::root()?.join("logs").join(log);
        write_folder(log.parent().unwrap_or(&log))?;
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        // In a group of its own, so that it ends together with what it starts.
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        say(&format!("{what} meanwhile; log: {}", log.display()));
        let child = command.spawn().map_err(|source| spawn_error(&command, source))?;
        if let Some(pid) = pid(&child) {
            // What it starts inherits it. Where it cannot be set, the work is done all the same.
            let _ = setpriority_process(Some(pid), nice);
        }
        Ok(Self { what, child, log })
    }

    /// Waits until it is done; an error with the end of its log where it failed.
    pub fn wait(mut self) -> Result<()> {
        let step = Step::start(self.what);
        let said = |log: &PathBuf| fs::read_to_string(log).unwrap_or_default();
        let status = loop {
            let status =
                self.child.try_wait().map_err(|error| Error::other(format!("cannot wait: {error}")))?;
            if let Some(status) = status {
                break status;
            }
            interrupt::check()?;
            step.note(said(&self.log).lines().last().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(200));
        };
        if !status.success() {
            return Err(Error::other(format!("{} failed:{}", self.what, last_lines(&said(&self.log), 20))));
        }
        step.done();
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(group) = pid(&self.child) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
