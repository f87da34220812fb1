//! The switches that stop the operator: an annotation on a namespace, a `ConfigMap` for the whole cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mcp_health_api::{SUSPEND_ANNOTATION, SUSPEND_KEY};
use serde::Deserialize;

use super::table::{Key, Row};

/// A Namespace as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Namespace)]
pub struct NamespaceWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

/// The `ConfigMap` as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = ConfigMap)]
pub struct SwitchWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// Whether a switch is thrown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchRow {
    /// It is.
    pub suspended: bool,
}

impl Row for SwitchRow {
    fn group(&self) -> Option<Key> {
        None
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }
}

/// Anything but a clear no stops the operator: whoever reached for the switch meant it.
fn thrown(value: Option<&String>) -> SwitchRow {
    let no = value
        .is_none_or(|value| matches!(value.trim().to_ascii_lowercase().as_str(), "" | "false" | "no" | "0"));
    SwitchRow { suspended: !no }
}

/// Whether a Namespace is suspended.
pub fn is_suspended(wire: &NamespaceWire) -> bool {
    let annotations = wire.metadata.annotations.as_ref();
    thrown(annotations.and_then(|annotations| annotations.get(SUSPEND_ANNOTATION))).suspended
}

/// Whether the cluster-wide switch is thrown.
pub fn is_thrown(wire: &SwitchWire) -> bool {
    thrown(wire.data.get(SUSPEND_KEY)).suspended
}

/// The row of a Namespace.
pub fn view_namespace(wire: &NamespaceWire) -> Option<(Key, SwitchRow)> {
    Some((Key::new("", wire.metadata.name.as_deref()?), SwitchRow { suspended: is_suspended(wire) }))
}

/// The row of the cluster-wide switch.
pub fn view_switch(wire: &SwitchWire) -> Option<(Key, SwitchRow)> {
    let key = Key::new(wire.metadata.namespace.as_deref()?, wire.metadata.name.as_deref()?);
    Some((key, SwitchRow { suspended: is_thrown(wire) }))
}
