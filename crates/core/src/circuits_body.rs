//! The list of its circuit breakers that a server gives (guide 004; attributes by guide 002). No guide shows its shape,
//! so that all usual ones are read: a list, a map by name, either within an object; times as seconds or milliseconds
//! since 1970 or as RFC 3339; durations as seconds or as text; any spelling of names and states.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value};

use crate::signals::{Circuit, CircuitState};

/// The most circuits of a pod that are kept.
const MOST: usize = 64;
/// The longest name of a circuit, in bytes. One that is longer could not be named in a reset.
const NAME: usize = 128;
/// Numbers above this are milliseconds: as seconds, they would be after the year 5000.
const MILLISECONDS: f64 = 1e11;

/// The circuits that a pod tells of; `None` where the body is no list of circuits.
pub fn read(body: &[u8], pod: &str, at: Timestamp) -> Option<Vec<Circuit>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let is_wrapper =
        |(key, _): &(&String, &Value)| ["circuits", "circuitbreakers", "breakers"].contains(&&*plain(key));
    let wrapped = body.as_object().and_then(|of| of.iter().find(is_wrapper)).map(|(_, inner)| inner);
    // A circuit may bear such a name itself.
    let wrapped = wrapped.filter(|inner| state(inner).is_none());
    let view = |name: Option<&str>, of: &Value| view(name, of, pod, at);
    let (circuits, nothing): (Vec<Circuit>, bool) = match wrapped.unwrap_or(&body) {
        Value::Array(all) => {
            (all.iter().filter_map(|of| view(None, of)).take(MOST).collect(), all.is_empty())
        }
        Value::Object(all) => {
            // Words alone are states only where circuits are announced: `{"status": "open"}` is something else.
            let said = all.iter().filter(|(_, of)| wrapped.is_some() || of.is_object());
            let circuits = said.filter_map(|(name, of)| view(Some(name), of));
            (circuits.take(MOST).collect(), all.is_empty())
        }
        _ => return None,
    };
    (nothing || !circuits.is_empty()).then_some(circuits)
}

/// A circuit, by its own name or by that which it is listed under.
fn view(listed_as: Option<&str>, of: &Value, pod: &str, at: Timestamp) -> Option<Circuit> {
    let state = state(of)?;
    let none = Map::new();
    let fields = of.as_object().unwrap_or(&none);
    let field = |names: &[&str]| {
        let found = fields.iter().find(|(key, _)| names.contains(&plain(key).as_str()));
        found.map(|(_, value)| value)
    };
    let name = field(&["name"]).and_then(Value::as_str).or(listed_as)?;
    if name.is_empty() || name.len() > NAME || name.chars().any(char::is_control) {
        return None;
    }
    Some(Circuit {
        pod: pod.to_owned(),
        name: name.to_owned(),
        state,
        failures: field(&["failurecount", "failures"]).and_then(count),
        threshold: field(&["failurethreshold", "threshold"]).and_then(count),
        last_failure: field(&["lastfailuretime", "lastfailure"]).and_then(moment),
        recovery: field(&["recoverytimeout", "resettimeout"]).and_then(span),
        at,
    })
}

/// The state, of an object or by itself.
fn state(of: &Value) -> Option<CircuitState> {
    let word = match of {
        Value::String(word) => word,
        Value::Object(fields) => fields.iter().find(|(key, _)| plain(key) == "state")?.1.as_str()?,
        _ => return None,
    };
    // Enums of Python are often written with the name of their class.
    let word = word.rsplit('.').next().unwrap_or_default();
    match plain(word).as_str() {
        "closed" => Some(CircuitState::Closed),
        "halfopen" => Some(CircuitState::HalfOpen),
        "open" | "opened" => Some(CircuitState::Open),
        _ => None,
    }
}

/// A name without what its spellings differ in.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    letters.take(64).flat_map(char::to_lowercase).collect()
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

fn count(value: &Value) -> Option<i64> {
    value.as_i64().filter(|count| *count >= 0)
}

/// A moment. Zero is none: that is how some say that there was none yet.
fn moment(value: &Value) -> Option<Timestamp> {
    if let Some(number) = number(value) {
        let seconds = if number > MILLISECONDS { number / 1000.0 } else { number };
        let since = SignedDuration::try_from_secs_f64(seconds).ok().filter(|since| !since.is_zero())?;
        return Timestamp::from_duration(since).ok();
    }
    let text = value.as_str()?.trim();
    // Without an offset, it is read as UTC.
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| Some(local()?.timestamp()))
}

fn span(value: &Value) -> Option<SignedDuration> {
    let span = match number(value) {
        Some(seconds) => SignedDuration::try_from_secs_f64(seconds).ok()?,
        None => value.as_str()?.trim().parse().ok()?,
    };
    (!span.is_negative()).then_some(span)
}
