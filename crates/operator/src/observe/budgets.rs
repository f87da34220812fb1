//! PodDisruptionBudgets: how many ready pods may be evicted now.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::policy::v1::PodDisruptionBudget,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Resource,
    core::{Selector, SelectorExt},
};
use mcp_health_core::signals::Budget;
use serde::Deserialize;

use super::{
    services::namespace_group,
    table::{Concerns, Key, Row},
};

/// A budget as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = PodDisruptionBudget)]
pub struct BudgetWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: BudgetSpec,
    #[serde(default)]
    status: BudgetStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disruptions_allowed: i32,
    observed_generation: i64,
}

/// A budget that covers some pods.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetRow {
    namespace: Key,
    selector: LabelSelector,
    /// What the core is given.
    pub budget: Budget,
}

impl BudgetRow {
    /// Whether it covers pods with these labels.
    pub fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        // What cannot be read covers, as far as anybody knows.
        Selector::try_from(self.selector.clone()).map_or(true, |selector| selector.matches(labels))
    }
}

impl Row for BudgetRow {
    fn group(&self) -> Option<Key> {
        Some(self.namespace.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self.selector != before.selector || (self.budget.allowed > 0) != (before.budget.allowed > 0)
    }

    fn concerns(&self, key: &Key) -> Concerns {
        // Which servers a changed budget used to cover is not known.
        Concerns::Namespace(key.namespace.clone())
    }
}

/// The row of a budget. One without a selector covers nothing.
pub fn view(wire: &BudgetWire) -> Option<(Key, BudgetRow)> {
    let meta = &wire.metadata;
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    // Before its controller has counted, the API server lets nothing be evicted either.
    let counted = wire.status.observed_generation >= meta.generation.unwrap_or_default();
    let allowed = if counted { wire.status.disruptions_allowed } else { 0 };
    let row = BudgetRow {
        namespace: namespace_group(namespace),
        selector: wire.spec.selector.clone()?,
        budget: Budget { name: name.to_owned(), allowed },
    };
    Some((Key::new(namespace, name), row))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn row(selector: &Value, observed: i64) -> Option<BudgetRow> {
        let wire = json!({
            "metadata": {"name": "mcp", "namespace": "mcp", "generation": 2},
            "spec": {"selector": selector, "minAvailable": 1},
            "status": {"disruptionsAllowed": 1, "observedGeneration": observed},
        });
        view(&serde_json::from_value(wire).unwrap()).map(|(_, row)| row)
    }

    #[test]
    fn a_budget_covers_the_pods_that_its_labels_and_expressions_match() {
        let labels = BTreeMap::from([("app".to_owned(), "mcp".to_owned())]);
        for (selector, covers) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "mcp"}}), true),
            (json!({"matchLabels": {"app": "other"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["mcp", "x"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["mcp"]}]}), false),
            (json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true),
            (
                json!({"matchLabels": {"app": "mcp"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "app", "operator": "Nonsense"}]}), true),
        ] {
            assert_eq!(row(&selector, 2).unwrap().covers(&labels), covers, "{selector}");
        }
        assert_eq!(row(&Value::Null, 2), None);
    }

    #[test]
    fn a_budget_that_was_changed_and_not_counted_yet_allows_nothing() {
        assert_eq!(row(&json!({}), 2).unwrap().budget.allowed, 1);
        assert_eq!(row(&json!({}), 1).unwrap().budget.allowed, 0);
    }
}
