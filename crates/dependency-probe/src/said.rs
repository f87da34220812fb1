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

/// `1.9 GiB`, `512 MiB`, `12 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, one)) = UNITS.into_iter().find(|(_, one)| bytes >= *one) else {
        return format!("{bytes} bytes");
    };
    let tenths = bytes / (one / 10).max(1);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_say_them() {
        for (bytes, says) in
            [(12, "12 bytes"), (1024, "1 KiB"), (3 << 20, "3 MiB"), ((1 << 30) + (1 << 29), "1.5 GiB")]
        {
            assert_eq!(size(bytes), says);
        }
    }

    #[test]
    fn secrets_are_not_said() {
        assert_eq!(said("no user s3cret at AKID", &["s3cret", "AKID", ""]), "no user *** at ***");
    }
}
