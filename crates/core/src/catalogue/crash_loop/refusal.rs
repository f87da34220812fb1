//! What the server connects to is there, and refuses it: credentials, a certificate, a missing grant. No
//! outage: nothing waits until it is over, and new pods of the same template are refused as well. A container
//! that is started again reads its environment again, so that one that loops has what the Secret holds by
//! now.

use mcp_health_api::{ActionType, Cause};

use super::{
    super::forbidden::{RESTARTS, RESTARTS_AND_ROLLBACK},
    sick::Sick,
};
use crate::Server;

/// Secrets that are named.
const NAMED: usize = 4;

/// What is refused, and which Secrets the container reads.
pub fn sentences(server: &Server, first: &Sick, cause: Cause) -> Vec<String> {
    let what = match cause {
        Cause::CertificateRejected => {
            "a certificate has expired or is not trusted: renew it, or the Secret that holds its authority"
        }
        Cause::PermissionMissing => {
            "the login works and a grant is missing: grant it to the user of this server"
        }
        _ => "the login is refused, the connection works: this is no outage; check the credentials",
    };
    vec![format!("{what}; a restart does not change that"), secrets(server, first)]
}

/// `container server reads Secrets db (environment), tls (volume)`.
fn secrets(server: &Server, first: &Sick) -> String {
    let container = &first.container.name;
    let of_it = server.target.secrets.iter().filter(|one| one.container == *container);
    let mut named: Vec<String> = of_it
        .map(|one| format!("{} ({})", one.name, if one.as_env { "environment" } else { "volume" }))
        .collect();
    if named.is_empty() {
        return format!("container {container} reads no Secret: its credentials stand elsewhere");
    }
    let more = if named.len() > NAMED { ", …" } else { "" };
    named.truncate(NAMED);
    format!("container {container} reads Secrets {}{more}", named.join(", "))
}

/// A rollback helps only if the template is to blame: while pods of the one before are ready, at the same
/// moment.
pub fn forbidden(server: &Server) -> &'static [ActionType] {
    if server.serving_beside().is_some() { RESTARTS } else { RESTARTS_AND_ROLLBACK }
}
