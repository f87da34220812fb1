//! What a server's health path answers (guides 000, 001, 002, 004): its status code, and what its body says of it, in
//! whichever of the usual shapes. A body that says nothing known is no news: then the code alone tells.

use serde_json::Value;

use crate::{
    mask::mask,
    signals::{Fault, FaultKind},
    words,
};

/// The words by which a server says that it is well.
const WELL: &[&str] = &["healthy", "ok", "up", "pass", "passing", "ready", "alive", "running", "serving"];
/// The most parts that are named.
const NAMED: usize = 4;
/// The longest name that is shown, in bytes.
const NAME: usize = 40;

/// What an answer of a health path comes to.
pub fn judge(status: u16, body: &[u8]) -> Result<(), Fault> {
    let kind = match status {
        200..=299 => return said(body),
        300..=399 => FaultKind::Redirected,
        401 => FaultKind::Unauthorized,
        403 => FaultKind::Forbidden,
        404 | 405 | 501 => FaultKind::NotFound,
        406 => FaultKind::NotAcceptable,
        421 => FaultKind::HostNotAllowed,
        429 => FaultKind::RateLimited,
        503 => FaultKind::Unhealthy,
        500..=599 => FaultKind::ServerError,
        _ => FaultKind::UnexpectedStatus,
    };
    let parts = if status >= 500 { parts(&read(body)) } else { Vec::new() };
    Err(fault(kind, format!("answered {status}"), &parts))
}

/// What the body of a good answer says.
fn said(body: &[u8]) -> Result<(), Fault> {
    let body = read(body);
    let parts = parts(&body);
    match own_status(&body) {
        Some((true, _)) => Ok(()),
        Some((false, word)) => Err(fault(FaultKind::Unhealthy, format!("says that it is {word}"), &parts)),
        // An issue is none where nothing failed.
        None if failed(&body).is_empty() => Ok(()),
        None => {
            Err(fault(FaultKind::Unhealthy, "says that a part of it is not well".to_owned(), &failed(&body)))
        }
    }
}

fn fault(kind: FaultKind, said: String, parts: &[String]) -> Fault {
    let said = if parts.is_empty() { said } else { format!("{said}: {}", parts.join(", ")) };
    Fault { kind, said }
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Whether the status of a body, or of a part of it, is one of those that are well; and the word for it.
fn own_status(of: &Value) -> Option<(bool, String)> {
    status(of.get("status").or_else(|| of.get("healthy"))?)
}

fn status(word: &Value) -> Option<(bool, String)> {
    match word {
        Value::Bool(well) => Some((*well, if *well { "healthy" } else { "not healthy" }.to_owned())),
        Value::String(word) if !word.trim().is_empty() => {
            let is_well = WELL.iter().any(|well| well.eq_ignore_ascii_case(word.trim()));
            Some((is_well, name(word)))
        }
        _ => None,
    }
}

/// The parts that failed, and after them what else is wrong.
fn parts(body: &Value) -> Vec<String> {
    let mut all = failed(body);
    all.extend(list(body, "issues"));
    all.dedup();
    all.truncate(NAMED);
    all
}

/// The parts that failed: those that it lists as such, and those of its components that are not well.
fn failed(body: &Value) -> Vec<String> {
    let mut all: Vec<String> = list(body, "failed_components").collect();
    let components = ["components", "checks"].into_iter().find_map(|key| body.get(key)?.as_object());
    for (component, of) in components.into_iter().flatten() {
        // One component of several instances, as in `application/health+json`.
        let bad = |of: &Value| own_status(of).or_else(|| status(of)).is_some_and(|(well, _)| !well);
        let is_bad = of.as_array().map_or_else(|| bad(of), |instances| instances.iter().any(bad));
        let named = name(component);
        if is_bad && !all.contains(&named) && all.len() < NAMED {
            all.push(named);
        }
    }
    all
}

/// The names in a list of names, or of objects that have one.
fn list<'a>(body: &'a Value, key: &str) -> impl Iterator<Item = String> + use<'a> {
    let all = body.get(key).and_then(Value::as_array).into_iter().flatten();
    let names = all.filter_map(|one| one.as_str().or_else(|| one.get("name")?.as_str()));
    names.take(NAMED).map(name)
}

/// A foreign word, on one line, masked and short.
fn name(word: &str) -> String {
    let line: String = word.chars().take(4 * NAME).map(|c| if c.is_control() { ' ' } else { c }).collect();
    words::shorten(&mask(line.trim()), NAME)
}
