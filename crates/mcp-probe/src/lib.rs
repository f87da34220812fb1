//! Asks one MCP endpoint how it is (DESIGN §10). No Kubernetes, and no verdict: what an answer means is told
//! by [`mcp_health_core::mcp`]; what is done about it, elsewhere.
//!
//! [`Prober::ask`] → a [channel](channel) of one transport, open for this one probe → questions and answers
//! over it → [`Outcome`]. Between two probes there is no open socket, only the era, the transport, and the id
//! of a legacy session: never more than one. [`get`] asks over the same way what servers tell beside MCP.

mod channel;
mod connection;
mod endpoint;
mod event_stream;
mod frames;
mod get;
mod origin;
mod prober;
mod request;
mod retry_after;
mod streamable;
mod token;
mod websocket;

pub use endpoint::{Address, Endpoint, InvalidEndpoint, Transport};
pub use get::{Got, get};
pub use mcp_health_core::mcp::Era;
pub use prober::{Canaried, Canary, Listed, Look, Outcome, Prober, SessionUse};
pub use retry_after::retry_after;
pub use token::Token;
