//! What a server tells at its metrics path: the text format of Prometheus, and OpenMetrics. A line that is none of a
//! sample is left out; the others count.

use std::borrow::Cow;

/// Labels of one sample that are read at most.
const LABELS: usize = 64;
/// Timestamps of more than this are in milliseconds (Prometheus); others in seconds (OpenMetrics).
const MILLISECONDS: f64 = 1e11;

/// One value, as it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct ExposedSample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Its labels, in the order of their names.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// Its value; it may be no number.
    pub value: f64,
    /// When it was taken, in seconds since 1970, where the server says so.
    pub taken: Option<f64>,
}

/// The samples of the metrics whose names are wanted.
pub fn samples(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = ExposedSample<'_>> {
    text.lines().filter_map(move |line| sample(line.trim_start(), &wanted))
}

fn sample(line: &str, wanted: impl Fn(&str) -> bool) -> Option<ExposedSample<'_>> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (name, rest) = line.split_at(line.find(|c| !is_of_a_name(c))?);
    if name.is_empty() || !wanted(name) {
        return None;
    }
    let rest = rest.trim_start();
    let (mut labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    labels.sort();
    // An exemplar may follow, behind a `#`.
    let mut words = rest.split('#').next()?.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let taken = words.next().and_then(|word| word.parse::<f64>().ok()).filter(|taken| taken.is_finite());
    let taken = taken.map(|taken| if taken > MILLISECONDS { taken / 1000.0 } else { taken });
    Some(ExposedSample { name, labels, value, taken })
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels, and what comes behind them.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, behind) = rest.split_once('=')?;
        let (value, behind) = value(behind.trim_start().strip_prefix('"')?)?;
        if labels.len() >= LABELS {
            return None;
        }
        labels.push((name.trim_end(), value));
        let behind = behind.trim_start();
        rest = behind.strip_prefix(',').unwrap_or(behind);
        if rest.len() == behind.len() && !behind.starts_with('}') {
            return None;
        }
    }
}

/// A label's value up to its closing quote, and what comes behind that.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if text.as_bytes().get(end) == Some(&b'"') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(value), &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Option<ExposedSample<'_>> {
        sample(line, |_| true)
    }

    #[test]
    fn what_both_formats_may_write_is_read() {
        let text = "# HELP http_requests_total The total, \"by\" code.\n# TYPE http_requests_total counter\n\
            http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
            \n\
            msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9\n\
            metric_without_timestamp_and_labels 12.47\n\
            something_weird{problem=\"division by zero\"} +Inf -3982045\n\
            \tfoo_bucket { le = \"10.0\" , } 17 # {trace_id=\"0#KO\"} 9.8 1520879607.789\n\
            mcp_requests_total{a=\"{x}\",b=\"=,\"} 1 1520879607.5\n\
            # EOF\n";
        let all: Vec<_> = samples(text, |_| true).collect();
        let names: Vec<_> = all.iter().map(|one| one.name).collect();
        assert_eq!(
            names,
            [
                "http_requests_total",
                "msdos_file_access_time_seconds",
                "metric_without_timestamp_and_labels",
                "something_weird",
                "foo_bucket",
                "mcp_requests_total"
            ]
        );
        assert_eq!(all[0].labels, [("code", "200".into()), ("method", "post".into())]);
        assert_eq!((all[0].value, all[0].taken), (1027.0, Some(1_395_066_363.0)));
        assert_eq!(all[1].labels[0].1, "Cannot find file:\n\"FILE.TXT\"");
        assert_eq!((all[2].value, all[2].taken), (12.47, None));
        assert!(all[3].value.is_infinite());
        assert_eq!((&*all[4].labels, all[4].value), (&[("le", "10.0".into())][..], 17.0));
        assert_eq!(all[5].labels, [("a", "{x}".into()), ("b", "=,".into())]);
        assert_eq!(all[5].taken, Some(1_520_879_607.5));
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        for line in [
            "",
            "#",
            "x",
            "x ",
            "x one",
            "{a=\"b\"} 1",
            "x{a} 1",
            "x{a=\"b} 1",
            "x{a=\"b\"",
            "x{a=\"b\"c=\"d\"} 1",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            samples(&String::from_utf8_lossy(&bytes), |_| true).for_each(drop);
        }

        #[test]
        fn nothing_that_looks_like_a_sample_panics(
            text in "([a-c_:#{}=,\"\\\\ \n]|le|NaN|[0-9]|\u{e4}|\u{1f600}){0,60}"
        ) {
            samples(&text, |_| true).for_each(drop);
        }

        #[test]
        fn every_value_of_a_label_comes_back(value in "\\PC{0,20}") {
            let written = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("x{{a=\"{written}\"}} 1");
            let sample = read(&line);
            prop_assert_eq!(sample.unwrap().labels, vec![("a", Cow::Owned(value))]);
        }
    }
}
