//! What templates name, and what an API server that answers by script says of it.

#![allow(clippy::unwrap_used)]

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::act::tests::{SILENCE, api_server, refusal};

fn found() -> (StatusCode, Value) {
    let body =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}});
    (StatusCode::OK, body)
}

fn all_kinds() -> Vec<Reference> {
    let kinds = [
        ReferenceKind::ConfigMap,
        ReferenceKind::Secret,
        ReferenceKind::ServiceAccount,
        ReferenceKind::PersistentVolumeClaim,
    ];
    kinds.into_iter().map(|kind| Reference { kind, name: "x".to_owned() }).collect()
}

#[test]
fn every_reference_of_a_template_is_named_once_and_optional_ones_are_not() {
    let template = json!({"spec": {
        "serviceAccountName": "runner",
        "volumes": [
            {"name": "a", "configMap": {"name": "mounted"}},
            {"name": "b", "configMap": {"name": "optional-map", "optional": true}},
            {"name": "c", "secret": {"secretName": "mounted-secret"}},
            {"name": "d", "secret": {"secretName": "optional-secret", "optional": true}},
            {"name": "e", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "f", "emptyDir": {}},
            {"name": "g", "projected": {"sources": [
                {"configMap": {"name": "projected"}},
                {"secret": {"name": "projected-secret"}},
                {"serviceAccountToken": {"path": "token"}},
            ]}},
        ],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "whole"}}]}],
        "containers": [{
            "name": "server",
            "envFrom": [
                {"secretRef": {"name": "whole-secret"}},
                {"configMapRef": {"name": "optional-whole", "optional": true}},
            ],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "a"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key-secret", "key": "a"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "optional-map", "key": "a", "optional": true}}},
                {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "mounted", "key": "a", "optional": true}}},
                {"name": "E", "value": "plain"},
            ],
        }],
    }});
    let names: Vec<String> = of_template(&template).iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "ConfigMap key",
            "ConfigMap mounted",
            "ConfigMap projected",
            "ConfigMap whole",
            "Secret key-secret",
            "Secret mounted-secret",
            "Secret projected-secret",
            "Secret whole-secret",
            "ServiceAccount runner",
            "PersistentVolumeClaim data",
        ]
    );
    for none in [json!({}), json!({"spec": {"serviceAccountName": "default", "volumes": "x"}}), json!(7)] {
        assert_eq!(of_template(&none), []);
    }
}

#[tokio::test]
async fn what_exists_is_gone_may_not_be_read_or_has_no_answer_is_told_apart() {
    let answers = vec![found(), refusal(403, "forbidden"), refusal(404, "not found"), SILENCE.clone()];
    let (client, sent) = api_server(answers);
    let all = look_up(&client, "mcp", &all_kinds()).await;
    let told: Vec<String> = all.iter().map(|one| format!("{:?}", one.presence)).collect();
    assert_eq!(
        told,
        [
            "Exists",
            "NotChecked(\"the operator may not read it\")",
            "Missing",
            "Unknown(\"the API server cannot be reached\")",
        ]
    );
    let paths: Vec<String> = sent.lock().unwrap().iter().map(|sent| sent.path.clone()).collect();
    let of = |kind: &str| format!("/api/v1/namespaces/mcp/{kind}/x");
    let kinds = ["configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims"];
    assert_eq!(paths, kinds.map(of));
}
