//! Durations as Kubernetes people write them: `500ms`, `30s`, `5m`, `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, written in `h`, `m`, `s` and `ms`. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(SignedDuration);

/// What is wrong with a text that should be a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration(String);

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a duration: write it as 500ms, 30s, 5m or 1h30m", self.0)
    }
}

impl std::error::Error for InvalidDuration {}

impl Duration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(SignedDuration::from_secs(seconds as i64))
    }

    /// A duration of whole minutes.
    pub const fn from_mins(minutes: u32) -> Self {
        Self::from_secs(minutes * 60)
    }

    /// As a signed span, for arithmetic with timestamps.
    pub const fn span(self) -> SignedDuration {
        self.0
    }
}

impl From<SignedDuration> for Duration {
    /// Negative spans become zero.
    fn from(span: SignedDuration) -> Self {
        Self(span.max(SignedDuration::ZERO))
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut total = SignedDuration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let number: i64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let milliseconds = match &rest[..letters] {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(invalid()),
            };
            rest = &rest[letters..];
            let part = number.checked_mul(milliseconds).ok_or_else(invalid)?;
            total = total.checked_add(SignedDuration::from_millis(part)).ok_or_else(invalid)?;
        }
        if text.is_empty() { Err(invalid()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds == 0 {
            return f.write_str("0s");
        }
        for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            let larger = match name {
                "m" => 3_600_000,
                "s" => 60_000,
                "ms" => 1_000,
                _ => i128::MAX,
            };
            let amount = milliseconds % larger / unit;
            if amount > 0 {
                write!(f, "{amount}{name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 24,
            "pattern": "^([0-9]{1,6}(h|m|s|ms)){1,4}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_kubernetes_people_write_them() {
        for (text, milliseconds, written) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("0s", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(duration.span().as_millis(), milliseconds, "{text}");
            assert_eq!(duration.to_string(), written);
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_the_forms_that_are() {
        for text in ["", "5", "5 m", "-5m", "m5", "5d", "1.5h", "99999999999999999999h"] {
            let error = text.parse::<Duration>().expect_err(text);
            assert!(error.to_string().contains("write it as"), "{error}");
        }
    }
}
