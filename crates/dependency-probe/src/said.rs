//! Words of dependencies, as people may see them.

use mcp_health_core::mcp::foreign;

/// Without these secrets, masked, on one line and shortened.
pub fn said(text: &str, secrets: &[&str]) -> String {
    let text = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    foreign(&text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_said() {
        assert_eq!(said("no user s3cret at AKID", &["s3cret", "AKID", ""]), "no user *** at ***");
    }
}
