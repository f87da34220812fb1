//! The identity of a pod template, and of a ConfigMap's content.
//!
//! A Deployment's revision *number* changes when an old template comes back, so a revision is known by the
//! digest of its template, without what controllers add to it.

use std::collections::BTreeMap;

use mcp_health_api::{ANNOTATION_PREFIX, POD_TEMPLATE_HASH_LABEL, RESTARTED_AT_ANNOTATION};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The template without what controllers add: `pod-template-hash`, our annotations, the restart annotation.
pub fn canonical(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(POD_TEMPLATE_HASH_LABEL);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations
                .retain(|name, _| !name.starts_with(ANNOTATION_PREFIX) && name != RESTARTED_AT_ANNOTATION);
        }
        for map in ["labels", "annotations"] {
            if metadata.get(map).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
                metadata.remove(map);
            }
        }
    }
    template
}

/// Ten hexadecimal digits that identify the template's content.
pub fn of_template(template: &Value) -> String {
    // serde_json keeps maps sorted by key, so equal content is equal text.
    short(canonical(template).to_string().as_bytes(), 10)
}

/// Ten hexadecimal digits that identify the content of a ConfigMap: its `data` and its `binaryData`, this one in
/// base64, as it is on the wire. What is absent and what is empty is the same content.
pub fn of_content(data: &BTreeMap<String, String>, binary: &BTreeMap<String, String>) -> String {
    short(json!([data, binary]).to_string().as_bytes(), 10)
}

/// Ten hexadecimal digits that identify the schema of a tool's input.
pub fn of_schema(schema: &Value) -> String {
    short(schema.to_string().as_bytes(), 10)
}

/// A name as the value of a label: those have 63 characters at most.
pub fn label_value(name: &str) -> String {
    if name.len() <= 63 {
        return name.to_owned();
    }
    format!("{}-{}", &name[..name.floor_char_boundary(52)], short(name.as_bytes(), 10))
}

/// The first `digits` hexadecimal digits of a SHA-256.
pub fn short(bytes: &[u8], digits: usize) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(digits + 1);
    for byte in Sha256::digest(bytes) {
        if text.len() >= digits {
            break;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controllers_add_does_not_change_the_identity_of_a_template() {
        let deployment = json!({
            "metadata": {"creationTimestamp": null, "labels": {"app": "mcp-server"}},
            "spec": {"containers": [{"name": "server", "image": "a:1"}]},
        });
        let replica_set = json!({
            "metadata": {
                "labels": {"app": "mcp-server", "pod-template-hash": "6f4c"},
                "annotations": {
                    "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
                    "mcphealth.dev/attempt": "x-1",
                },
            },
            "spec": {"containers": [{"name": "server", "image": "a:1"}]},
        });
        assert_eq!(of_template(&deployment), of_template(&replica_set));
    }

    #[test]
    fn another_image_or_annotation_is_another_template() {
        let template = |image: &str, note: &str| json!({"metadata": {"annotations": {"team/note": note}}, "spec": {"containers": [{"image": image}]}});
        let first = of_template(&template("a:1", "x"));
        assert_ne!(first, of_template(&template("a:2", "x")));
        assert_ne!(first, of_template(&template("a:1", "y")));
        assert_eq!(first.len(), 10);
    }

    #[test]
    fn another_key_or_value_is_another_content_whichever_map_it_is_in() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let (none, one) = (BTreeMap::new(), map(&[("a", "YQ==")]));
        let all = [
            of_content(&none, &none),
            of_content(&one, &none),
            of_content(&none, &one),
            of_content(&map(&[("a", "YQ=")]), &none),
            of_content(&map(&[("b", "YQ==")]), &none),
        ];
        for (at, digest) in all.iter().enumerate() {
            assert_eq!(digest.len(), 10);
            assert!(!all[..at].contains(digest), "{all:?}");
        }
    }
}
