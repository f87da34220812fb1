//! Kubernetes quantities: `128Mi`, `1Gi`, `500m`, `2`, `1e3`.

/// Suffixes, and what they stand for.
const SUFFIXES: &[(&str, i128)] = &[
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

/// The quantity in thousandths: `500m` of CPU is 500, `1Ki` is 1,024,000. `None` for what is no quantity, or is
/// larger than any machine.
pub fn thousandths(text: &str) -> Option<i128> {
    let text = text.trim();
    // Smaller units than thousandths are rounded up, as Kubernetes does.
    for (suffix, parts) in [('n', 1_000_000), ('u', 1000), ('m', 1)] {
        if let Some(number) = text.strip_suffix(suffix) {
            return Some(decimal(number, 1)?.checked_add(parts - 1)? / parts);
        }
    }
    if let Some((number, unit)) =
        SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
    {
        return decimal(number, unit.checked_mul(1000)?);
    }
    match text.split_once(['e', 'E']) {
        Some((number, exponent)) => {
            let exponent: u32 = exponent.trim_start_matches('+').parse().ok().filter(|power| *power <= 18)?;
            decimal(number, 10_i128.pow(exponent).checked_mul(1000)?)
        }
        None => decimal(text, 1000),
    }
}

/// Whole units, rounded up: bytes.
pub fn bytes(text: &str) -> Option<i64> {
    let thousandths = thousandths(text)?;
    i64::try_from(thousandths.checked_add(999)? / 1000).ok()
}

/// Thousandths: millicores.
pub fn millis(text: &str) -> Option<i64> {
    i64::try_from(thousandths(text)?).ok()
}

/// `unit` times a decimal number that is not negative.
fn decimal(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 18;
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(part.checked_mul(unit)?.checked_add(scale - 1)? / scale)
}

/// Bytes as people write them: `128Mi`, `1536Mi`, `2Gi`; the largest unit that divides them.
pub fn of_bytes(bytes: i64) -> String {
    let units = [("Gi", 1_i64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let unit = units.into_iter().find(|(_, unit)| bytes > 0 && bytes % unit == 0);
    unit.map_or_else(|| bytes.to_string(), |(suffix, unit)| format!("{}{suffix}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("128Mi", Some(128 << 20)),
            ("1Gi", Some(1 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("500M", Some(500_000_000)),
            ("1e3", Some(1000)),
            ("1024", Some(1024)),
            ("100m", Some(1)),
            (".5Ki", Some(512)),
            ("", None),
            ("-1", None),
            ("1Zi", None),
            ("99999999999999999999", None),
            ("1e99", None),
            ("é", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(millis("500m"), Some(500));
        assert_eq!(millis("2"), Some(2000));
        assert_eq!(millis("0.25"), Some(250));
        assert_eq!(millis("125000000n"), Some(125), "as metrics-server writes it");
        assert_eq!(millis("4041n"), Some(1));
        assert_eq!(millis("1500u"), Some(2));
        assert_eq!(millis("0n"), Some(0));
    }

    #[test]
    fn bytes_are_written_in_the_largest_unit_that_divides_them() {
        for (bytes, text) in
            [(128 << 20, "128Mi"), (3 << 29, "1536Mi"), (2 << 30, "2Gi"), (1000, "1000"), (0, "0")]
        {
            assert_eq!(of_bytes(bytes), text);
        }
    }
}
