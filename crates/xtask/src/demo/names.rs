//! What the demo makes in a cluster is called so.

/// Where the server runs.
pub const NAMESPACE: &str = "mcp";
/// Where the operator runs.
pub const OPERATOR_NAMESPACE: &str = "mcp-health-system";
/// The operator's release.
pub const RELEASE: &str = "mcp-health-operator";
