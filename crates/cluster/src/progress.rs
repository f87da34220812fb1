//! One line for each thing under way: a spinner with the elapsed time on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long a step may take before its start is said too.
const QUIET: Duration = Duration::from_secs(5);

/// Something under way. Call [`Step::done`] when it succeeded; dropping it without says that it failed.
pub struct Step {
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    finished: bool,
    announced: Cell<bool>,
}

impl Step {
    /// Starts a step; `what` reads as "building etcd v3.6.8".
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner:.cyan} {prefix} {elapsed:.dim} {msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(what.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { what, started: Instant::now(), bar, finished: false, announced: Cell::new(false) }
    }

    /// Says what the step is waiting for right now. Elsewhere than on a terminal only a long step is
    /// announced, once.
    pub fn note(&self, detail: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(detail.into());
        } else if self.started.elapsed() > QUIET && !self.announced.replace(true) {
            say(&format!("{} …", self.what));
        }
    }

    /// Ends the step as done.
    pub fn done(mut self) {
        self.end("done");
    }

    fn end(&mut self, outcome: &str) {
        self.finished = true;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        say(&format!("{} … {outcome} in {}", self.what, seconds(self.started.elapsed())));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.end("failed");
        }
    }
}

/// A line to the person at the terminal. Standard output stays free for what scripts read.
pub fn say(line: &str) {
    eprintln!("{line}");
}

/// A duration as people read it: tenths below ten seconds, whole seconds above.
pub fn seconds(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(10) {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} s", elapsed.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(seconds(Duration::from_millis(281_700)), "281 s");
    }
}
