//! Who owns which field of the target, after the operator changed some of them.
//!
//! A change by another manager makes the owner's next server-side apply fail with a conflict. So what was
//! changed is handed to the manager that owns the rest of the pod template: its next apply goes through, and
//! removes what it does not name.

use mcp_health_api::MANAGER;
use serde_json::{Map, Value};

/// The Deployment controller: it owns the status, never the template.
const CONTROLLER: &str = "kube-controller-manager";

/// `metadata.managedFields` with our part of `spec` handed over; `None` where there is nothing to hand over,
/// or nobody to hand it to.
pub fn hand_back(managed_fields: &[Value]) -> Option<Vec<Value>> {
    let ours = managed_fields.iter().position(|entry| is_main(entry) && manager(entry) == MANAGER)?;
    let spec = managed_fields[ours].pointer("/fieldsV1/f:spec")?.clone();
    let owner = managed_fields
        .iter()
        .enumerate()
        .filter(|(_, entry)| is_main(entry) && ![MANAGER, CONTROLLER].contains(&manager(entry)))
        .filter_map(|(at, entry)| {
            let template = entry.pointer("/fieldsV1/f:spec/f:template")?;
            let applies = entry.get("operation").and_then(Value::as_str) == Some("Apply");
            Some((applies, leaves(template), at))
        })
        .max()
        .map(|(_, _, at)| at)?;

    let mut after = managed_fields.to_vec();
    let fields = after[owner].pointer_mut("/fieldsV1/f:spec")?;
    merge(fields, spec);
    let kept = after[ours].get_mut("fieldsV1").and_then(Value::as_object_mut)?;
    kept.remove("f:spec");
    if kept.is_empty() {
        after.remove(ours);
    }
    Some(after)
}

fn is_main(entry: &Value) -> bool {
    entry.get("subresource").and_then(Value::as_str).is_none_or(str::is_empty)
}

fn manager(entry: &Value) -> &str {
    entry.get("manager").and_then(Value::as_str).unwrap_or_default()
}

fn leaves(fields: &Value) -> usize {
    match fields.as_object() {
        Some(map) if !map.is_empty() => map.values().map(leaves).sum(),
        _ => 1,
    }
}

/// The union of two sets of fields.
fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { return };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(into) = into.as_object_mut() else { return };
    for (field, inner) in from {
        merge(into.entry(field).or_insert_with(|| Value::Object(Map::new())), inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(manager: &str, operation: &str, extra: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": extra}}})
    }

    fn ours() -> Value {
        json!({"manager": MANAGER, "operation": "Update", "fieldsV1": {
            "f:metadata": {"f:annotations": {"f:mcphealth.dev/attempt": {}}},
            "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"server\"}": {"f:image": {}}}}}},
        }})
    }

    #[test]
    fn the_manager_that_applies_the_template_gets_what_we_changed() {
        let controller = json!({"manager": CONTROLLER, "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}});
        let editor =
            image("kubectl-edit", "Update", &json!({"f:metadata": {"f:a": {}, "f:b": {}, "f:c": {}}}));
        let owner = image(
            "helm",
            "Apply",
            &json!({"f:spec": {"f:containers": {"k:{\"name\":\"server\"}": {"f:name": {}}}}}),
        );
        let after = hand_back(&[controller.clone(), editor.clone(), owner, ours()]).expect("handed over");
        assert_eq!(after[0], controller);
        assert_eq!(after[1], editor);
        let container = &after[2]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"server\"}"];
        assert_eq!(container, &json!({"f:name": {}, "f:image": {}}));
        assert_eq!(
            after[3]["fieldsV1"],
            json!({"f:metadata": {"f:annotations": {"f:mcphealth.dev/attempt": {}}}})
        );
    }

    #[test]
    fn handing_over_twice_is_the_same_as_once() {
        let owner = image("kubectl-client-side-apply", "Update", &json!({"f:spec": {}}));
        let after = hand_back(&[owner, ours()]).expect("handed over");
        assert_eq!(hand_back(&after), None);
    }

    #[test]
    fn without_another_owner_of_the_template_nothing_is_handed_over() {
        let scaler =
            json!({"manager": "hpa", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        assert_eq!(hand_back(&[scaler, ours()]), None);
        assert_eq!(hand_back(&[]), None);
        assert_eq!(hand_back(&[json!({"manager": 7}), json!("nonsense"), ours()]), None);
    }
}
