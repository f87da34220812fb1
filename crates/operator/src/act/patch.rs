//! The patches: what is tested, what is marked, what is changed. Absolute values only, so that a patch that
//! is sent twice is one change.

use mcp_health_api::{
    ACTIONS_ANNOTATION, ATTEMPT_ANNOTATION, Attempt, POD_TEMPLATE_HASH_LABEL, RESTARTED_AT_ANNOTATION, Step,
};
use mcp_health_core::{attempt::remembered, signals::RecordedAction};
use serde_json::{Value, json};

/// What a patch must know of the target that is not in the step.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The past actions that the target remembers.
    pub actions: &'a [RecordedAction],
    /// It has annotations: a JSON patch cannot add to a map that is not there.
    pub has_annotations: bool,
    /// Its pod template has annotations.
    pub template_has_annotations: bool,
}

/// Puts a template in force.
pub fn template(attempt: &Attempt, step: &Step, template: &Value, facts: &Facts) -> Value {
    fenced(attempt, step, facts, &[json!({"op": "replace", "path": "/spec/template", "value": template})])
}

/// Sets the annotation by which all pods are replaced.
pub fn restart(attempt: &Attempt, step: &Step, facts: &Facts) -> Value {
    let moment = step.to.as_deref().unwrap_or_default();
    let change = if facts.template_has_annotations {
        let path = format!("/spec/template/metadata/annotations/{}", escape(RESTARTED_AT_ANNOTATION));
        json!({"op": "add", "path": path, "value": moment})
    } else {
        let value = json!({RESTARTED_AT_ANNOTATION: moment});
        json!({"op": "add", "path": "/spec/template/metadata/annotations", "value": value})
    };
    fenced(attempt, step, facts, &[change])
}

/// Tests the fences, marks the target, and makes the change.
fn fenced(attempt: &Attempt, step: &Step, facts: &Facts, changes: &[Value]) -> Value {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": step.target_uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": step.resource_version}),
    ];
    let actions = json!(remembered(facts.actions, attempt)).to_string();
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

/// A ReplicaSet's template as a Deployment takes it: without the label that the Deployment controller adds.
pub fn without_hash(mut template: Value) -> Value {
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH_LABEL);
    }
    template
}

/// A name as one segment of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
