//! What a person says: an annotation opens an incident, and closes it again; nothing is done on a word alone.

use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Story, until};

/// Says this of the server `mcp-server`, or takes it back (`report-`).
async fn annotate(story: &Story, annotation: &str) {
    story.kubectl(&["annotate", "--overwrite", "mcph", "mcp-server", annotation]).await;
}

#[tokio::test]
async fn a_report_is_a_persons_while_the_annotation_is_there_and_nothing_is_done() {
    let story = Story::begin("reported").await;
    let server = story.server().healthy().await;
    annotate(&story, "mcphealth.dev/report=SEV2: searches hang").await;
    let incident = server.policy.escalated("Reported").await;
    assert_eq!((incident.incident_type, incident.cause), (IncidentType::Reported, Cause::PersonsReport));
    assert_eq!(incident.severity.to_string(), "SEV2");
    assert_eq!(incident.evidence[0], "somebody reports: searches hang");
    assert!(incident.evidence[1].starts_with("1 of 1 wanted pods are ready"), "{:?}", incident.evidence);

    annotate(&story, "mcphealth.dev/report=SEV1: nothing answers").await;
    server.policy.evidence(&incident, "somebody reports: nothing answers").await;
    server.is_untouched().await;

    annotate(&story, "mcphealth.dev/report-").await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.resolution, "the report was taken back");
    assert_eq!(past.done(), "");
    server.policy.healthy().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_report_follows_from_the_fault_that_is_found_and_outlives_it() {
    let story = Story::begin("reported-too").await;
    let server = story.server().healthy().await;
    annotate(&story, "mcphealth.dev/report=it hangs").await;
    let report = server.policy.escalated("Reported").await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    until("the report is what is left", async || {
        let open = server.policy.status().await.incidents;
        let left = open.len() == 1 && open[0].id == report.id && open[0].caused_by.is_none();
        if left { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    annotate(&story, "mcphealth.dev/report-").await;
    server.policy.resolved(&report).await;
    server.was_changed_by_operator(1).await;
}
