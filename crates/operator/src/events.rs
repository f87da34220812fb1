//! Events: what changed of an incident's state, for `kubectl get events` and `kubectl describe`.

use std::time::Duration;

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use mcp_health_api::{MANAGER, McpServerHealth, McpServerHealthStatus};
use mcp_health_core::report::news;
use tokio::time::{Instant, timeout_at};

/// How long all events of one reconcile may take: the next reconcile of the server waits for them.
const DEADLINE: Duration = Duration::from_secs(10);

/// The one recorder of the operator.
pub fn recorder(client: Client, identity: &str) -> Recorder {
    Recorder::new(client, Reporter { controller: MANAGER.to_owned(), instance: Some(identity.to_owned()) })
}

/// Publishes what changed. An event that cannot be published is logged: the status tells the same.
pub async fn publish(
    recorder: &Recorder,
    object: &McpServerHealth,
    before: &McpServerHealthStatus,
    after: &McpServerHealthStatus,
) {
    let (regarding, until) = (object.object_ref(&()), Instant::now() + DEADLINE);
    for item in news(before, after) {
        tracing::info!(reason = item.reason, note = item.note, "state changed");
        let event = Event {
            type_: if item.warning { EventType::Warning } else { EventType::Normal },
            reason: item.reason.to_owned(),
            note: Some(item.note),
            action: item.action,
            secondary: None,
        };
        match timeout_at(until, recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, reason = event.reason, "an event could not be published");
            }
            Err(_) => {
                let seconds = DEADLINE.as_secs();
                tracing::warn!(reason = event.reason, "events could not be published within {seconds} s");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::tests::silent;

    #[tokio::test(start_paused = true)]
    async fn events_that_nobody_takes_do_not_hold_up_a_reconcile() {
        let spec =
            json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"}});
        let mut object = McpServerHealth::new("mcp-server", serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("mcp".to_owned());
        let moment = "2026-01-01T12:00:00Z";
        let incident = |id: &str| {
            json!({"id": id, "type": "CrashLoop", "cause": "BadRollout", "severity": "SEV1", "state": "Detected",
                "since": moment, "openedAt": moment, "respondBy": moment})
        };
        let all: Vec<_> = ["a", "b", "c", "d"].map(incident).into();
        let after: McpServerHealthStatus = serde_json::from_value(json!({"incidents": all})).unwrap();
        let begun = Instant::now();
        let recorder = recorder(silent(), "operator-0");
        assert!(news(&McpServerHealthStatus::default(), &after).len() > 1);
        publish(&recorder, &object, &McpServerHealthStatus::default(), &after).await;
        assert_eq!(begun.elapsed(), DEADLINE);
    }
}
