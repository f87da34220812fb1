//! Asks what an MCP server depends on how it is (guides 000, 001 and 004). No Kubernetes, and no verdict:
//! each question comes to an answer, or to the [step](mcp_health_core::signals::CheckStep) that failed; what
//! is made of it is told elsewhere.
//!
//! Every question goes the same way: [`route`](connect) → [`tls`] where there is any → its protocol. Nothing
//! is contacted that the caller's permit does not let through, by its address and after its name was
//! resolved; nobody follows where an answer points. What a dependency says reaches people bounded, masked,
//! and without the credentials it was shown.

mod access;
mod asked;
mod barred;
mod certificate;
pub mod dns;
pub mod http;
pub mod oidc;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
mod route;
pub mod s3;
mod said;
pub mod tcp;
pub mod tls;
mod web;

pub use access::Access;
pub use asked::Asked;
pub use barred::Barred;
pub use net::{Permit, Trust};
pub use route::connect;
