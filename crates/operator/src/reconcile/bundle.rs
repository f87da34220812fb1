//! The evidence of an incident: collected before an action destroys it, and when the incident is escalated.

use std::sync::Arc;

use mcp_health_api::McpServerHealth;
use mcp_health_core::{Case, Server, StatusDraft};

use super::context::Context;
use crate::evidence::{Collected, Collecting};

/// An incident that is handed to a person now: what they will ask for.
pub async fn keep_for_a_person(
    context: &Context,
    object: &Arc<McpServerHealth>,
    case: &Case<'_>,
    draft: &mut StatusDraft,
) {
    let Some(incident) = draft.primary().filter(|incident| incident.escalation.is_some()) else { return };
    let known = case.status.incidents.iter().find(|known| known.id == incident.id);
    if known.is_some_and(|known| known.escalation.is_some()) {
        return;
    }
    let (id, server) = (incident.id.clone(), Server::of(case));
    let Some(evidence) = collecting(context, object, case, server.as_ref(), draft) else { return };
    let collected = collect(Some(&evidence), &id).await;
    keep(Some(&evidence), collected, draft).await;
}

/// What is to be collected about the primary incident.
pub fn collecting<'a>(
    context: &'a Context,
    object: &'a McpServerHealth,
    case: &Case<'a>,
    server: Option<&'a Server<'a>>,
    draft: &StatusDraft,
) -> Option<Collecting<'a>> {
    let incident = draft.primary().filter(|_| context.keep_evidence)?.clone();
    Some(Collecting { client: &context.client, object, signals: case.signals, server, incident })
}

/// What is collected now; nothing where nothing is to be.
pub async fn collect(evidence: Option<&Collecting<'_>>, id: &str) -> Option<Collected> {
    Some(Box::pin(evidence?.collect(id)).await)
}

/// Keeps what was collected, and notes where.
pub async fn keep(evidence: Option<&Collecting<'_>>, collected: Option<Collected>, draft: &mut StatusDraft) {
    let Some((evidence, collected)) = evidence.zip(collected) else { return };
    if let Some((kept, incident)) = Box::pin(evidence.keep(collected)).await.zip(draft.primary_mut()) {
        incident.evidence_kept = Some(kept);
    }
}
