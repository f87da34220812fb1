//! Log lines: one JSON object a line, or plain text.

use std::fmt::{self, Write as _};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;

/// Sends log lines to standard output from now on.
pub fn start(format: LogFormat, level: Level) {
    // The libraries are heard when something is wrong, or when everything is asked for.
    let libraries = if level >= Level::DEBUG { level } else { Level::WARN.min(level) };
    let filter = Targets::new().with_default(libraries).with_target("mcp", level);
    let lines = tracing_subscriber::fmt::layer().event_format(Lines(format));
    // It fails only where a subscriber is there already, which then serves as well.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = match self.0 {
            LogFormat::Json => json(Timestamp::now(), *metadata.level(), metadata.target(), fields),
            LogFormat::Plain => plain(Timestamp::now(), *metadata.level(), metadata.target(), &fields),
        };
        writer.write_str(&line)?;
        writer.write_char('\n')
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

fn json(now: Timestamp, level: Level, module: &str, fields: Fields) -> String {
    let mut line = Map::new();
    line.insert("timestamp".into(), format!("{now:.3}").into());
    line.insert("level".into(), level_name(level).to_ascii_lowercase().into());
    line.insert("logger".into(), module.into());
    line.insert("message".into(), fields.message.into());
    line.extend(fields.values.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(line).to_string()
}

fn plain(now: Timestamp, level: Level, module: &str, fields: &Fields) -> String {
    let time = now.to_zoned(TimeZone::UTC).datetime();
    let mut line = format!("{time:.3} {} [{module}] {}", level_name(level), fields.message);
    for (name, value) in &fields.values {
        // Written so that a line of text can be searched for slow requests.
        let written = match (*name, value) {
            ("duration_ms", value) => write!(line, " duration: {value}ms"),
            (name, Value::String(value)) => write!(line, " {name}={value}"),
            (name, value) => write!(line, " {name}={value}"),
        };
        // Writing to a string cannot fail.
        let _ = written;
    }
    line.replace('\n', " ")
}

#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.values.push((field.name(), format!("{value:?}").into()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.values.push((field.name(), value.into()));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.values.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.values.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.values.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.values.push((field.name(), value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "Tool execution failed".to_owned(),
            values: vec![("tool", "search".into()), ("duration_ms", 1234.into())],
        }
    }

    fn noon() -> Timestamp {
        "2025-01-01T12:00:00.1234Z".parse().expect("a time")
    }

    #[test]
    fn a_plain_line_has_the_time_the_level_and_the_module() {
        let line = plain(noon(), Level::ERROR, "mcp.tools", &fields());
        let expected =
            "2025-01-01T12:00:00.123 ERROR [mcp.tools] Tool execution failed tool=search duration: 1234ms";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_json_line_is_flat_and_its_level_lower_case() {
        let line: Value =
            serde_json::from_str(&json(noon(), Level::ERROR, "mcp.tools", fields())).expect("JSON");
        assert_eq!(line["timestamp"], "2025-01-01T12:00:00.123Z");
        assert_eq!((&line["level"], &line["tool"]), (&"error".into(), &"search".into()));
        assert_eq!(line["duration_ms"], 1234);
    }
}
