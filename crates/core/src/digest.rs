//! The identity of a pod template, and of a ConfigMap's content.
//!
//! A Deployment's revision *number* changes when an old template comes back, so a revision is known by the
//! digest of its template, without what controllers add to it.

use std::collections::BTreeMap;

use mcp_health_api::{ANNOTATION_PREFIX, POD_TEMPLATE_HASH_LABEL, RESTARTED_AT_ANNOTATION};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Labels that controllers add to a template to tell its revisions apart.
const REVISION_LABELS: [&str; 3] =
    [POD_TEMPLATE_HASH_LABEL, "controller-revision-hash", "rollouts-pod-template-hash"];
/// Prefixes of annotations by which tools restart pods after a ConfigMap or Secret has changed: the Helm convention, and
/// Wave. Those of Reloader are told by [`RELOADER`], because it puts the kind of the object before that.
const CHECKSUMS: [&str; 2] = ["checksum", "wave.pusher.com"];
/// The domain of Reloader's annotations.
const RELOADER: &str = "reloader.stakater.com";
/// What Reloader's other strategy adds: variables of this prefix that end in one of these.
const RELOADER_VARIABLES: (&str, [&str; 2]) = ("STAKATER_", ["_CONFIGMAP", "_SECRET"]);

/// The template without what controllers add and without what only restarts its pods: labels that name a revision, our
/// annotations, `kubectl rollout restart`, checksums and the marks of reloaders.
pub fn canonical(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|name, _| !REVISION_LABELS.contains(&name.as_str()));
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| !name.starts_with(ANNOTATION_PREFIX) && !is_restart(name));
        }
        for map in ["labels", "annotations"] {
            if metadata.get(map).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
                metadata.remove(map);
            }
        }
    }
    for list in ["initContainers", "containers"] {
        let containers = template.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            forget_reloads(container);
        }
    }
    template
}

/// Whether an annotation of a template only has its pods restarted.
fn is_restart(name: &str) -> bool {
    let prefix = name.split_once('/').map_or("", |(prefix, _)| prefix);
    name == RESTARTED_AT_ANNOTATION || CHECKSUMS.contains(&prefix) || prefix.ends_with(RELOADER)
}

/// Leaves out the variables by which Reloader has a container restarted.
fn forget_reloads(container: &mut Value) {
    let (prefix, suffixes) = RELOADER_VARIABLES;
    let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) else { return };
    env.retain(|variable| {
        let name = variable.get("name").and_then(Value::as_str).unwrap_or_default();
        !(name.starts_with(prefix) && suffixes.iter().any(|suffix| name.ends_with(suffix)))
    });
    if env.is_empty()
        && let Some(container) = container.as_object_mut()
    {
        container.remove("env");
    }
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

/// Ten hexadecimal digits that identify the schema of a tool's input. Arrays whose order JSON Schema gives no meaning
/// (`required`, `enum`, `type`, `anyOf` and their like) count as sets: servers write them in the order of a hash map.
pub fn of_schema(schema: &Value) -> String {
    short(unordered(schema).to_string().as_bytes(), 10)
}

/// A schema with its sets in one order. What stands under `default`, `const` and `examples` is data, and stays.
fn unordered(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let canonical = fields.iter().map(|(keyword, value)| {
        let value = match (keyword.as_str(), value) {
            ("required" | "type" | "enum", Value::Array(set)) => sorted(set.clone()),
            ("anyOf" | "oneOf" | "allOf", Value::Array(all)) => sorted(all.iter().map(unordered).collect()),
            ("items" | "prefixItems", Value::Array(all)) => all.iter().map(unordered).collect(),
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas"
                | "dependentRequired" | "dependencies",
                Value::Object(named),
            ) => named.iter().map(|(name, of)| (name.clone(), of_name(of))).collect(),
            ("default" | "const" | "examples", data) => data.clone(),
            (_, schema) => unordered(schema),
        };
        (keyword.clone(), value)
    });
    canonical.collect()
}

/// What stands under a property's name: a schema, or the set of names that it requires.
fn of_name(of: &Value) -> Value {
    match of {
        Value::Array(names) => sorted(names.clone()),
        schema => unordered(schema),
    }
}

fn sorted(mut set: Vec<Value>) -> Value {
    set.sort_by_cached_key(Value::to_string);
    set.dedup();
    Value::Array(set)
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
    fn what_only_restarts_pods_does_not_change_the_identity_of_a_template() {
        let plain = json!({
            "metadata": {"labels": {"app": "mcp-server"}},
            "spec": {"containers": [{"name": "server", "image": "a:1"}]},
        });
        for (annotation, restarts) in [
            ("checksum/config", true),
            ("kubectl.kubernetes.io/restartedAt", true),
            ("reloader.stakater.com/last-reloaded-from", true),
            ("configmap.reloader.stakater.com/last-reload", true),
            ("wave.pusher.com/config-hash", true),
            ("team.example.com/checksum", false),
            ("checksum", false),
            ("my-reloader.example.com/x", false),
        ] {
            let mut template = plain.clone();
            template["metadata"]["annotations"] = json!({annotation: "5f70bf18"});
            assert_eq!(of_template(&template) == of_template(&plain), restarts, "{annotation}");
        }
        for (variable, restarts) in [
            ("STAKATER_SETTINGS_CONFIGMAP", true),
            ("STAKATER_DB_SECRET", true),
            ("STAKATER_URL", false),
            ("DB_SECRET", false),
        ] {
            let mut template = plain.clone();
            template["spec"]["containers"][0]["env"] = json!([{"name": variable, "value": "5f70bf18"}]);
            assert_eq!(of_template(&template) == of_template(&plain), restarts, "{variable}");
        }
        for label in ["controller-revision-hash", "rollouts-pod-template-hash"] {
            let mut template = plain.clone();
            template["metadata"]["labels"][label] = json!("5f70bf18");
            assert_eq!(of_template(&template), of_template(&plain), "{label}");
        }
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
    fn the_order_of_a_set_in_a_schema_does_not_change_its_identity() {
        let rows = [
            (json!({"required": ["a", "b"]}), json!({"required": ["b", "a"]})),
            (json!({"type": ["string", "null"]}), json!({"type": ["null", "string"]})),
            (json!({"enum": [2, "x", null]}), json!({"enum": [null, 2, "x"]})),
            (
                json!({"anyOf": [{"required": ["a", "b"]}, {"type": "null"}]}),
                json!({"anyOf": [{"type": "null"}, {"required": ["b", "a"]}]}),
            ),
            (
                json!({"properties": {"required": {"enum": ["a", "b"]}}}),
                json!({"properties": {"required": {"enum": ["b", "a"]}}}),
            ),
            (
                json!({"dependentRequired": {"a": ["b", "c"]}}),
                json!({"dependentRequired": {"a": ["c", "b"]}}),
            ),
            (
                json!({"items": {"$defs": {"x": {"type": ["a", "b"]}}}}),
                json!({"items": {"$defs": {"x": {"type": ["b", "a"]}}}}),
            ),
        ];
        for (one, other) in rows {
            assert_eq!(of_schema(&one), of_schema(&other), "{one} {other}");
        }
    }

    #[test]
    fn an_order_that_means_something_changes_the_identity_of_a_schema() {
        let rows = [
            (
                json!({"prefixItems": [{"type": "a"}, {"type": "b"}]}),
                json!({"prefixItems": [{"type": "b"}, {"type": "a"}]}),
            ),
            (json!({"default": {"required": ["a", "b"]}}), json!({"default": {"required": ["b", "a"]}})),
            (json!({"const": ["a", "b"]}), json!({"const": ["b", "a"]})),
            (json!({"enum": [["a", "b"]]}), json!({"enum": [["b", "a"]]})),
            (json!({"required": ["a"]}), json!({"required": ["a", "b"]})),
            (json!({"type": "string"}), json!({"type": "number"})),
        ];
        for (one, other) in rows {
            assert_ne!(of_schema(&one), of_schema(&other), "{one} {other}");
        }
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
