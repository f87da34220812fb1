//! EditTemplate: sets fields of containers in a pod template to absolute values. Pure: the operator gives the
//! template that is in force, and puts the result in force.

use mcp_health_api::Edit;
use serde_json::{Map, Value, json};

/// The template with all edits made; or why one cannot be made.
pub fn edited(mut template: Value, edits: &[Edit]) -> Result<Value, String> {
    for edit in edits {
        set(&mut template, edit)?;
    }
    Ok(template)
}

fn set(template: &mut Value, edit: &Edit) -> Result<(), String> {
    let container = ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .find_map(|list| {
            let containers = template.pointer(list)?.as_array()?;
            let at = containers.iter().position(|one| one["name"] == json!(edit.container))?;
            Some(format!("{list}/{at}"))
        })
        .ok_or_else(|| format!("there is no container {} any more", edit.container))?;
    let container = template
        .pointer_mut(&container)
        .ok_or_else(|| format!("there is no container {} any more", edit.container))?;
    match edit.field.strip_prefix("env.") {
        Some(name) => set_env(container, name, &edit.to),
        None => set_field(container, &edit.field, &edit.to),
    }
    .ok_or_else(|| format!("container {} has no place for {}", edit.container, edit.field))
}

/// Sets a field at its dotted path. A whole number stays a number where it replaces one, or where the API has
/// numbers only.
fn set_field(container: &mut Value, path: &str, to: &str) -> Option<()> {
    let mut place = container;
    for name in path.split('.') {
        place = place.as_object_mut()?.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
    let numeric = path.ends_with("Threshold") || path.ends_with("Seconds");
    *place = match to.parse::<i64>() {
        Ok(number) if numeric => json!(number),
        _ => json!(to),
    };
    Some(())
}

fn set_env(container: &mut Value, name: &str, to: &str) -> Option<()> {
    let all = container.as_object_mut()?.entry("env").or_insert_with(|| json!([])).as_array_mut()?;
    let value = json!({"name": name, "value": to});
    match all.iter_mut().find(|one| one["name"] == json!(name)) {
        Some(one) => *one = value,
        None => all.push(value),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(container: &str, field: &str, to: &str) -> Edit {
        Edit { container: container.to_owned(), field: field.to_owned(), from: None, to: to.to_owned() }
    }

    #[test]
    fn fields_are_set_where_they_are_and_made_where_they_are_not() {
        let template = json!({"spec": {
            "initContainers": [{"name": "migrate"}],
            "containers": [
                {"name": "proxy"},
                {"name": "server", "resources": {"limits": {"memory": "64Mi", "cpu": "1"}}, "env": [{"name": "A", "value": "1"}]},
            ],
        }});
        let edits = [
            edit("server", "resources.limits.memory", "128Mi"),
            edit("server", "env.A", "2"),
            edit("proxy", "env.B", "3"),
            edit("migrate", "startupProbe.failureThreshold", "60"),
        ];
        let expected = json!({"spec": {
            "initContainers": [{"name": "migrate", "startupProbe": {"failureThreshold": 60}}],
            "containers": [
                {"name": "proxy", "env": [{"name": "B", "value": "3"}]},
                {"name": "server", "resources": {"limits": {"memory": "128Mi", "cpu": "1"}}, "env": [{"name": "A", "value": "2"}]},
            ],
        }});
        assert_eq!(edited(template, &edits), Ok(expected.clone()));
        assert_eq!(edited(expected.clone(), &edits), Ok(expected), "made twice, it is the same");
    }

    #[test]
    fn a_template_without_the_container_or_with_foreign_data_is_not_edited() {
        for template in [
            json!({"spec": {"containers": [{"name": "other"}]}}),
            json!({"spec": {"containers": "nonsense"}}),
            json!({"spec": {"containers": [{"name": "server", "resources": 7}]}}),
            json!(null),
        ] {
            assert!(edited(template, &[edit("server", "resources.limits.memory", "1Gi")]).is_err());
        }
    }
}
