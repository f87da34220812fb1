//! RollbackConfig: the ConfigMap's content, what is kept of it, and who else reads it.

use mcp_health_core::{actions::config_name, healthy::copy_name};

use super::*;

fn revisions() -> &'static [Revision] {
    static REVISIONS: LazyLock<Vec<Revision>> = LazyLock::new(|| {
        vec![Revision {
            name: "mcp-server-1".to_owned(),
            uid: "set-1".to_owned(),
            template: digest::of_template(&template("bad")),
            number: Some(1),
            replicas: 1,
            references: Vec::new(),
            failure: None,
        }]
    });
    &REVISIONS
}

fn here(client: &kube::Client) -> Executor<'_> {
    Executor { revisions: revisions(), ..target(client) }
}

fn data(value: &str) -> Value {
    json!({"config.yaml": value})
}

fn of(value: &str) -> String {
    digest::of_content(&serde_json::from_value(data(value)).unwrap(), &std::collections::BTreeMap::default())
}

fn config_map(name: &str, version: &str, value: &str, mark: Option<&str>) -> (StatusCode, Value) {
    let annotations = mark.map_or(json!({"a": "b"}), |mark| json!({"mcphealth.dev/attempt": mark}));
    let metadata = json!({"name": name, "namespace": "mcp", "uid": "uid-c", "resourceVersion": version, "annotations": annotations});
    (
        StatusCode::OK,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data(value)}),
    )
}

fn copy() -> (StatusCode, Value) {
    config_map("settings.good", "1", "good", None)
}

fn live() -> (StatusCode, Value) {
    config_map("settings", "7", "bad", None)
}

/// The pods of the namespace: one of a ReplicaSet with this uid that reads this ConfigMap.
fn pods(owner: &str, reads: &str) -> (StatusCode, Value) {
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": owner, "controller": true});
    let spec = json!({"containers": [], "volumes": [{"name": "v", "configMap": {"name": reads}}]});
    let pod = json!({"metadata": {"name": "a", "ownerReferences": [owner]}, "spec": spec});
    (StatusCode::OK, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [pod]}))
}

fn attempt() -> Attempt {
    let template = super::attempt();
    let step = &template.steps[0];
    let object = Some("ConfigMap/settings".to_owned());
    let restore = Step {
        effect: Effect::RestoreConfig,
        object: object.clone(),
        from: Some(of("bad")),
        to: Some(of("good")),
        source: Some("settings.good".to_owned()),
        uid: "uid-c".to_owned(),
        ..step.clone()
    };
    let restart = Step {
        effect: Effect::RestartPods,
        from: Some(digest::of_template(&super::template("bad"))),
        to: Some("2026-01-01T00:00:00Z".to_owned()),
        source: None,
        resource_version: None,
        ..step.clone()
    };
    let hand_back = Step {
        effect: Effect::HandBackOwnership,
        object,
        from: None,
        to: None,
        source: Some("team/Apply".to_owned()),
        uid: "uid-c".to_owned(),
        resource_version: None,
        ..step.clone()
    };
    Attempt { action: ActionType::RollbackConfig, steps: vec![restore, restart, hand_back], ..template }
}

const MARK: Option<&str> = Some("crashloop-1-1");

/// What it all comes to when nothing is in the way.
fn answers() -> Vec<(StatusCode, Value)> {
    let mut restored = config_map("settings", "8", "good", MARK);
    restored.1["metadata"]["managedFields"] = json!([
        {"manager": "mcp-health-operator", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:config.yaml": {}}}},
    ]);
    vec![
        (StatusCode::CREATED, copy().1),
        config_map("settings", "8", "good", MARK),
        (StatusCode::OK, deployment("uid-1", "9", None)),
        (StatusCode::OK, deployment("uid-1", "10", MARK)),
        restored,
        config_map("settings", "9", "good", MARK),
    ]
}

fn note() -> String {
    format!("the content before is kept in ConfigMap settings.{}", of("bad"))
}

/// All steps took place.
fn done() -> Acted {
    let restored = Effected { note: Some(note()), ..Effected::default() };
    let restarted = Effected { generation: Some(3), ..Effected::default() };
    Acted::Done(vec![restored, restarted, Effected::default()])
}

/// Prepares and carries out an attempt that was recorded just now.
async fn acted(answers: Vec<(StatusCode, Value)>) -> (Result<Acted, crate::error::Error>, Vec<Sent>) {
    let (client, sent) = api_server(answers);
    let attempt = attempt();
    let prepared = here(&client).prepare(&attempt.steps[0]).await.unwrap();
    let acted = here(&client).carry_out(&attempt, prepared, facts()).await;
    let sent = sent.lock().unwrap().clone();
    (acted, sent)
}

async fn resumed(
    against: Option<&str>,
    answers: Vec<(StatusCode, Value)>,
) -> (Result<Acted, crate::error::Error>, Vec<Sent>) {
    let (client, sent) = api_server(answers);
    let acted = here(&client).resume(&attempt(), against).await;
    let sent = sent.lock().unwrap().clone();
    (acted, sent)
}

fn prepared_by(more: Vec<(StatusCode, Value)>) -> Vec<(StatusCode, Value)> {
    [vec![copy(), live(), pods("set-1", "settings")], more].concat()
}

fn writes(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|sent| sent.method != Method::GET).collect()
}

#[tokio::test]
async fn the_bad_content_is_kept_before_the_good_one_comes_back_and_then_the_pods_are_restarted() {
    let (acted, sent) = acted(prepared_by(answers())).await;
    assert_eq!(acted.unwrap(), done());
    let writes = writes(&sent);
    let [kept, restored, restarted, handed_back] = writes.as_slice() else { panic!("{writes:#?}") };

    assert_eq!(kept.method, Method::POST);
    let name = copy_name("settings", &of("bad"));
    assert_eq!(kept.body["metadata"]["name"], name);
    assert_eq!(kept.body["data"], data("bad"));
    assert_eq!(kept.body["immutable"], true);
    assert_eq!(kept.body["metadata"]["labels"]["mcphealth.dev/kind"], "config-copy");
    assert_eq!(kept.body["metadata"]["labels"]["mcphealth.dev/object"], "mcp-server");
    assert_eq!(kept.body["metadata"]["annotations"]["mcphealth.dev/config"], "settings");
    assert_eq!(kept.body["metadata"]["ownerReferences"][0]["kind"], "McpServerHealth");

    assert!(restored.path.ends_with("/configmaps/settings"), "{}", restored.path);
    assert_eq!(
        restored.body,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "uid-c"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/metadata/annotations/mcphealth.dev~1attempt", "value": "crashloop-1-1"},
            {"op": "add", "path": "/data", "value": data("good")},
        ])
    );
    assert!(restarted.path.ends_with("/deployments/mcp-server"), "{}", restarted.path);
    assert!(handed_back.path.ends_with("/configmaps/settings"), "{}", handed_back.path);
    let owners = handed_back.body[2]["value"].as_array().unwrap();
    assert_eq!(owners.len(), 1, "nothing of the content is ours any more");
    assert_eq!((&owners[0]["manager"], &owners[0]["operation"]), (&json!("team"), &json!("Apply")));
}

#[tokio::test]
async fn a_pod_of_another_workload_that_reads_it_forbids_the_change() {
    let (acted, sent) = acted(vec![copy(), live(), pods("set-of-another", "settings")]).await;
    let Acted::Refused { reason, message } = acted.unwrap() else { panic!("refused") };
    assert_eq!(reason, "ConfigShared");
    assert!(message.contains("pod a"), "{message}");
    assert_eq!(writes(&sent).len(), 0);
    let others = vec![copy(), live(), pods("set-of-another", "something-else")];
    let (acted, _) = super::restore_config::acted([others, answers()].concat()).await;
    assert_eq!(acted.unwrap(), done());
}

#[tokio::test]
async fn without_the_copy_or_with_another_content_nothing_is_changed() {
    let gone = refusal(404, "not found");
    for copy in [gone.clone(), config_map("settings.good", "1", "other", None)] {
        let (acted, sent) = acted(vec![copy, live(), pods("set-1", "settings")]).await;
        assert!(matches!(acted.unwrap(), Acted::Refused { reason, .. } if reason == "CopyGone"));
        assert_eq!(writes(&sent).len(), 0);
    }
    for live in [gone, config_map("settings", "8", "other", None)] {
        let (acted, sent) = acted(vec![copy(), live, pods("set-1", "settings")]).await;
        assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
        assert_eq!(writes(&sent).len(), 0);
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_replaced() {
    let forbidden = refusal(403, "configmaps is forbidden: User x cannot create resource");
    let (acted, sent) = acted(prepared_by(vec![forbidden])).await;
    assert!(matches!(acted.unwrap(), Acted::Refused { reason, .. } if reason == "Forbidden"));
    assert_eq!(writes(&sent).len(), 1, "no patch");

    // Something of that name that does not hold it is no copy.
    let (acted, sent) = super::restore_config::acted(prepared_by(vec![refusal(409, "exists"), live()])).await;
    assert!(matches!(acted.unwrap(), Acted::Refused { reason, .. } if reason == "CopyRefused"));
    assert_eq!(writes(&sent).len(), 1);
}

#[tokio::test]
async fn a_config_map_that_changed_at_the_same_moment_is_not_touched() {
    let kept = (StatusCode::CREATED, copy().1);
    let changed = config_map("settings", "8", "other", None);
    let (acted, sent) = acted(prepared_by(vec![kept, refusal(422, "test failed"), changed])).await;
    assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
    let patches = sent.iter().filter(|sent| sent.method == Method::PATCH).count();
    assert_eq!(patches, 1, "one patch, one look, no second patch");
}

#[tokio::test]
async fn after_a_crash_the_mark_on_the_config_map_tells_that_it_took_place() {
    let marked = || config_map("settings", "8", "good", MARK);
    let (acted, sent) = resumed(None, [vec![marked()], answers()[2..].to_vec()].concat()).await;
    assert_eq!(acted.unwrap(), done());
    let patched = writes(&sent).into_iter().filter(|sent| sent.body.to_string().contains("/data"));
    assert_eq!(patched.count(), 0, "the content is not replaced twice");

    // What a guard now speaks against is found done, and nothing follows from it.
    let (acted, sent) = resumed(Some("suspended"), vec![marked()]).await;
    assert!(matches!(acted.unwrap(), Acted::Done(effects) if effects.len() == 1));
    assert_eq!(writes(&sent).len(), 0);
    let (acted, _) = resumed(Some("suspended"), vec![live()]).await;
    assert!(matches!(acted.unwrap(), Acted::Superseded(_)));
}

#[tokio::test]
async fn after_a_crash_what_was_not_carried_out_is_carried_out_once() {
    let (acted, sent) = resumed(None, [vec![live()], prepared_by(answers())].concat()).await;
    assert_eq!(acted.unwrap(), done());
    assert_eq!(config_name(&attempt().steps[0]), Some("settings"));
    assert_eq!(writes(&sent).len(), 4);
}
