#![allow(clippy::unwrap_used)]

use clap::Parser;
use http::StatusCode;
use serde_json::json;

use super::*;
use crate::{
    act::{Unsent, tests::api_server},
    config::Config as Flags,
    events,
    fleet::Fleet,
    keep::Copies,
    lease::Lease,
    status::Statuses,
};

fn object() -> Arc<McpServerHealth> {
    let object = json!({
        "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
        "metadata": {"name": "health", "namespace": "mcp", "uid": "u", "resourceVersion": "1", "generation": 3},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "server"}},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn context(client: Client) -> Context {
    let flags = Flags::parse_from(["mcp-health-operator"]);
    let (wake, _) = unbounded();
    Context {
        client: client.clone(),
        stores: Arc::new(Stores::new(&flags, wake).unwrap()),
        statuses: Statuses::default(),
        fleet: Fleet::new(1, flags.settings()),
        copies: Copies::default(),
        lease: Lease::new(&flags),
        unsent: Unsent::default(),
        switch: None,
        recorder: events::recorder(client, &flags.identity),
        settings: flags.settings(),
        keep_evidence: false,
        metrics: Arc::default(),
    }
}

#[tokio::test]
async fn a_panic_in_the_reconcile_of_one_object_is_its_condition_and_is_tried_again() {
    let object = object();
    let (client, sent) = api_server(vec![(StatusCode::OK, serde_json::to_value(&*object).unwrap())]);
    let context = context(client);
    let why = caught::panic_of(async { panic!("index out of bounds") }).await.unwrap_err();
    let action = panicked(&object, &Key::of(&*object), &context, &why).await.unwrap();
    assert_eq!(action, Action::requeue(AFTER_A_PANIC));
    let sent = sent.lock().unwrap();
    assert_eq!(sent[0].path, "/apis/mcphealth.dev/v1alpha1/namespaces/mcp/mcpserverhealths/health/status");
    let ready = &sent[0].body["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
    assert_eq!((&ready["reason"], &ready["observedGeneration"]), (&json!("EvaluationFailed"), &json!(3)));
    let message = ready["message"].as_str().unwrap();
    assert!(message.ends_with("panicked: index out of bounds"), "{message}");
}

#[tokio::test]
async fn what_does_not_panic_is_passed_on() {
    assert_eq!(caught::panic_of(async { 1 }).await, Ok(1));
    assert_eq!(caught::panic(|| 2), Ok(2));
    assert_eq!(caught::panic(|| panic!("{} of {}", 3, 4)), Err::<(), _>("panicked: 3 of 4".to_owned()));
}
