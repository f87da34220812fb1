//! The way to what is not ours, the same for all who ask: [`dial`] where the [`Permit`] allows → [`secure`]
//! where there is TLS → [`Connection`] where HTTP is spoken. Every step ends by a given moment, every answer
//! is bounded, and what fails is told as a [`Failed`], which names the step. No words for people: whoever
//! asks has them.

mod dial;
mod failed;
mod http;
pub mod roots;
mod tls;
mod trust;

pub use dial::{Permit, dial, resolve};
pub use failed::{Failed, Late};
pub use http::{Answer, Connection};
pub use tls::{Stream, secure, server_name};
pub use trust::{Proof, Trust};
