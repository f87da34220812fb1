//! `Retry-After`: when a server wants to be asked again.

use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// No server is heeded for longer.
const LONGEST: Duration = Duration::from_hours(1);

/// How long a server that answers so wants no request: of 429 and 503, in seconds or as a date.
pub fn retry_after(status: u16, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let wanted = text(RETRY_AFTER).filter(|_| matches!(status, 429 | 503))?;
    if wanted.bytes().all(|byte| byte.is_ascii_digit()) && !wanted.is_empty() {
        // More digits than fit are long enough.
        return Some(wanted.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
    // By the server's own clock, where it tells.
    let from = text(DATE).and_then(date).unwrap_or(now);
    let left = Duration::try_from(date(wanted)?.duration_since(from)).unwrap_or_default();
    Some(left.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_named_in_seconds_or_as_a_date_and_is_an_hour_at_most() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let late = "Thu, 01 Jan 2026 10:00:00 GMT";
        for (status, wanted, date, expected) in [
            (429, "120", None, Some(120)),
            (503, " 7 ", None, Some(7)),
            (503, "0", None, Some(0)),
            (503, "99999999999999999999999", None, Some(3600)),
            (429, "Thu, 01 Jan 2026 00:02:00 GMT", None, Some(120)),
            (429, "Thu, 01 Jan 2026 10:02:00 GMT", Some(late), Some(120)),
            (429, "Thu, 01 Jan 2026 23:00:00 GMT", None, Some(3600)),
            (429, "Wed, 31 Dec 2025 00:00:00 GMT", None, Some(0)),
            (429, "soon", None, None),
            (429, "-1", None, None),
            (429, "", None, None),
            (200, "120", None, None),
            (500, "120", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, wanted.parse().expect("a value"));
            if let Some(date) = date {
                headers.insert(DATE, date.parse().expect("a value"));
            }
            let told = retry_after(status, &headers, now).map(|pause| pause.as_secs());
            assert_eq!(told, expected, "{status} {wanted}");
        }
        assert_eq!(retry_after(429, &HeaderMap::new(), now), None);
    }
}
