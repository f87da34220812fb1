//! The patches of the target: what is tested, what is marked, what is changed. Absolute values only, so that a
//! patch that is sent twice is one change.

use kube::Resource;
use mcp_health_api::{
    ACTIONS_ANNOTATION, ATTEMPT_ANNOTATION, Attempt, POD_TEMPLATE_HASH_LABEL, RESTARTED_AT_ANNOTATION, Step,
};
use mcp_health_core::attempt::remembered;
use serde_json::{Value, json};

use crate::observe::{DeploymentWire, Facts};

/// The change that has all pods replaced.
pub fn restart(step: &Step, facts: &Facts) -> Value {
    let moment = step.to.as_deref().unwrap_or_default();
    if facts.template_has_annotations {
        let path = format!("/spec/template/metadata/annotations/{}", escape(RESTARTED_AT_ANNOTATION));
        json!({"op": "add", "path": path, "value": moment})
    } else {
        let value = json!({RESTARTED_AT_ANNOTATION: moment});
        json!({"op": "add", "path": "/spec/template/metadata/annotations", "value": value})
    }
}

/// Tests the fences, marks the target, and makes the changes.
pub fn fenced(attempt: &Attempt, uid: &str, version: &str, facts: &Facts, changes: &[Value]) -> Value {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}),
    ];
    let actions = json!(remembered(&facts.actions, attempt)).to_string();
    if facts.has_annotations {
        for (name, value) in [(ATTEMPT_ANNOTATION, &attempt.id), (ACTIONS_ANNOTATION, &actions)] {
            let path = format!("/metadata/annotations/{}", escape(name));
            operations.push(json!({"op": "add", "path": path, "value": value}));
        }
    } else {
        let value = json!({ATTEMPT_ANNOTATION: attempt.id, ACTIONS_ANNOTATION: actions});
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": value}));
    }
    operations.extend_from_slice(changes);
    Value::Array(operations)
}

/// The target bears the mark of this attempt: its change took place.
pub fn bears_mark(live: &DeploymentWire, attempt: &Attempt) -> bool {
    let annotations = live.meta().annotations.as_ref();
    annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)) == Some(&attempt.id)
}

/// A ReplicaSet's template as a Deployment takes it: without the label that the Deployment controller adds.
pub fn without_hash(mut template: Value) -> Value {
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH_LABEL);
    }
    template
}

/// A name as one segment of a JSON pointer.
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
