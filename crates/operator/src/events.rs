//! Events: what changed of an incident's state, for `kubectl get events` and `kubectl describe`.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use mcp_health_api::{MANAGER, McpServerHealth, McpServerHealthStatus};
use mcp_health_core::report::news;

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
    let regarding = object.object_ref(&());
    for item in news(before, after) {
        tracing::info!(reason = item.reason, note = item.note, "state changed");
        let event = Event {
            type_: if item.warning { EventType::Warning } else { EventType::Normal },
            reason: item.reason.to_owned(),
            note: Some(item.note),
            action: item.action,
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &regarding).await {
            tracing::warn!(%error, reason = event.reason, "an event could not be published");
        }
    }
}
