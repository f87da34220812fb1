//! Sessions, ended as one step that was recorded by itself. What ends them is tried on a real database in
//! `observe/postgres/tests.rs`.

use mcp_health_api::SessionFence;

use super::*;
use crate::observe::Databases;

async fn resume(
    databases: Option<&Databases>,
    object: &McpServerHealth,
    fence: Option<&SessionFence>,
    state: StepState,
) -> Acted {
    let (client, sent) = api_server(Vec::new());
    let mut attempt = attempt();
    attempt.steps.truncate(1);
    let step = &mut attempt.steps[0];
    (step.effect, step.sessions, step.state) = (Effect::EndSessions, fence.cloned(), state);
    let target = Executor { object, databases, ..target(&client) };
    let acted = target.resume(&attempt, None).await.unwrap();
    assert!(sent.lock().unwrap().is_empty(), "no word to the API server");
    acted
}

/// Ends sessions, and gives the note of the step.
pub async fn end_sessions(
    databases: &Databases,
    object: &McpServerHealth,
    fence: &SessionFence,
) -> (Acted, Option<String>) {
    let before = resume(Some(databases), object, Some(fence), StepState::Recorded).await;
    assert_eq!(before, Acted::Done(Vec::new()), "what was not recorded by itself is not done");
    let acted = resume(Some(databases), object, Some(fence), StepState::Started).await;
    let note = match &acted {
        Acted::Done(done) => done[0].note.clone(),
        _ => None,
    };
    (acted, note)
}

#[tokio::test]
async fn without_a_connection_nothing_is_ended_and_it_says_so() {
    let (client, _) = api_server(Vec::new());
    let object = target(&client).object;
    let fence = SessionFence {
        database: "mcp_prod".to_owned(),
        user: "mcp".to_owned(),
        application: "mcp-server".to_owned(),
        state: "idle".to_owned(),
        list: vec!["4711 2026-11-21T10:00:00Z 2026-11-21T10:00:01Z 2026-11-21T10:00:02Z".to_owned()],
    };
    let none = Databases::default();
    for (databases, says) in [
        (None, "this operator asks no databases (signals.probes)"),
        (Some(&none), "the operator is not connected to the database"),
    ] {
        match resume(databases, object, Some(&fence), StepState::Started).await {
            Acted::Refused { reason, message } => {
                assert_eq!((reason.as_str(), message.as_str()), ("NotConnected", says));
            }
            other => panic!("{other:?}"),
        }
    }
    let nothing = resume(Some(&none), object, None, StepState::Started).await;
    assert!(matches!(nothing, Acted::Superseded(_)));
}
