//! Jobs that the operator made: a row holds what came of one. Others are not watched.

use k8s_openapi::{
    api::batch::v1::{Job as KubernetesJob, JobCondition},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mcp_health_core::signals::Job;
use serde::Deserialize;

use super::table::{Concerns, Key, Row};

/// A Job as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = KubernetesJob)]
pub struct JobWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    status: JobStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct JobStatus {
    conditions: Vec<JobCondition>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    /// The McpServerHealth that it was made for.
    pub object: Key,
    /// What the core is given.
    pub job: Job,
}

impl Row for JobRow {
    fn group(&self) -> Option<Key> {
        Some(self.object.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }

    fn concerns(&self, _: &Key) -> Concerns {
        Concerns::Object(self.object.clone())
    }
}

/// The row of a Job that an McpServerHealth owns.
pub fn view(wire: &JobWire) -> Option<(Key, JobRow)> {
    let meta = &wire.metadata;
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.kind == "McpServerHealth")?;
    let is = |kind: &str| {
        let mut conditions = wire.status.conditions.iter();
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let succeeded = if is("Complete") {
        Some(true)
    } else if is("Failed") {
        Some(false)
    } else {
        None
    };
    let job = Job { name: name.to_owned(), succeeded };
    Some((Key::new(namespace, name), JobRow { object: Key::new(namespace, &owner.name), job }))
}
