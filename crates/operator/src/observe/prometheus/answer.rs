//! What Prometheus answers, read without copying: a typed client would leave out its warnings, which say that
//! an answer is only a part.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use mcp_health_core::{mask::mask, words::shorten};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest words of Prometheus that are shown.
const LONGEST: usize = 240;

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// What tells it from the others: name and value, none empty.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The moment that it was evaluated for.
    pub at: Timestamp,
    /// The value, finite.
    pub value: f64,
}

impl Row<'_> {
    /// The first of these labels that it has.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| {
            let mut labels = self.labels.iter();
            labels.find(|(one, _)| one == name).map(|(_, value)| value.as_ref())
        })
    }
}

/// Why there is no answer to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Prometheus does not take the query.
    Refused(String),
    /// It has only a part of the answer.
    Partial(String),
    /// Anything else.
    Failed(String),
}

impl Trouble {
    /// In a sentence.
    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Partial(why) | Self::Failed(why) => why,
        }
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    status: Text<'a>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    error: Option<String>,
    error_type: Option<String>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    result_type: Text<'a>,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Sample<'a> {
    #[serde(borrow, default)]
    metric: Labels<'a>,
    /// None where it is a histogram.
    #[serde(borrow)]
    value: Option<(f64, Text<'a>)>,
}

#[derive(Default)]
struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut labels = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some((name, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    if !value.0.is_empty() {
                        labels.push((name.0, value.0));
                    }
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Reads the body of an answer to an instant query. What is no number, or has none, is left out.
pub fn read(status: u16, body: &[u8]) -> Result<Vec<Row<'_>>, Trouble> {
    let wire: Wire = match serde_json::from_slice(body) {
        Ok(wire) => wire,
        Err(_) if status == 200 => return Err(Trouble::Failed("its answer cannot be read".to_owned())),
        Err(_) => return Err(Trouble::Failed(format!("it answered {status}"))),
    };
    if status != 200 || wire.status.0 != "success" {
        let kind = wire.error_type.unwrap_or_default();
        let words = wire.error.map_or_else(|| format!("it answered {status}"), |error| foreign(&error));
        return Err(match kind.as_str() {
            "bad_data" => Trouble::Refused(words),
            _ => Trouble::Failed(words),
        });
    }
    if let Some(warning) = wire.warnings.iter().flatten().next() {
        return Err(Trouble::Partial(format!("it warns: {}", foreign(warning))));
    }
    let Some(data) = wire.data else {
        return Err(Trouble::Failed("its answer cannot be read".to_owned()));
    };
    let unreadable = |_| Trouble::Failed("its answer cannot be read".to_owned());
    let samples = match data.result_type.0.as_ref() {
        "vector" => serde_json::from_str::<Vec<Sample>>(data.result.get()).map_err(unreadable)?,
        "scalar" => {
            let value = serde_json::from_str(data.result.get()).map_err(unreadable)?;
            vec![Sample { metric: Labels::default(), value: Some(value) }]
        }
        other => {
            let other = shorten(other, LONGEST);
            return Err(Trouble::Refused(format!(
                "the query answers a {other}, not a value for each series"
            )));
        }
    };
    let rows = samples.into_iter().filter_map(|sample| {
        let (at, value) = sample.value?;
        let value = value.0.parse::<f64>().ok().filter(|value| value.is_finite())?;
        Some(Row { labels: sample.metric.0, at: moment(at)?, value })
    });
    Ok(rows.collect())
}

/// A moment in seconds since 1970.
pub fn moment(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

fn foreign(words: &str) -> String {
    shorten(&mask(words), LONGEST)
}

/// What tells a row from others, but for the labels of these names.
pub fn key<'a>(row: &'a Row<'_>, without: &[&str]) -> Vec<(&'a str, &'a str)> {
    let labels = row.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    let mut key: Vec<_> = labels.filter(|(name, _)| !without.contains(name)).collect();
    key.sort_unstable();
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn failed(words: &str) -> Result<Vec<Row<'static>>, Trouble> {
        Err(Trouble::Failed(words.to_owned()))
    }

    #[test]
    fn values_are_read_and_what_is_no_number_is_left_out() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"pod":"a","le":"","na\u006de":"x"},"value":[1767225600.5,"1.5"]},
            {"metric":{},"value":[1767225600,"NaN"]},
            {"metric":{},"value":[1767225600,"+Inf"]},
            {"metric":{},"histogram":[1767225600,{"count":"1"}]}]},"infos":["metric might not be a counter"]}"#;
        let rows = read(200, body).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].first(&["no", "pod"]), rows[0].first(&["le"])), (Some("a"), None));
        assert_eq!((rows[0].first(&["name"]), rows[0].value), (Some("x"), 1.5));
        assert_eq!(rows[0].at.to_string(), "2026-01-01T00:00:00.5Z");
    }

    #[test]
    fn a_scalar_is_one_value_and_an_empty_answer_is_none() {
        let body = br#"{"status":"success","data":{"resultType":"scalar","result":[1767225600,"3"]}}"#;
        assert_eq!(read(200, body).unwrap()[0].value.to_string(), "3");
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(read(200, body), Ok(Vec::new()));
    }

    #[test]
    fn a_warning_makes_an_answer_a_part() {
        let body = br#"{"status":"success","warnings":["store 1 is gone"],"data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(read(200, body), Err(Trouble::Partial("it warns: store 1 is gone".to_owned())));
    }

    #[test]
    fn a_query_that_is_refused_is_told_from_a_server_that_fails() {
        let body = br#"{"status":"error","errorType":"bad_data","error":"1:3: parse error: unexpected end"}"#;
        let refused = Trouble::Refused("1:3: parse error: unexpected end".to_owned());
        assert_eq!(read(400, body), Err(refused));
        let body = br#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
        assert_eq!(read(503, body), failed("query timed out"));
        assert_eq!(read(502, b"<html>"), failed("it answered 502"));
        for garbage in [&b"{"[..], b"[]", b"{\"status\":\"success\"}", b"\xff", b"", b"null"] {
            assert_eq!(read(200, garbage), failed("its answer cannot be read"));
        }
        let matrix = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(matches!(read(200, matrix), Err(Trouble::Refused(_))));
    }
}
