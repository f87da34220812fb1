//! Acting against an API server that answers by script: every answer it can give, and what is sent.

#![allow(clippy::unwrap_used)]

mod restore_config;

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use clap::Parser;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use mcp_health_api::{ActionType, Attempt, Effect, McpServerHealth, Step, StepState, Time};
use mcp_health_core::{
    attempt::{Acted, Effected},
    digest,
    signals::{Reference, ReferenceKind, Revision},
};
use serde_json::{Value, json};
use tower_test::mock;

mod confirm;
mod end_sessions;
mod hooks;
mod jobs;
mod reset_circuit;
mod steps;

pub use end_sessions::end_sessions;

use super::{Executor, Unsent, stepped::Prepared};
use crate::{config::Config, lease::Lease, observe::Facts};

/// A request as a test wants to see it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

/// An API server that gives these answers, one a request, and keeps what it was sent.
pub fn api_server(answers: Vec<(StatusCode, Value)>) -> (kube::Client, Arc<Mutex<Vec<Sent>>>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&sent);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            kept.lock().unwrap().push(Sent {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            });
            let Some((status, body)) = answers.next() else { panic!("one request too many: {}", parts.uri) };
            if (status, &body) == (SILENCE.0, &SILENCE.1) {
                send.send_error("the connection ends");
                continue;
            }
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            send.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    (kube::Client::new(service, "mcp"), sent)
}

/// It is not needed.
static LEASE: LazyLock<Lease> = LazyLock::new(|| {
    Lease::new(&Config::try_parse_from(["operator", "--leader-election", "false"]).unwrap())
});
static UNSENT: LazyLock<Unsent> = LazyLock::new(Unsent::default);

fn target(client: &kube::Client) -> Executor<'_> {
    static OBJECT: LazyLock<McpServerHealth> = LazyLock::new(|| {
        let spec =
            json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"}});
        let mut object = McpServerHealth::new("mcp-server", serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("mcp".to_owned());
        object.metadata.uid = Some("object-1".to_owned());
        object
    });
    let timeout = Duration::from_secs(5);
    Executor {
        client,
        object: &OBJECT,
        namespace: "mcp",
        name: "mcp-server",
        pods: &[],
        port: Some(8000),
        databases: None,
        revisions: &[],
        timeout,
        lease: &LEASE,
        unsent: &UNSENT,
        switch: None,
    }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "mcp", "pod-template-hash": "abc"}}, "spec": {"containers": [{"name": "server", "image": image}]}})
}

fn attempt() -> Attempt {
    let step = |effect| Step {
        effect,
        from: Some("bad".to_owned()),
        to: Some(digest::of_template(&template("good"))),
        object: None,
        edits: Vec::new(),
        sessions: None,
        source: Some("mcp-server-1".to_owned()),
        uid: "uid-1".to_owned(),
        resource_version: Some("7".to_owned()),
        until: None,
        template: None,
        generation: None,
        note: None,
        state: StepState::Recorded,
    };
    Attempt {
        id: "crashloop-1-1".to_owned(),
        action: ActionType::Rollback,
        undoes: None,
        why: String::new(),
        recorded_at: Time(Timestamp::UNIX_EPOCH),
        ready_before: 0,
        steps: vec![
            step(Effect::PatchTemplate),
            Step { source: None, to: None, ..step(Effect::HandBackOwnership) },
        ],
        verify_at: None,
        extended: false,
        outcome: None,
        message: None,
        finished_at: None,
    }
}

fn deployment(uid: &str, version: &str, mark: Option<&str>) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "mcp-server", "namespace": "mcp", "uid": uid, "resourceVersion": version, "generation": 3,
            "annotations": mark.map_or(json!({"a": "b"}), |mark| json!({"mcphealth.dev/attempt": mark})),
        },
        "spec": {"template": template(if mark.is_some() { "good" } else { "bad" })},
    })
}

fn replica_set(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "mcp-server-1"}, "spec": {"template": template(image)}})
}

pub fn refusal(code: u16, message: &str) -> (StatusCode, Value) {
    let reason = if code == 404 { "NotFound" } else { "Whatever" };
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code});
    (StatusCode::from_u16(code).unwrap(), body)
}

/// In the place of an answer: there is none.
pub const SILENCE: (StatusCode, Value) = (StatusCode::IM_A_TEAPOT, Value::Null);

fn facts() -> Facts {
    Facts { has_annotations: true, ..Facts::default() }
}

/// Both steps took place.
fn all_done() -> Acted {
    let template = Some(digest::of_template(&template("good")));
    Acted::Done(vec![Effected { generation: Some(3), template, ..Effected::default() }, Effected::default()])
}

async fn carry_out(answers: Vec<(StatusCode, Value)>) -> (Result<Acted, crate::error::Error>, Vec<Sent>) {
    let (client, sent) = api_server(answers);
    let acted = target(&client).carry_out(&attempt(), Prepared::Template(template("good")), facts()).await;
    let sent = sent.lock().unwrap().clone();
    (acted, sent)
}

async fn resume(
    against: Option<&str>,
    answers: Vec<(StatusCode, Value)>,
) -> (Result<Acted, crate::error::Error>, Vec<Sent>) {
    let (client, sent) = api_server(answers);
    let acted = target(&client).resume(&attempt(), against).await;
    let sent = sent.lock().unwrap().clone();
    (acted, sent)
}

#[tokio::test]
async fn the_change_tests_its_fences_and_marks_the_target_in_the_same_patch() {
    let (acted, sent) =
        carry_out(vec![(StatusCode::OK, deployment("uid-1", "8", Some("crashloop-1-1")))]).await;
    assert_eq!(acted.unwrap(), all_done());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].method, Method::PATCH);
    let operations = sent[0].body.as_array().unwrap();
    assert_eq!(operations[0], json!({"op": "test", "path": "/metadata/uid", "value": "uid-1"}));
    assert_eq!(operations[1], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}));
    assert_eq!(operations[2]["path"], "/metadata/annotations/mcphealth.dev~1attempt");
    assert_eq!(operations[2]["value"], "crashloop-1-1");
    let remembered: Value = serde_json::from_str(operations[3]["value"].as_str().unwrap()).unwrap();
    assert_eq!(remembered[0]["id"], "crashloop-1-1");
    assert_eq!(operations[4]["path"], "/spec/template");
    assert_eq!(operations.len(), 5);
}

#[tokio::test]
async fn a_fence_that_held_because_the_change_is_there_already_counts_as_done() {
    let ours = deployment("uid-1", "8", Some("crashloop-1-1"));
    let (acted, sent) = carry_out(vec![refusal(422, "test failed"), (StatusCode::OK, ours)]).await;
    assert_eq!(acted.unwrap(), all_done());
    assert_eq!(sent.iter().filter(|sent| sent.method == Method::PATCH).count(), 1);
}

#[tokio::test]
async fn a_target_that_changed_at_the_same_moment_is_not_touched() {
    let changed = deployment("uid-1", "9", None);
    let (acted, sent) = carry_out(vec![refusal(422, "test failed"), (StatusCode::OK, changed)]).await;
    assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
    assert_eq!(sent.len(), 2, "one patch, one look, no second patch");
}

/// Carries out a change that was decided on at version 7, whose first tests fail, each time at what is live
/// then.
async fn carry_out_against(live: &[Value], last: (StatusCode, Value)) -> (Acted, Vec<Sent>) {
    let failed = live.iter().flat_map(|live| [refusal(422, "test failed"), (StatusCode::OK, live.clone())]);
    let (client, sent) = api_server(failed.chain([last]).collect());
    let decided = serde_json::from_value(deployment("uid-1", "7", None)).unwrap();
    let (prepared, facts) = (Prepared::Template(template("good")), Facts::of(&decided));
    let acted = target(&client).carry_out(&attempt(), prepared, facts).await;
    let sent = sent.lock().unwrap().clone();
    (acted.unwrap(), sent)
}

#[tokio::test]
async fn while_only_the_status_of_the_target_changes_the_change_is_sent_again_with_the_new_version() {
    let mut rolled = deployment("uid-1", "9", None);
    rolled["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("4");
    rolled["status"] = json!({"updatedReplicas": 1});
    let done = (StatusCode::OK, deployment("uid-1", "10", Some("crashloop-1-1")));
    let (acted, sent) = carry_out_against(&[deployment("uid-1", "8", None), rolled], done).await;
    assert_eq!(acted, all_done());
    let patches = sent.iter().filter(|sent| sent.method == Method::PATCH);
    let versions: Vec<_> = patches.map(|sent| sent.body[1]["value"].clone()).collect();
    assert_eq!(versions, ["7", "8", "9"]);
    let all: Vec<_> =
        ["8", "9", "10", "11"].iter().map(|version| deployment("uid-1", version, None)).collect();
    let (acted, sent) = carry_out_against(&all, refusal(500, "never asked")).await;
    assert!(matches!(acted, Acted::Superseded(_)), "it is decided anew");
    assert_eq!(sent.iter().filter(|sent| sent.method == Method::PATCH).count(), 4);
}

#[tokio::test]
async fn what_else_than_the_status_of_the_target_changes_ends_the_attempt_without_a_second_patch() {
    let changes: [(&str, Value); 6] = [
        ("/metadata/generation", json!(4)),
        ("/metadata/annotations", json!({"a": "b", "team": "search"})),
        ("/metadata/labels", json!({"argocd.argoproj.io/instance": "x"})),
        ("/metadata/ownerReferences", json!([{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "a"}])),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("/metadata/uid", json!("uid-2")),
    ];
    for (path, value) in changes {
        let mut live = deployment("uid-1", "8", None);
        let (parent, name) = path.rsplit_once('/').unwrap();
        live.pointer_mut(parent).unwrap()[name] = value;
        let (acted, sent) = carry_out_against(&[live], refusal(500, "never asked")).await;
        assert!(matches!(acted, Acted::Superseded(_)), "{path}");
        assert_eq!(sent.iter().filter(|sent| sent.method == Method::PATCH).count(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let (acted, _) =
        carry_out(vec![refusal(403, "deployments.apps is forbidden: User x cannot patch resource")]).await;
    let Acted::Refused { reason, message } = acted.unwrap() else { panic!("refused") };
    assert_eq!(reason, "Forbidden");
    assert!(message.contains("cannot patch"), "{message}");
}

#[tokio::test]
async fn somebody_elses_admission_rule_is_a_refusal_with_its_words() {
    let unchanged = deployment("uid-1", "7", None);
    let (acted, _) =
        carry_out(vec![refusal(400, "policy: no changes on Fridays"), (StatusCode::OK, unchanged)]).await;
    let Acted::Refused { reason, message } = acted.unwrap() else { panic!("refused") };
    assert_eq!(reason, "ChangeRefused");
    assert!(message.contains("Fridays"), "{message}");
}

#[tokio::test]
async fn an_answer_that_tells_nothing_leaves_the_attempt_recorded() {
    for code in [429, 500, 503] {
        let (acted, sent) = carry_out(vec![refusal(code, "busy")]).await;
        assert!(matches!(acted, Err(crate::error::Error::Unknown { .. })), "{code}");
        assert_eq!(sent.len(), 1);
    }
}

#[tokio::test]
async fn after_a_crash_the_mark_on_the_target_tells_that_the_change_took_place() {
    let ours = deployment("uid-1", "8", Some("crashloop-1-1"));
    let (acted, sent) = resume(None, vec![(StatusCode::OK, ours)]).await;
    assert_eq!(acted.unwrap(), all_done());
    assert!(sent.iter().all(|sent| sent.method == Method::GET), "nothing is changed twice");
}

#[tokio::test]
async fn after_a_crash_what_somebody_put_in_force_since_is_not_taken_for_ours() {
    let mut theirs = deployment("uid-1", "9", Some("crashloop-1-1"));
    theirs["metadata"]["generation"] = json!(4);
    theirs["spec"]["template"] = template("theirs");
    let template_of = async |attempt: &Attempt, live: &Value| {
        let (client, _) = api_server(vec![(StatusCode::OK, live.clone())]);
        let Acted::Done(done) = target(&client).resume(attempt, None).await.unwrap() else { panic!("done") };
        done[0].template.clone()
    };
    let good = Some(digest::of_template(&template("good")));
    assert_eq!(template_of(&attempt(), &theirs).await, good, "the one that was to come back");
    let mut edited = attempt();
    edited.steps[0] = Step {
        effect: Effect::EditTemplate,
        to: None,
        source: None,
        generation: Some(3),
        ..edited.steps[0].clone()
    };
    assert_eq!(template_of(&edited, &theirs).await, None, "another generation: it is not known");
    let ours = deployment("uid-1", "8", Some("crashloop-1-1"));
    assert_eq!(template_of(&edited, &ours).await, good);
}

#[tokio::test]
async fn after_a_crash_an_intent_that_was_not_carried_out_is_carried_out_once() {
    let answers = vec![
        (StatusCode::OK, deployment("uid-1", "7", None)),
        (StatusCode::OK, replica_set("good")),
        (StatusCode::OK, deployment("uid-1", "8", Some("crashloop-1-1"))),
    ];
    let (acted, sent) = resume(None, answers).await;
    assert_eq!(acted.unwrap(), all_done());
    let patch = &sent.iter().find(|sent| sent.method == Method::PATCH).unwrap().body;
    let labels = &patch.as_array().unwrap().last().unwrap()["value"]["metadata"]["labels"];
    assert_eq!(labels, &json!({"app": "mcp"}), "the hash label is the Deployment controller's");
}

#[tokio::test]
async fn after_a_crash_an_intent_that_a_guard_speaks_against_is_dropped() {
    let (acted, sent) =
        resume(Some("suspended"), vec![(StatusCode::OK, deployment("uid-1", "7", None))]).await;
    assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn after_a_crash_a_target_that_changed_is_decided_about_anew() {
    for (uid, version) in [("uid-2", "7"), ("uid-1", "8")] {
        let (acted, sent) = resume(None, vec![(StatusCode::OK, deployment(uid, version, None))]).await;
        assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
        assert_eq!(sent.len(), 1);
    }
    let (acted, _) = resume(None, vec![refusal(404, "not found")]).await;
    assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
}

#[tokio::test]
async fn a_replica_set_that_is_gone_or_holds_another_template_is_not_gone_back_to() {
    let step = &attempt().steps[0];
    let (client, _) = api_server(vec![refusal(404, "not found"), (StatusCode::OK, replica_set("other"))]);
    assert!(matches!(target(&client).prepare(step).await.unwrap(), Prepared::Superseded(_)));
    assert!(matches!(target(&client).prepare(step).await.unwrap(), Prepared::Superseded(_)));
}

#[tokio::test]
async fn a_template_that_names_a_config_map_which_is_gone_by_now_is_not_gone_back_to() {
    let reference = Reference { kind: ReferenceKind::ConfigMap, name: "search-config-7f9".to_owned() };
    let revision = Revision {
        name: "mcp-server-1".to_owned(),
        uid: "set-1".to_owned(),
        template: digest::of_template(&template("good")),
        number: Some(1),
        replicas: 0,
        failure: None,
        references: vec![reference],
    };
    let there =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}});
    for (answer, goes_back) in [
        (refusal(404, "not found"), false),
        (refusal(403, "forbidden"), true),
        ((StatusCode::OK, there), true),
    ] {
        let (client, sent) = api_server(vec![(StatusCode::OK, replica_set("good")), answer]);
        let target = Executor { revisions: std::slice::from_ref(&revision), ..target(&client) };
        match target.prepare(&attempt().steps[0]).await.unwrap() {
            Prepared::Template(_) => assert!(goes_back),
            Prepared::Superseded(why) => {
                assert!(!goes_back);
                assert_eq!(why, "ConfigMap search-config-7f9 is gone, which ReplicaSet mcp-server-1 needs");
            }
            other => panic!("{other:?}"),
        }
        let paths: Vec<String> = sent.lock().unwrap().iter().map(|sent| sent.path.clone()).collect();
        assert_eq!(paths[1], "/api/v1/namespaces/mcp/configmaps/search-config-7f9");
    }
    let (client, _) = api_server(vec![(StatusCode::OK, replica_set("good")), refusal(500, "etcd")]);
    let target = Executor { revisions: std::slice::from_ref(&revision), ..target(&client) };
    assert!(target.prepare(&attempt().steps[0]).await.is_err(), "without an answer nothing is done");
}

/// The Deployment after the change, as the API server shows it: the changed fields are ours.
fn owned(version: &str) -> (StatusCode, Value) {
    let mut object = deployment("uid-1", version, Some("crashloop-1-1"));
    object["metadata"]["managedFields"] = json!([
        {"manager": "helm", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}},
        {"manager": "mcp-health-operator", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:image": {}}}}}},
    ]);
    (StatusCode::OK, object)
}

#[tokio::test]
async fn ownership_is_handed_back_also_when_the_target_changes_at_the_same_time() {
    let answers = vec![owned("8"), refusal(422, "test failed"), owned("9"), owned("10")];
    let (acted, sent) = carry_out(answers).await;
    assert_eq!(acted.unwrap(), all_done());
    let last = sent.last().unwrap();
    assert_eq!(last.body[1]["value"], "9", "fenced by what was read last");
    let after = last.body[2]["value"].as_array().unwrap();
    assert_eq!(after.len(), 1, "nothing of the template is ours any more");
    assert_eq!(after[0]["manager"], "helm");
    assert!(after[0].pointer("/fieldsV1/f:spec/f:template/f:spec/f:image").is_some());
    assert!(sent.iter().all(|sent| sent.path.ends_with("/deployments/mcp-server")));
}

#[tokio::test]
async fn ownership_is_handed_back_later_when_the_api_server_does_not_answer() {
    let (acted, _) = carry_out(vec![owned("8"), SILENCE]).await;
    let Acted::Done(done) = acted.unwrap() else { panic!("the change is done") };
    assert_eq!(done.len(), 1, "the second step is not");
    let (acted, sent) = resume(None, vec![owned("8"), owned("9")]).await;
    assert_eq!(acted.unwrap(), all_done());
    let path = &sent.last().unwrap().body[2]["path"];
    assert_eq!(path, "/metadata/managedFields", "nothing else is changed");
}

#[tokio::test]
async fn ownership_is_handed_back_also_when_the_target_goes_on_changing_for_a_moment() {
    let mut answers = vec![owned("8")];
    for version in ["9", "10", "11", "12", "13", "14"] {
        answers.extend([refusal(422, "test failed"), owned(version)]);
    }
    answers.push((StatusCode::OK, deployment("uid-1", "15", Some("crashloop-1-1"))));
    let (acted, sent) = carry_out(answers).await;
    assert_eq!(acted.unwrap(), all_done());
    assert_eq!(sent.last().unwrap().body[1]["value"], "14");
}

// ---- evictions

/// Marks the target, and evicts a pod.
fn recycling() -> Attempt {
    let before = attempt();
    let mark =
        Step { effect: Effect::MarkTarget, resource_version: None, from: None, ..before.steps[0].clone() };
    let evict = Step {
        effect: Effect::EvictPod,
        object: Some("Pod/mcp-server-1-a".to_owned()),
        uid: "uid-of-a".to_owned(),
        ..mark.clone()
    };
    Attempt { action: ActionType::RecyclePod, steps: vec![mark, evict], ..before }
}

/// The mark is there already; this is what the API server says of the eviction.
async fn evict(answer: (StatusCode, Value)) -> (Result<Acted, crate::error::Error>, Vec<Sent>) {
    let mut attempt = recycling();
    attempt.steps[0].state = StepState::Done;
    let (client, sent) = api_server(vec![answer]);
    let acted = target(&client).resume(&attempt, None).await;
    let sent = sent.lock().unwrap().clone();
    (acted, sent)
}

fn budget_refuses() -> (StatusCode, Value) {
    let (code, mut body) = refusal(429, "Cannot evict pod as it would violate the pod's disruption budget.");
    body["details"] = json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget mcp needs 2 healthy pods and has 2 currently"}]});
    (code, body)
}

#[tokio::test]
async fn a_pod_is_evicted_by_its_uid_and_never_deleted() {
    let created = (StatusCode::CREATED, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
    let (acted, sent) = evict(created).await;
    assert_eq!(acted.unwrap(), Acted::Done(vec![Effected::default()]));
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0].method, sent[0].path.as_str()),
        (&Method::POST, "/api/v1/namespaces/mcp/pods/mcp-server-1-a/eviction")
    );
    assert_eq!(sent[0].body["deleteOptions"]["preconditions"], json!({"uid": "uid-of-a"}));
}

#[tokio::test]
async fn a_pod_that_is_gone_or_is_another_by_now_needs_no_eviction() {
    for code in [404, 409] {
        let (acted, _) = evict(refusal(code, "no such pod")).await;
        let Acted::Done(done) = acted.unwrap() else { panic!("{code}: it is gone") };
        assert!(done[0].note.as_ref().unwrap().contains("gone already"));
    }
}

fn pod(uid: &str, deleting: bool) -> mcp_health_core::signals::Pod {
    mcp_health_core::signals::Pod {
        name: "mcp-server-1-a".to_owned(),
        uid: uid.to_owned(),
        revision: String::new(),
        created: Timestamp::UNIX_EPOCH,
        deleting,
        finished: false,
        ready: true,
        ready_changed: Timestamp::UNIX_EPOCH,
        was_ready: true,
        address: None,
        unschedulable: None,
        placement: None,
        containers: Vec::new(),
        troubles: Vec::new(),
        lifecycle: mcp_health_core::signals::Lifecycle::default(),
    }
}

#[tokio::test]
async fn an_eviction_that_took_place_before_a_crash_is_told_also_where_nothing_is_wrong_any_more() {
    let against = Some("the incident is not being found");
    let attempt = recycling();
    for (pods, mark, done) in [
        (vec![pod("another", false)], Some(attempt.id.as_str()), true),
        (vec![pod("uid-of-a", true)], Some(attempt.id.as_str()), true),
        (vec![pod("uid-of-a", false)], Some(attempt.id.as_str()), false),
        (Vec::new(), Some(attempt.id.as_str()), false),
        (vec![pod("another", false)], None, false),
    ] {
        let (client, sent) = api_server(vec![(StatusCode::OK, deployment("uid-1", "8", mark))]);
        let acted = Executor { pods: &pods, ..target(&client) }.resume(&attempt, against).await.unwrap();
        assert_eq!(matches!(acted, Acted::Done(ref steps) if steps.len() == 2), done, "{acted:?}");
        assert!(sent.lock().unwrap().iter().all(|sent| sent.method == Method::GET), "nothing is done now");
    }
}

#[tokio::test]
async fn a_pod_on_its_way_out_is_not_evicted_again() {
    let leaving = pod("uid-of-a", true);
    let (client, sent) = api_server(Vec::new());
    let mut attempt = recycling();
    attempt.steps[0].state = StepState::Done;
    let pods = [leaving];
    let acted = Executor { pods: &pods, ..target(&client) }.resume(&attempt, None).await;
    assert!(matches!(acted.unwrap(), Acted::Done(_)));
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_eviction_that_the_budget_refuses_says_so_and_is_decided_anew() {
    let (acted, sent) = evict(budget_refuses()).await;
    let Acted::Superseded(why) = acted.unwrap() else { panic!("nothing was done") };
    assert!(why.contains("needs 2 healthy pods"), "{why}");
    assert_eq!(sent.len(), 1, "and nothing else is tried");
}

#[tokio::test]
async fn an_eviction_that_is_forbidden_is_refused_and_one_without_an_answer_is_tried_again() {
    let (acted, _) = evict(refusal(403, "no right")).await;
    assert!(matches!(acted.unwrap(), Acted::Refused { reason, .. } if reason == "Forbidden"));
    for answer in [SILENCE, refusal(429, "too many requests"), refusal(500, "etcd")] {
        let (acted, _) = evict(answer).await;
        assert!(acted.is_err());
    }
}

#[tokio::test]
async fn an_eviction_that_is_held_after_its_mark_is_not_made() {
    let marked = (StatusCode::OK, deployment("uid-1", "8", Some("crashloop-1-1")));
    let (client, sent) = api_server(vec![marked]);
    let acted = target(&client).resume(&recycling(), Some("suspended")).await;
    assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
    assert!(sent.lock().unwrap().iter().all(|sent| sent.method == Method::GET));
}
