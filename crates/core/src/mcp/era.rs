//! The two eras of the protocol, and the versions that are spoken here.

/// The version of the modern era that is spoken here.
pub const MODERN: &str = "2026-07-28";
/// The versions of the legacy era that are spoken here, newest first.
pub const LEGACY: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Which of the protocol's eras a server speaks; what it is asked with first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Era {
    /// From 2026-07-28 on: each request speaks for itself.
    Modern,
    /// `initialize`, a session, `ping`.
    Legacy,
}
