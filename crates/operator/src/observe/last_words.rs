//! The last lines of a container that crashed: evidence that an incident needs in addition. Gathered beside
//! the action, under a deadline; what did not arrive is noted, not waited for.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use mcp_health_core::{diagnose::Witness, mask::mask};

/// How long the log may take.
const DEADLINE: Duration = Duration::from_millis(500);
/// How many lines are asked for.
const LINES: i64 = 20;
/// How many of them are kept.
const KEPT: usize = 3;
/// The most characters of a line that are kept.
const LONGEST: usize = 240;

/// The last lines of the witness's previous run, masked, as one sentence of evidence.
pub async fn of(client: Client, namespace: String, witness: Witness) -> String {
    let Witness { pod, container } = witness;
    let ask = async {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let params = LogParams {
            container: Some(container.clone()),
            previous: true,
            tail_lines: Some(LINES),
            limit_bytes: Some(32 * 1024),
            ..LogParams::default()
        };
        // Between two runs there is no previous one yet; and once the pod is on its way out, the previous one is
        // another, which has been removed. Then the run that ended is the current.
        match api.logs(&pod, &params).await {
            Err(kube::Error::Api(status)) if status.code == 400 => {}
            Ok(log) if is_gone(&log) => {}
            answer => return answer,
        }
        api.logs(&pod, &LogParams { previous: false, ..params }).await
    };
    match tokio::time::timeout(DEADLINE, ask).await {
        Ok(Ok(log)) if is_gone(&log) => format!("the log of pod {pod} was removed before it could be read"),
        Ok(Ok(log)) => last_lines(&log).map_or_else(
            || format!("pod {pod} wrote nothing before it ended"),
            |lines| format!("last lines of pod {pod}: {lines}"),
        ),
        Ok(Err(error)) => {
            let why = crate::error::answer(&error)
                .map_or_else(|| error.to_string(), |status| status.message.clone());
            format!("the log of pod {pod} could not be read: {}", mask(&why))
        }
        Err(_) => format!("the log of pod {pod} did not arrive within 500ms"),
    }
}

/// Whether this is what the kubelet answers in a log's place, with status 200, where the run was removed.
fn is_gone(log: &str) -> bool {
    let answers = ["unable to retrieve container logs for ", "failed to try resolving symlinks in path "];
    answers.iter().any(|answer| log.starts_with(answer))
}

/// The last lines that say something.
fn last_lines(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(KEPT)..];
    let short = last.iter().map(|line| mask(line).chars().take(LONGEST).collect::<String>());
    (!last.is_empty()).then(|| short.collect::<Vec<_>>().join(" ⏎ "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_that_say_something_are_kept_and_masked() {
        let log = "starting\n\nTraceback\n  File x\nKeyError: 'DATABASE_URL'\npassword=abc\n\n";
        assert_eq!(last_lines(log).as_deref(), Some("File x ⏎ KeyError: 'DATABASE_URL' ⏎ password=***"));
        assert_eq!(last_lines("\n \n"), None);
    }

    #[test]
    fn what_the_kubelet_says_of_a_removed_run_is_not_taken_for_its_log() {
        assert!(is_gone("unable to retrieve container logs for containerd://1b5877bbe035"));
        assert!(is_gone("failed to try resolving symlinks in path \"/var/log/pods/x/server/0.log\": lstat"));
        assert!(!is_gone("KeyError: 'DATABASE_URL'"));
    }
}
