//! Processes that outlive the command that started them: who they are, and how to find them again.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A process, told apart from a later one with the same number by its start time and the machine's boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidRecord {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the boot.
    pub started: u64,
    /// The boot it started in.
    pub boot: String,
}

impl PidRecord {
    /// The record of a process that runs now; none once it has ended.
    pub fn of(pid: i32) -> Option<Self> {
        let started = start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, started, boot: boot_id() })
    }

    /// Whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends SIGKILL, if the number still belongs to that process.
    pub fn kill(&self) {
        if self.is_alive()
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid)
        {
            // It may end in between: then there is nothing left to do.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Waits until the process has ended; false when it has not by then.
    pub fn wait_gone(&self, limit: Duration) -> bool {
        wait_until(limit, || !self.is_alive())
    }
}

/// A running process and how it was called.
#[derive(Debug, Clone)]
pub struct Process {
    /// Who it is.
    pub record: PidRecord,
    /// Its command line.
    pub argv: Vec<String>,
}

/// Every process for which `pick` holds on its command line.
pub fn find(pick: impl Fn(&[String]) -> bool) -> Vec<Process> {
    list(|_| true).into_iter().filter(|process| pick(&process.argv)).collect()
}

/// Every process in the same process-number namespace as `pid`.
pub fn in_namespace_of(pid: i32) -> Vec<Process> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(pid) else { return Vec::new() };
    list(|other| namespace(other).as_ref() == Some(&wanted))
}

/// Polls `condition` until it holds; false when it does not within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The machine's current boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn list(keep: impl Fn(i32) -> bool) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| keep(*pid))
        .filter_map(|pid| {
            let argv = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let argv = argv
                .strip_suffix(&[0])
                .unwrap_or(&argv)
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            Some(Process { record: PidRecord::of(pid)?, argv })
        })
        .collect()
}

/// The start time in a `/proc/PID/stat` line; none for a zombie, which has ended but was not yet collected.
/// One whose first thread alone has ended is no such: its others hold its files and ports.
fn start_time(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may hold anything, parentheses too.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    if state == "X" || (state == "Z" && threads <= 1) {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "1 5 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1000 10 18446744073709551615";

    #[test]
    fn the_start_time_is_read_past_any_name() {
        assert_eq!(start_time(&format!("5 (etcd) S {TAIL}")), Some(98765));
        assert_eq!(start_time(&format!("5 (a) b) R (c) S {TAIL}")), Some(98765));
    }

    #[test]
    fn a_zombie_has_ended() {
        assert_eq!(start_time(&format!("5 (etcd) Z {TAIL}")), None);
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_before_the_others_has_not() {
        let three = TAIL.replace(" 20 0 1 0 ", " 20 0 3 0 ");
        assert_eq!(start_time(&format!("5 (etcd) Z {three}")), Some(98765));
    }

    #[test]
    fn garbage_is_no_process() {
        for line in ["", "5", "5 (x)", "5 (x) S 1 2", "5 (x) S a b c d e f g h i j k l m n o p q r s t u"] {
            assert_eq!(start_time(line), None, "{line}");
        }
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let me = PidRecord::of(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(!PidRecord { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!PidRecord { boot: "another".into(), ..me }.is_alive());
    }
}
