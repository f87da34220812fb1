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
        match api.logs(&pod, &params).await {
            // Between two runs there is no previous one yet: the run that ended is the current.
            Err(kube::Error::Api(status)) if status.code == 400 => {
                api.logs(&pod, &LogParams { previous: false, ..params }).await
            }
            answer => answer,
        }
    };
    match tokio::time::timeout(DEADLINE, ask).await {
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
}
