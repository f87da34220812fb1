//! The last lines of a log that say something: what a person would read first. Frames of stack traces are left out,
//! JSON lines are read, credentials are masked, and what is kept is bounded.

use serde_json::Value;

use crate::{mask::mask, words};

/// How many lines are kept.
const KEPT: usize = 8;
/// How much of a line is kept, in bytes.
const LONGEST: usize = 240;

/// The last lines of a log, oldest first; empty where it says nothing.
pub fn of_log(log: &str) -> Vec<String> {
    let mut kept = Vec::new();
    for line in log.lines().rev() {
        let mut told = told(line.trim());
        told.retain(|text| says_something(text));
        told.reverse();
        kept.extend(told.iter().map(|text| words::shorten(&mask(text), LONGEST)));
        if kept.len() >= KEPT {
            break;
        }
    }
    kept.truncate(KEPT);
    kept.reverse();
    kept
}

/// What one line tells: itself; of a JSON object, its level, message and error.
fn told(line: &str) -> Vec<String> {
    let object = line.starts_with('{').then(|| serde_json::from_str::<Value>(line).ok()).flatten();
    let Some(object) = object else { return vec![line.to_owned()] };
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| object.get(name))?;
        let text = found.as_str().or_else(|| found.get("message")?.as_str())?;
        (!text.trim().is_empty()).then(|| text.to_owned())
    };
    let level = text(&["level", "severity", "levelname", "lvl"]);
    let parts = [
        text(&["message", "msg", "event"]).or_else(|| text(&["fields"])),
        text(&["error", "err", "exception", "exc_info", "stack"]),
    ];
    let lines: Vec<String> =
        parts.iter().flatten().flat_map(|part| part.lines().map(|line| line.trim().to_owned())).collect();
    if lines.is_empty() {
        return vec![line.to_owned()];
    }
    let Some(level) = level else { return lines };
    lines.into_iter().map(|line| format!("{level} {line}")).collect()
}

/// Frames, carets and closing words of stack traces tell where, not what.
fn says_something(line: &str) -> bool {
    const FRAMES: &[&str] = &[
        "at ",
        "File \"",
        "goroutine ",
        "created by ",
        "... ",
        "Node.js v",
        "node:internal",
        "throw ",
        "note: run with `RUST_BACKTRACE",
        "note: Some details are omitted",
        "stack backtrace:",
        "----- Native stack trace",
        "<--- ",
        "Traceback (most recent call last)",
        "exit status ",
        "During handling of the above exception",
        "The above exception was the direct cause",
        "For further information visit",
    ];
    let letters = line.chars().filter(|letter| letter.is_alphanumeric()).count();
    let numbered = line.split_once(": ").is_some_and(|(number, frame)| {
        number.chars().all(|digit| digit.is_ascii_digit())
            && (frame.contains("::") || frame.starts_with("0x"))
    });
    let in_go = (line.contains(".go:") && line.contains(" +0x")) || line.ends_with("(...)");
    letters > 1 && !numbered && !in_go && !FRAMES.iter().any(|frame| line.starts_with(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_that_say_something_are_kept_and_masked() {
        let log = "starting\n\nTraceback (most recent call last):\n  File \"x.py\", line 2, in <module>\n    ^^^^\n\
                   KeyError: 'DATABASE_URL'\npassword=abc\n}\n\n";
        assert_eq!(of_log(log), ["starting", "KeyError: 'DATABASE_URL'", "password=***"]);
        assert!(of_log("\n \n").is_empty());
    }

    #[test]
    fn of_a_long_log_only_the_end_is_kept_and_of_long_lines_the_beginning() {
        let log = (0..100).fold(String::new(), |log, at| format!("{log}line {at}\n"));
        assert_eq!(of_log(&log).len(), KEPT);
        assert_eq!(of_log(&log).last().map(String::as_str), Some("line 99"));
        assert!(of_log(&"é".repeat(4000))[0].len() <= LONGEST);
    }

    #[test]
    fn json_lines_are_read_and_their_credentials_masked() {
        let log = r#"{"level":"ERROR","fields":{"message":"cannot reach postgres://mcp:s3cret@db/mcp"},"password":"s3cret"}
{"level":"fatal","msg":"giving up","err":{"message":"connect ECONNREFUSED","stack":"x"}}"#;
        assert_eq!(
            of_log(log),
            ["ERROR cannot reach postgres://***@db/mcp", "fatal giving up", "fatal connect ECONNREFUSED"]
        );
        assert_eq!(of_log("{not json}"), ["{not json}"]);
    }

    #[test]
    fn the_frames_of_stack_traces_are_left_out() {
        let node = "node:internal/modules/cjs/loader:1147\n  throw err;\n  ^\n\nError: Cannot find module 'express'\n\
                    Require stack:\n- /app/server.js\n    at Module._resolveFilename (node:internal:1144:15) {\n  code: 'MODULE_NOT_FOUND'\n}\n\nNode.js v20.11.0\n";
        assert!(of_log(node).contains(&"Error: Cannot find module 'express'".to_owned()));
        let heap = "<--- JS stacktrace --->\n\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n\
                    ----- Native stack trace -----\n\n 1: 0xb78db3 node::OOMErrorHandler(char const*) [node]\n 2: 0x10fb205  [node]\n";
        assert_eq!(
            of_log(heap),
            ["FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"]
        );
        let go =
            "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:12 +0x1d\nexit status 2\n";
        assert_eq!(of_log(go), ["panic: boom", "main.main()"]);
    }
}
