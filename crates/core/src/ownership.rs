//! Who owns which field of the target, or of a ConfigMap, after the operator changed some of them.
//!
//! A change by another manager makes the owner's next server-side apply fail with a conflict. So what was
//! changed is handed to the manager that owns the rest of the pod template: its next apply goes through, and
//! removes what it does not name.

use mcp_health_api::MANAGER;
use serde_json::{Map, Value, json};

/// The Deployment controller: it owns the status, never the template.
const CONTROLLER: &str = "kube-controller-manager";

/// The content of a ConfigMap.
const CONTENT: [&str; 2] = ["/f:data", "/f:binaryData"];

/// `metadata.managedFields` with our part of the pod template handed over; `None` where there is nothing to hand over,
/// or nobody to hand it to.
pub fn hand_back(managed_fields: &[Value]) -> Option<Vec<Value>> {
    let owner = managed_fields
        .iter()
        .enumerate()
        .filter(|(_, entry)| is_main(entry) && ![MANAGER, CONTROLLER].contains(&manager(entry)))
        .filter_map(|(at, entry)| {
            let template = entry.pointer("/fieldsV1/f:spec/f:template")?;
            Some((applies(entry), leaves(template), at))
        })
        .max()
        .map(|(_, _, at)| at)?;
    hand_over(managed_fields, owner, &["/f:spec/f:template"])
}

/// The same with the content of a ConfigMap, to the `owner` that [`content_owner`] named before the change. (Where there
/// is one key only, nothing else tells afterwards whose it was.)
pub fn hand_back_content(managed_fields: &[Value], owner: &str) -> Option<Vec<Value>> {
    let (name, operation) = owner.rsplit_once('/')?;
    let ours = managed_fields.iter().find(|entry| is_main(entry) && manager(entry) == MANAGER)?;
    let mut all = managed_fields.to_vec();
    let is_owner = |entry: &Value| {
        is_main(entry) && manager(entry) == name && entry["operation"].as_str() == Some(operation)
    };
    let to = all.iter().position(is_owner).unwrap_or_else(|| {
        let mut entry = ours.clone();
        (entry["manager"], entry["operation"], entry["fieldsV1"]) =
            (json!(name), json!(operation), json!({}));
        all.push(entry);
        all.len() - 1
    });
    hand_over(&all, to, &CONTENT)
}

/// The manager, other than us, that owns most of a ConfigMap's content, as `name/operation`; who applies it comes
/// before who edited it.
pub fn content_owner(managed_fields: &[Value]) -> Option<String> {
    let others =
        managed_fields.iter().filter(|entry| is_main(entry) && ![MANAGER, ""].contains(&manager(entry)));
    let owners = others.filter_map(|entry| {
        let owned = CONTENT.iter().filter_map(|path| entry.get("fieldsV1")?.pointer(path));
        let owned: usize = owned.map(leaves).sum();
        (owned > 0).then_some((applies(entry), owned, entry))
    });
    let (_, _, entry) = owners.max_by_key(|(applies, owned, _)| (*applies, *owned))?;
    Some(format!("{}/{}", manager(entry), entry.get("operation")?.as_str()?))
}

/// The same with the number of replicas, to the manager that owned it before.
pub fn hand_back_replicas(managed_fields: &[Value], owner: &str) -> Option<Vec<Value>> {
    let entries = managed_fields.iter().enumerate();
    let of_owner = entries.filter(|(_, entry)| is_main(entry) && manager(entry) == owner);
    let to = of_owner.max_by_key(|(_, entry)| applies(entry)).map(|(at, _)| at)?;
    hand_over(managed_fields, to, &["/f:spec/f:replicas"])
}

/// The manager, other than us, that owns the number of replicas; who applies it comes before who once set it.
pub fn replicas_owner(managed_fields: &[Value]) -> Option<&str> {
    let owners = managed_fields.iter().filter(|entry| {
        is_main(entry)
            && ![MANAGER, CONTROLLER, ""].contains(&manager(entry))
            && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    });
    owners.max_by_key(|entry| applies(entry)).map(manager)
}

/// Hands our part of these fields over to the entry at `owner`.
fn hand_over(managed_fields: &[Value], owner: usize, paths: &[&str]) -> Option<Vec<Value>> {
    let ours = managed_fields.iter().position(|entry| is_main(entry) && manager(entry) == MANAGER)?;
    let mut after = managed_fields.to_vec();
    let mut handed = false;
    for path in paths {
        let Some(field) = take(after[ours].get_mut("fieldsV1")?, path) else { continue };
        merge(after[owner].get_mut("fieldsV1")?, field);
        handed = true;
    }
    if after[ours].get("fieldsV1")?.as_object()?.is_empty() {
        after.remove(ours);
    }
    handed.then_some(after)
}

/// Takes the field at a path out, with what is empty without it; and returns it in its place.
fn take(fields: &mut Value, path: &str) -> Option<Value> {
    let (first, rest) = path.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, "")))?;
    let fields = fields.as_object_mut()?;
    let taken = if rest.is_empty() {
        fields.remove(first)?
    } else {
        let inner = fields.get_mut(first)?;
        let taken = take(inner, &format!("/{rest}"))?;
        if inner.as_object().is_some_and(Map::is_empty) {
            fields.remove(first);
        }
        taken
    };
    Some(json!({ first: taken }))
}

fn applies(entry: &Value) -> bool {
    entry.get("operation").and_then(Value::as_str) == Some("Apply")
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

    fn scaled() -> Value {
        json!({"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {
            "f:replicas": {},
            "f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}},
        }}})
    }

    fn without_replicas(manager: &str) -> Value {
        json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}})
    }

    #[test]
    fn the_number_of_replicas_goes_back_alone_and_to_who_named_it() {
        let owner = without_replicas("helm");
        let after = hand_back_replicas(&[owner.clone(), scaled()], "helm").expect("handed over");
        assert!(after[0].pointer("/fieldsV1/f:spec/f:replicas").is_some());
        assert_eq!(
            after[0].pointer("/fieldsV1/f:spec/f:template"),
            owner.pointer("/fieldsV1/f:spec/f:template")
        );
        assert_eq!(after[1].pointer("/fieldsV1/f:spec/f:replicas"), None);
        assert!(after[1].pointer("/fieldsV1/f:spec/f:template").is_some(), "the restart stays ours");
        assert_eq!(hand_back_replicas(&after, "helm"), None, "twice is the same as once");
        assert_eq!(hand_back_replicas(&[owner, scaled()], "argocd"), None);
    }

    #[test]
    fn with_the_template_no_number_of_replicas_is_given_to_who_does_not_name_it() {
        let after = hand_back(&[without_replicas("helm"), scaled()]).expect("handed over");
        assert_eq!(after[0].pointer("/fieldsV1/f:spec/f:replicas"), None, "its next apply would leave one");
        assert!(after[1].pointer("/fieldsV1/f:spec/f:replicas").is_some());
    }

    #[test]
    fn who_applies_the_number_of_replicas_owns_it_before_who_once_set_it() {
        let set = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let scale = json!({"manager": "hpa", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let applied = image("helm", "Apply", &json!({}));
        assert_eq!(replicas_owner(&[applied, set.clone(), scale.clone(), scaled()]), Some("helm"));
        assert_eq!(replicas_owner(&[set, scale.clone(), scaled()]), Some("kubectl-edit"));
        assert_eq!(replicas_owner(&[without_replicas("helm"), scale, scaled()]), None);
    }

    #[test]
    fn whoever_applies_a_config_map_gets_its_content_back_rather_than_whoever_edited_it() {
        let entry = |manager: &str, operation: &str, fields: &Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let editor = entry("kubectl-edit", "Update", &json!({"f:data": {"f:b": {}, "f:c": {}}}));
        let owner = entry("team", "Apply", &json!({"f:data": {"f:a": {}}}));
        let ours = entry(
            MANAGER,
            "Update",
            &json!({"f:data": {"f:b": {}}, "f:binaryData": {"f:d": {}}, "f:metadata": {}}),
        );
        let before = [editor.clone(), owner, ours.clone()];
        assert_eq!(content_owner(&before).as_deref(), Some("team/Apply"));
        let after = hand_back_content(&before, "team/Apply").expect("handed over");
        assert_eq!(after[0], editor);
        assert_eq!(
            after[1]["fieldsV1"],
            json!({"f:data": {"f:a": {}, "f:b": {}}, "f:binaryData": {"f:d": {}}})
        );
        assert_eq!(after[2]["fieldsV1"], json!({"f:metadata": {}}));
        assert_eq!(hand_back_content(&after, "team/Apply"), None);

        // All that it had is ours by now: it is there again.
        let after = hand_back_content(&[editor, ours], "team/Apply").expect("handed over");
        assert_eq!(
            after[2],
            entry("team", "Apply", &json!({"f:data": {"f:b": {}}, "f:binaryData": {"f:d": {}}}))
        );
        assert_eq!(hand_back_content(&[json!(7), json!({"manager": MANAGER})], "nonsense"), None);
        assert_eq!(content_owner(&[json!(7), json!({"manager": "a"})]), None);
    }
}
