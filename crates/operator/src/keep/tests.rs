//! Keeping copies against an API server that answers by script.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use jiff::Timestamp;
use mcp_health_api::{HealthyRevision, McpServerHealthStatus, Time};
use mcp_health_core::{Settings, digest, signals::Signals};
use serde_json::Value;

use super::*;
use crate::act::tests::{Sent, api_server, refusal};

fn object() -> McpServerHealth {
    let spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"}});
    let mut object = McpServerHealth::new("mcp-server", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some("mcp".to_owned());
    object.metadata.uid = Some("uid-of-object".to_owned());
    object
}

fn of(value: &str) -> String {
    digest::of_content(&[("a".to_owned(), value.to_owned())].into(), &BTreeMap::new())
}

/// A target that was healthy with this content.
fn healthy(value: &str) -> TargetStatus {
    let content = of(value);
    let copy = copy_name("settings", &content);
    let config = vec![HealthyConfig { name: "settings".to_owned(), content, copy }];
    let since = Time(Timestamp::UNIX_EPOCH);
    let (template, replica_set, uid) = (String::new(), String::new(), String::new());
    let last = HealthyRevision {
        template,
        replica_set,
        uid,
        revision: None,
        since,
        longest_start: None,
        config,
        tools: Vec::new(),
    };
    TargetStatus { last_healthy: Some(last), ..TargetStatus::default() }
}

fn config_map(name: &str, value: &str, immutable: bool, owners: &Value) -> (StatusCode, Value) {
    let metadata = json!({"name": name, "namespace": "mcp", "uid": "u", "resourceVersion": "1", "ownerReferences": owners});
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}, "immutable": immutable});
    (StatusCode::OK, body)
}

fn live(value: &str) -> (StatusCode, Value) {
    config_map("settings", value, false, &json!([]))
}

/// The copies that there are, newest first.
fn copies(names: &[&str]) -> (StatusCode, Value) {
    let items = names.iter().enumerate().map(|(age, name)| {
        let created = Timestamp::from_second(1_000 - i64::try_from(age).unwrap()).unwrap();
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": name, "namespace": "mcp", "uid": name, "creationTimestamp": created.to_string(),
            "annotations": {CONFIG_ANNOTATION: "settings"}, "ownerReferences": [owner(&object())],
        }})
    });
    let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items.collect::<Vec<_>>()});
    (StatusCode::OK, list)
}

fn deleted() -> (StatusCode, Value) {
    (StatusCode::OK, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
}

/// What the draft names after so many looks, and what was sent.
async fn kept(
    looks: usize,
    before: Option<TargetStatus>,
    after: &TargetStatus,
    answers: Vec<(StatusCode, Value)>,
) -> (Vec<String>, Vec<Sent>) {
    let (client, sent) = api_server(answers);
    let (object, settings, copies) = (object(), Settings::default(), Copies::default());
    let status = McpServerHealthStatus { target: before, ..McpServerHealthStatus::default() };
    let signals = Signals::default();
    let now = Timestamp::UNIX_EPOCH;
    let case = Case {
        generation: 1,
        spec: &object.spec,
        status: &status,
        signals: &signals,
        settings: &settings,
        now,
    };
    let mut named = Vec::new();
    for _ in 0..looks {
        let mut draft = StatusDraft { target: Some(after.clone()), ..StatusDraft::default() };
        copies.keep(&client, &object, &case, &mut draft).await;
        named = super::healthy(draft.target.as_ref()).iter().map(|one| one.content.clone()).collect();
        assert_eq!(draft.look_again.is_some(), named.is_empty(), "what is not kept is come back to");
    }
    let sent = sent.lock().unwrap().clone();
    (named, sent)
}

#[tokio::test]
async fn at_rest_nobody_is_called() {
    let (named, sent) = kept(3, Some(healthy("1")), &healthy("1"), Vec::new()).await;
    assert_eq!((named, sent.len()), (vec![of("1")], 0));
}

#[tokio::test]
async fn the_copy_is_made_before_the_status_names_it() {
    let answers = vec![live("1"), (StatusCode::CREATED, live("1").1), copies(&[])];
    let (named, sent) = kept(1, None, &healthy("1"), answers).await;
    assert_eq!(named, [of("1")]);
    let made = &sent[1];
    assert_eq!(made.method, Method::POST);
    assert_eq!(made.body["metadata"]["name"], copy_name("settings", &of("1")));
    assert_eq!((&made.body["immutable"], &made.body["data"]), (&json!(true), &json!({"a": "1"})));
    assert_eq!(made.body["metadata"]["ownerReferences"][0]["uid"], "uid-of-object");
}

#[tokio::test]
async fn what_cannot_be_copied_is_left_out_and_not_tried_again_at_once() {
    let forbidden = refusal(403, "configmaps is forbidden");
    for answers in [
        vec![refusal(404, "not found")],
        vec![live("changed in between")],
        vec![forbidden.clone()],
        vec![live("1"), forbidden],
        vec![live("1"), refusal(409, "exists"), config_map("x", "another content", true, &json!([]))],
        vec![live("1"), refusal(409, "exists"), config_map("x", "1", false, &json!([]))],
    ] {
        let calls = answers.len();
        let (named, sent) = kept(3, None, &healthy("1"), answers).await;
        assert_eq!((named, sent.len()), (Vec::new(), calls));
    }
}

#[tokio::test]
async fn a_copy_that_was_made_for_another_object_is_made_ours_too() {
    let other = json!([{"apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth", "name": "mcp-server", "uid": "gone"}]);
    let there = config_map("x", "1", true, &other);
    let answers = vec![live("1"), refusal(409, "exists"), there.clone(), there, copies(&[])];
    let (named, sent) = kept(1, None, &healthy("1"), answers).await;
    assert_eq!(named, [of("1")]);
    let owners = sent[3].body["metadata"]["ownerReferences"].as_array().unwrap();
    assert_eq!((owners.len(), &owners[1]["uid"]), (2, &json!("uid-of-object")));
}

#[tokio::test]
async fn the_newest_copies_stay_and_those_that_a_status_names() {
    let (before, after) = (copy_name("settings", &of("1")), copy_name("settings", &of("2")));
    let all = copies(&[&after, "b", "c", "d", &before, "e"]);
    let answers = vec![live("2"), (StatusCode::CREATED, live("2").1), all, deleted(), deleted()];
    let (_, sent) = kept(1, Some(healthy("1")), &healthy("2"), answers).await;
    let gone = sent.iter().filter(|sent| sent.method == Method::DELETE);
    let gone: Vec<_> = gone.map(|sent| (sent.path.rsplit('/').next().unwrap(), &sent.body)).collect();
    let [(first, fence), (second, _)] = gone.as_slice() else { panic!("{gone:#?}") };
    assert_eq!((*first, *second), ("e", "d"), "the oldest first");
    assert_eq!(fence["preconditions"]["uid"], "e");
}

#[tokio::test]
async fn while_an_incident_is_open_no_copy_is_deleted_and_once_it_is_over_those_that_nothing_names_are() {
    let (before, after) = (copy_name("settings", &of("1")), copy_name("settings", &of("2")));
    let incident = |open: bool| {
        let one = json!({
            "id": "i-1", "type": "CrashLoop", "severity": "SEV2", "cause": "ConfigError", "state": "Detected",
            "since": "2026-01-01T00:00:00Z", "openedAt": "2026-01-01T00:00:00Z",
            "respondBy": "2026-01-01T01:00:00Z", "attempts": [],
        });
        let incidents: Vec<Incident> =
            if open { vec![serde_json::from_value(one).unwrap()] } else { Vec::new() };
        incidents
    };
    for (still_open, expected) in [(true, vec![]), (false, vec!["e", "d"])] {
        let all = copies(&[&after, "b", "c", "d", &before, "e"]);
        let answers = vec![live("2"), (StatusCode::CREATED, live("2").1), all, deleted(), deleted()];
        let (client, sent) = api_server(answers);
        let (object, settings, signals) = (object(), Settings::default(), Signals::default());
        let target = Some(healthy("1"));
        let status =
            McpServerHealthStatus { target, incidents: incident(true), ..McpServerHealthStatus::default() };
        let now = Timestamp::UNIX_EPOCH;
        let (spec, status, signals, settings) = (&object.spec, &status, &signals, &settings);
        let case = Case { generation: 1, spec, status, signals, settings, now };
        let target = Some(healthy("2"));
        let mut draft = StatusDraft { target, incidents: incident(still_open), ..StatusDraft::default() };
        Copies::default().keep(&client, &object, &case, &mut draft).await;
        let sent = sent.lock().unwrap().clone();
        let gone = sent.iter().filter(|sent| sent.method == Method::DELETE);
        let gone: Vec<_> = gone.map(|sent| sent.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(gone, expected);
    }
}
