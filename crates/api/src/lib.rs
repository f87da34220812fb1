//! The `McpServerHealth` API, group `mcphealth.dev/v1alpha1`: what a team declares about an MCP server
//! (`spec`), and the story the operator tells about it (`status`).
//!
//! Types, admission rules and names only; every decision is made in `mcp-health-core`. A field or an enum
//! value stands here only if the operator honours it.

mod conditions;
mod duration;
mod env;
mod kinds;
mod names;
mod runbook;
mod signals;
mod spec;
mod status;

pub use conditions::{ConditionType, Reason};
pub use duration::{Duration, InvalidDuration};
pub use env::{EnvName, is_denied_env};
pub use kinds::*;
pub use names::*;
pub use runbook::*;
pub use signals::*;
pub use spec::*;
pub use status::*;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
pub use kube::CustomResourceExt;
