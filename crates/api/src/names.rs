//! The names that people and other programs meet on objects: annotations, managers, the API group.

/// API group of `McpServerHealth`.
pub const GROUP: &str = "mcphealth.dev";
/// Served version.
pub const VERSION: &str = "v1alpha1";
/// Field manager of every write, and the reporting controller of every Event.
pub const MANAGER: &str = "mcp-health-operator";
/// On the target: the attempt that changed it last. Set in the same patch as the change.
pub const ATTEMPT_ANNOTATION: &str = "mcphealth.dev/attempt";
/// On the target: the last actions as JSON, so that deleting the object does not reset its limits.
pub const ACTIONS_ANNOTATION: &str = "mcphealth.dev/actions";
/// On an `McpServerHealth`: a person's report, as `SEV2: searches hang`. The incident stays open while it is there.
pub const REPORT_ANNOTATION: &str = "mcphealth.dev/report";
/// On an `McpServerHealth`: up to when a person has dealt with what a database finds damaged of its data, as
/// `2026-11-21T10:00:00Z`.
pub const SETTLED_ANNOTATION: &str = "mcphealth.dev/settled";
/// On an `McpServerHealth`: lifts what one open incident forbids, until then, as `crashloop-1a2b3c,2026-11-21T10:00:00Z`.
/// The end is at most 24 hours ahead.
pub const LIFT_PROHIBITION_ANNOTATION: &str = "mcphealth.dev/lift-prohibition";
/// On everything that the operator creates: what it is for, see `KIND_*`.
pub const KIND_LABEL: &str = "mcphealth.dev/kind";
/// Of [`KIND_LABEL`]: a copy of a `ConfigMap`'s content.
pub const KIND_CONFIG_COPY: &str = "config-copy";
/// On such a copy: the `ConfigMap` that it is a copy of.
pub const CONFIG_ANNOTATION: &str = "mcphealth.dev/config";
/// On such a copy: the digest of the content.
pub const CONTENT_ANNOTATION: &str = "mcphealth.dev/content";
/// Of [`KIND_LABEL`]: what was collected about an incident.
pub const KIND_EVIDENCE: &str = "evidence";
/// Of [`KIND_LABEL`]: a Job of a runbook.
pub const KIND_JOB: &str = "job";
/// On everything that the operator creates: the `McpServerHealth` that it belongs to.
pub const OBJECT_LABEL: &str = "mcphealth.dev/object";
/// On a Namespace: `"true"` holds every action on the objects in it.
pub const SUSPEND_ANNOTATION: &str = "mcphealth.dev/suspend";
/// In the cluster-wide switch (a `ConfigMap`): `"true"` holds every action of the operator.
pub const SUSPEND_KEY: &str = "suspend";
/// Prefix of all annotations and labels that are ours.
pub const ANNOTATION_PREFIX: &str = "mcphealth.dev/";
/// The annotation by which `kubectl rollout restart` makes a new template.
pub const RESTARTED_AT_ANNOTATION: &str = "kubectl.kubernetes.io/restartedAt";
/// The label that the Deployment controller adds to the templates of its ReplicaSets.
pub const POD_TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
