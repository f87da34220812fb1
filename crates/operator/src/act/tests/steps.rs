//! The lease before each step of a chain, and steps that were begun and not sent.

use mcp_health_api::McpServerHealthStatus;

use super::*;
use crate::{act::Unsent, lease::tests::with_left};

#[tokio::test(start_paused = true)]
async fn a_chain_stops_where_too_little_of_the_lease_is_left_and_notes_what_it_did() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            assert_eq!(request.method(), Method::PATCH, "one step is taken");
            // A slow answer: the lease is not renewed meanwhile.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let body = serde_json::to_vec(&deployment("uid-1", "8", Some("crashloop-1-1"))).unwrap();
            send.send_response(Response::new(Body::from(body)));
        }
    });
    let client = kube::Client::new(service, "mcp");
    let lease = with_left(Duration::from_secs(10));
    let target = Executor { lease: &lease, ..target(&client) };
    let acted = target.carry_out(&attempt(), Prepared::Template(template("good")), facts()).await.unwrap();
    let Acted::Done(done) = acted else { panic!("the first step is done") };
    assert_eq!(done.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_enough_of_the_lease_no_step_is_begun() {
    let (client, sent) = api_server(Vec::new());
    let lease = with_left(Duration::from_secs(8));
    let target = Executor { lease: &lease, ..target(&client) };
    let acted = target.carry_out(&attempt(), Prepared::Template(template("good")), facts()).await;
    assert!(matches!(acted, Err(crate::error::Error::Lease { .. })));
    assert!(matches!(target.resume(&attempt(), None).await, Err(crate::error::Error::Lease { .. })));
    assert!(sent.lock().unwrap().is_empty());
}

/// A drain whose beginning is written.
fn drain() -> Attempt {
    let mut drain = attempt();
    drain.action = ActionType::DrainAndRestart;
    drain.steps.truncate(2);
    (drain.steps[0].effect, drain.steps[0].to) = (Effect::CallHook, Some("hook".to_owned()));
    drain.steps[0].state = StepState::Started;
    drain.steps[1].effect = Effect::RestartPods;
    drain
}

fn status(attempt: &Attempt) -> McpServerHealthStatus {
    let moment = "2026-01-01T12:00:00Z";
    serde_json::from_value(json!({"incidents": [{
        "id": "crashloop-1", "type": "CrashLoop", "cause": "ProcessExit", "severity": "SEV1", "state": "Detected",
        "since": moment, "openedAt": moment, "respondBy": moment, "attempts": [attempt],
    }]}))
    .unwrap()
}

fn state(status: &McpServerHealthStatus) -> StepState {
    status.incidents[0].attempts[0].steps[0].state
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_the_lease_was_too_short_for_is_not_taken_for_done_while_the_process_lives() {
    let (client, _) = api_server(Vec::new());
    let (lease, unsent, drain) = (with_left(Duration::from_secs(8)), Unsent::default(), drain());
    let mut object = target(&client).object.clone();
    let hook = json!({"name": "hook", "path": "/drain", "port": 1});
    object.spec.hooks = vec![serde_json::from_value(hook).unwrap()];
    unsent.note("object-1", &drain);
    // Its beginning is written, slowly; then too little of the lease is left.
    let target = Executor { object: &object, lease: &lease, unsent: &unsent, ..target(&client) };
    assert!(matches!(target.resume(&drain, None).await, Err(crate::error::Error::Lease { .. })));
    let mut seen = status(&drain);
    unsent.restore("object-1", &mut seen);
    assert_eq!(state(&seen), StepState::Recorded, "it is begun again");
    let mut of_another = status(&drain);
    unsent.restore("object-2", &mut of_another);
    assert_eq!(state(&of_another), StepState::Started);
    // Another process does not know, and once it is sent, neither does this one.
    let mut after_a_restart = status(&drain);
    Unsent::default().restore("object-1", &mut after_a_restart);
    assert_eq!(state(&after_a_restart), StepState::Started);
    let lease = with_left(Duration::from_secs(15));
    let acted = Executor { lease: &lease, ..target }.resume(&drain, None).await.unwrap();
    assert!(matches!(acted, Acted::Done(_)));
    let mut sent = status(&drain);
    unsent.restore("object-1", &mut sent);
    assert_eq!(state(&sent), StepState::Started);
}

#[tokio::test(start_paused = true)]
async fn an_effect_without_an_answer_ends_in_time_and_stays_recorded() {
    let client = crate::client::tests::silent();
    let begun = tokio::time::Instant::now();
    let acted = target(&client).carry_out(&attempt(), Prepared::Template(template("good")), facts()).await;
    let Err(error) = acted else { panic!("it is not known") };
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}
