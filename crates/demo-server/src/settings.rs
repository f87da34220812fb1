//! Names and values as they were given: the environment, over an optional file of the same names.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name in `MCP_REQUIRE` has no value.
    #[error("configuration error: required setting {0} is not set")]
    Missing(String),
    /// A value does not parse. The value itself is not shown: it may be a credential.
    #[error("configuration error: {name} is not valid: {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name with the prefix of the faults that is none of them.
    #[error("configuration error: unknown fault setting {0}")]
    UnknownFault(String),
    /// The file cannot be read.
    #[error("configuration error: cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a flat mapping of names to plain values.
    #[error("configuration error: {path} is not a mapping of names to values: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Names and values as they were given. An empty value counts as not set.
#[derive(Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads the file named by `MCP_CONFIG`, if any, and lays the environment over it.
    pub fn load(environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let environment: BTreeMap<_, _> =
            environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let mut values = match environment.get("MCP_CONFIG") {
            Some(path) => read_file(Path::new(path))?,
            None => BTreeMap::new(),
        };
        values.extend(environment);
        values.retain(|_, value| !value.is_empty());
        Ok(Self(values))
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a setting, parsed.
    pub fn parse<T>(&self, name: &str) -> Result<Option<T>, ConfigError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.get(name).map(|value| value.parse().map_err(|error: T::Err| invalid(name, error))).transpose()
    }

    /// A switch: `true`, `1`, `yes`, `on`, or their opposites. Not set is off.
    pub fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0" | "no" | "off") => Ok(false),
            Some("true" | "1" | "yes" | "on") => Ok(true),
            Some(_) => Err(invalid(name, "expected true or false")),
        }
    }

    /// A duration with its unit, such as `500ms` or `1m 30s`.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        self.get(name)
            .map(|value| SpanParser::new().parse_unsigned_duration(value).map_err(|e| invalid(name, e)))
            .transpose()
    }

    /// The names that start with `prefix`.
    pub fn names_with(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let malformed = |reason: String| ConfigError::Malformed { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    // JSON is YAML, so one parser reads both.
    let file: Option<BTreeMap<String, serde_yaml_ng::Value>> =
        serde_yaml_ng::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    file.unwrap_or_default()
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                serde_yaml_ng::Value::Null => String::new(),
                serde_yaml_ng::Value::Bool(value) => value.to_string(),
                serde_yaml_ng::Value::Number(value) => value.to_string(),
                serde_yaml_ng::Value::String(value) => value,
                _ => return Err(malformed(format!("{name} is not a plain value"))),
            };
            Ok((name, value))
        })
        .collect()
}

/// The error of a setting that does not parse.
pub fn invalid(name: &str, reason: impl Display) -> ConfigError {
    ConfigError::Invalid { name: name.to_owned(), reason: reason.to_string() }
}
