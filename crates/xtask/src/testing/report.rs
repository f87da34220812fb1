//! The stages one after another, and the table at the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster::error::Result;
use cluster::progress::{say, seconds};
use console::Style;

use super::stage::{Counts, Stage};
use crate::interrupt;

/// What the stages came to.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    left_out: Vec<(&'static str, &'static str)>,
    not_asked: BTreeSet<String>,
    lacking: Vec<(String, &'static str)>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    took: Duration,
    counts: Option<Counts>,
    passed: bool,
}

impl Report {
    /// Runs a stage. That it fails is noted, and the next one can run; an error is only what stops all of
    /// them.
    pub fn run(&mut self, name: &'static str, work: impl FnOnce(&mut Stage) -> Result<()>) -> Result<()> {
        interrupt::check()?;
        println!("\n{}", Style::new().bold().apply_to(format!("── {name}")));
        let started = Instant::now();
        let mut stage = Stage::default();
        let outcome = work(&mut stage);
        let took = started.elapsed();
        self.rows.push(Row { name, took, counts: stage.counts, passed: outcome.is_ok() });
        match outcome {
            Ok(()) => println!("{name}: passed in {}", seconds(took)),
            Err(error) => {
                let error = interrupt::explain(error);
                interrupt::check()?;
                say(&format!("error: {error}"));
                println!("{name}: FAILED after {}", seconds(took));
            }
        }
        Ok(())
    }

    /// Notes the tests that could not run here, each with its reason.
    pub fn left_out(&mut self, tests: Vec<(&'static str, &'static str)>) {
        self.left_out = tests;
    }

    /// Notes the tests that ran, and whose last question, to the server itself, nobody could have answered.
    pub fn not_asked(&mut self, tests: BTreeSet<String>) {
        self.not_asked = tests;
    }

    /// Notes what could not be asked, as `servers in Python`, with what is missing here.
    pub fn lacking(&mut self, what: impl Into<String>, wants: &'static str) {
        self.lacking.push((what.into(), wants));
    }

    /// Whether every stage passed.
    pub fn passes(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }

    /// How many tests ran.
    pub fn tests(&self) -> u64 {
        self.rows.iter().filter_map(|row| row.counts).map(|counts| counts.passed + counts.failed).sum()
    }

    /// Prints the table, and the result as its last line.
    pub fn print(&self, took: Duration) {
        println!("\n{}", Style::new().bold().apply_to(format!("{:<14}{:>8}  RESULT", "STAGE", "TIME")));
        for row in &self.rows {
            let style = if row.passed { Style::new().green() } else { Style::new().red() };
            let tests = row.counts.map(|counts| format!(", {}", words(counts))).unwrap_or_default();
            let result = style.apply_to(if row.passed { "passed" } else { "FAILED" });
            println!("{:<14}{:>8}  {result}{tests}", row.name, seconds(row.took));
        }
        if !self.not_asked.is_empty() {
            println!("\nNOT SHOWN, since the node is simulated: that MCP is served at the end of");
            for name in &self.not_asked {
                println!("  {name}");
            }
        }
        if !self.left_out.is_empty() {
            println!("\nNOT RUN, since the node is simulated:");
            for (name, why) in &self.left_out {
                println!("  {name}: {why}");
            }
        }
        for (what, wants) in &self.lacking {
            println!("\nNOT RUN, for want of {wants}: the tests that ask {what}");
        }
        println!("{}", self.result(took));
    }

    /// The last line.
    fn result(&self, took: Duration) -> String {
        let failed: Vec<&str> = self.rows.iter().filter(|row| !row.passed).map(|row| row.name).collect();
        let tests = self.tests();
        let time = seconds(took);
        if failed.is_empty() {
            format!(
                "\nall passed: {} stages with {tests} tests in {time}{}",
                self.rows.len(),
                self.shortfall()
            )
        } else {
            format!("\nFAILED: {} ({tests} tests ran, in {time}){}", failed.join(", "), self.shortfall())
        }
    }
}

impl Report {
    /// How many tests could not run, where there are such.
    fn shortfall(&self) -> String {
        let tests = match (self.left_out.len(), self.not_asked.len()) {
            (0, 0) => String::new(),
            (left_out, not_asked) => format!(
                "; {left_out} tests need a real node and did not run, {not_asked} ran without asking an MCP client"
            ),
        };
        let lacking: Vec<&str> = self.lacking.iter().map(|(what, _)| what.as_str()).collect();
        if lacking.is_empty() {
            return tests;
        }
        format!("{tests}; {} were not asked", lacking.join(" and "))
    }
}

fn words(counts: Counts) -> String {
    match counts {
        Counts { passed, failed: 0 } => format!("{passed} tests"),
        Counts { passed, failed } => format!("{failed} of {} tests failed", passed + failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::error::Error;

    #[test]
    fn what_could_not_run_is_counted_in_the_last_line() {
        let mut report = Report::default();
        report.left_out(vec![("a", "why"), ("b", "why")]);
        report.not_asked(["c".to_owned()].into());
        let line = report.result(Duration::from_secs(12));
        assert!(
            line.ends_with("; 2 tests need a real node and did not run, 1 ran without asking an MCP client")
        );
        report.lacking("servers in Node", "node and npm");
        report.lacking("Redis", "Debian's packages");
        let line = report.result(Duration::from_secs(12));
        let says = " without asking an MCP client; servers in Node and Redis were not asked";
        assert!(line.ends_with(says), "{line}");
    }

    #[test]
    fn one_failed_stage_fails_all_and_is_named() {
        let mut report = Report::default();
        report.run("good", |_| Ok(())).unwrap();
        assert!(report.passes());
        report
            .run("bad", |stage| {
                stage.counts = Some(Counts { passed: 1, failed: 2 });
                Err(Error::other("no"))
            })
            .unwrap();
        assert!(!report.passes());
        assert_eq!(report.result(Duration::from_secs(12)), "\nFAILED: bad (3 tests ran, in 12 s)");
    }
}
