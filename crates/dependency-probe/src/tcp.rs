//! Whether something takes connections.

use std::time::Duration;

use crate::{Asked, Permit, connect};

/// Connects, and hangs up. `Err` where it may not be asked, with the reason for people.
pub async fn ask(host: &str, port: u16, permit: Permit<'_>, patience: Duration) -> Result<Asked, String> {
    let connected = connect(host, port, permit, patience).await;
    Asked::default().ended(connected.map(drop))
}
