//! The queries that ask Prometheus for what is measured. Servers with the same mapping share their text, so that one
//! query tells of all of them; each has a companion that tells when what it answers was sampled.

use jiff::SignedDuration;
use mcp_health_api::{Label, Measure, PrometheusSignal};

use super::{
    measures::{Definition, Kind, MEASURES, label_names_of, metric_name, replica_labels},
    reach_of,
};
use crate::signals::Span;

/// More namespaces are not named in a query.
const NAMED_NAMESPACES: usize = 50;
/// A CPU's rate looks no further back: its peaks count. Scrapes that come every minute still make a rate.
const CPU_WINDOW: SignedDuration = SignedDuration::from_secs(120);
/// The hour of a baseline, in seconds.
const HOUR: i64 = 3600;
/// What tells the scrapes of one address apart, where several jobs make them.
const JOB: &str = "job";
/// What tells whose a series is.
const IDENTITY: &[Label] =
    &[Label::Namespace, Label::Pod, Label::Service, Label::Deployment, Label::Instance];
/// The same for what the kubelet tells of a container. Its `instance` is the node.
const CONTAINER_IDENTITY: &[Label] = &[Label::Namespace, Label::Pod];

/// What is made of several series that differ in what no rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// They add up.
    Sum,
    /// The worst counts, or the newest; or they are the same one, seen twice.
    Max,
}

/// How it is known when a value was sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// By this query: it answers moments, in seconds since 1970, told apart by the same labels as the values; labels
    /// of the measure's own may be left out.
    By(String),
    /// This query answers where the server was seen at the beginning of the hour that the value speaks of.
    Since(String),
    /// It is not: the time of the evaluation has to do.
    Evaluation,
}

/// One query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What it measures.
    pub measure: Measure,
    /// The time that it speaks of.
    pub span: Span,
    /// Its text.
    pub text: String,
    /// Its companion.
    pub seen: Seen,
    /// What is made of several values.
    pub fold: Fold,
    /// It is the policy's own: what it answers without a word on whose it is, is that server's.
    pub own: bool,
}

/// All queries for a mapping. `namespaces` are those of all servers that are asked about.
pub fn queries(signal: &PrometheusSignal, namespaces: &[&str]) -> Vec<Query> {
    let mut queries = Vec::new();
    for definition in MEASURES {
        match signal.queries.iter().find(|own| own.measure == definition.measure) {
            Some(own) => queries.push(Query {
                measure: definition.measure,
                span: Span::Window,
                text: own.promql.clone(),
                seen: seen_of_own(&own.promql),
                fold: fold(definition),
                own: true,
            }),
            None => queries
                .extend(definition.spans.iter().map(|span| built_in(definition, *span, signal, namespaces))),
        }
    }
    queries
}

/// How it is known when what a query of the policy's own answers was sampled: only a plain selector tells.
pub fn seen_of_own(promql: &str) -> Seen {
    if is_plain_selector(promql) { Seen::By(format!("timestamp({promql})")) } else { Seen::Evaluation }
}

fn built_in(definition: &Definition, span: Span, signal: &PrometheusSignal, namespaces: &[&str]) -> Query {
    let name = metric_name(definition, Some(signal));
    let of_container = definition.labels.contains(&Label::Container);
    let matchers = if of_container && name.starts_with("container_") {
        container_matchers(signal, namespaces)
    } else {
        String::new()
    };
    let selector = format!("{name}{matchers}");
    let identity = if of_container { CONTAINER_IDENTITY } else { IDENTITY };
    let mut who = names(identity, signal);
    if !of_container {
        who.push(JOB);
    }
    // Replicas of a Prometheus are told apart, so that they are not added up: the freshest is chosen later.
    who.extend(replica_labels(signal));
    let both = || {
        let own = names(definition.labels, signal).into_iter().filter(|one| !who.contains(one));
        who.iter().copied().chain(own).collect::<Vec<_>>().join(", ")
    };
    let window = match definition.measure {
        Measure::CpuSeconds => signal.window.span().min(CPU_WINDOW),
        _ => signal.window.span(),
    };
    let fold = fold(definition);
    let by = match fold {
        Fold::Sum => "sum",
        Fold::Max => "max",
    };
    let (text, seen) = match (definition.kind, span) {
        (Kind::Gauge, _) => (
            format!("{by} by ({}) ({selector})", both()),
            Seen::By(format!("max by ({}) (timestamp({selector}))", both())),
        ),
        // A series that is gone while its server goes on, as a restart makes it, still counts in the window: so that
        // it does not ask for a sample of that very series.
        (Kind::Counter, Span::Window | Span::Recent) => (
            format!("{by} by ({}) (rate({selector}[{}s]))", both(), reach_of(span, window).as_secs()),
            Seen::By(format!("max by ({}) (timestamp({selector}))", who.join(", "))),
        ),
        (Kind::Counter, Span::Before) => (
            format!("{by} by ({}) (rate({selector}[{HOUR}s] offset {}s))", both(), window.as_secs()),
            Seen::Since(format!(
                "max by ({}) (timestamp({selector} offset {}s))",
                who.join(", "),
                window.as_secs() + HOUR
            )),
        ),
    };
    Query { measure: definition.measure, span, text, seen, fold, own: false }
}

/// Two scrapes of a kubelet tell the same of a container; a sum would count it twice.
fn fold(definition: &Definition) -> Fold {
    match definition.measure {
        Measure::DurationQuantile
        | Measure::HeartbeatTime
        | Measure::HeartbeatInterval
        | Measure::CircuitState => Fold::Max,
        _ if definition.labels.contains(&Label::Container) => Fold::Max,
        _ => Fold::Sum,
    }
}

/// What the kubelet tells has labels that are known: it is asked for containers, not for the cgroups above them, and
/// only of these namespaces, so that a shared cluster's Prometheus does not tell of every pod.
fn container_matchers(signal: &PrometheusSignal, namespaces: &[&str]) -> String {
    let mut matchers = Vec::new();
    let first = |label| label_names_of(label, signal).first().copied();
    if let Some(name) = first(Label::Namespace).filter(|_| (1..=NAMED_NAMESPACES).contains(&namespaces.len()))
    {
        let escaped: Vec<_> = namespaces.iter().map(|one| escape(one)).collect();
        matchers.push(format!("{name}=~\"{}\"", escaped.join("|")));
    }
    if let Some(name) = first(Label::Container) {
        matchers.extend([format!("{name}!=\"\""), format!("{name}!=\"POD\"")]);
    }
    format!("{{{}}}", matchers.join(","))
}

/// A text as a regular expression that matches just it, in a string of PromQL.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            '\\' => escaped.push_str(r"\\\\"),
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
                escaped.push_str(r"\\");
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

fn names<'a>(labels: &[Label], signal: &'a PrometheusSignal) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in labels.iter().flat_map(|label| label_names_of(*label, signal)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `name`, or `name{…}`, and nothing else: only of such a query PromQL tells when its values were sampled.
fn is_plain_selector(promql: &str) -> bool {
    let text = promql.trim();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    let Some(rest) = text.get(end..).filter(|_| begins) else { return false };
    if rest.is_empty() {
        return true;
    }
    let Some(inside) = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return false };
    let (mut quote, mut escaped) = (None, false);
    for c in inside.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(mark) if mark != '`' && c == '\\' => escaped = true,
            Some(mark) if mark == c => quote = None,
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if matches!(c, '{' | '}' | '#') => return false,
            Some(_) | None => {}
        }
    }
    quote.is_none()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mcp_health_api::{LabelName, MetricName, OwnQuery};

    use super::*;

    const WHO: &str = "namespace, kubernetes_namespace, k8s_namespace_name, pod, kubernetes_pod_name, pod_name, \
                       k8s_pod_name, service, kubernetes_name, deployment, k8s_deployment_name, instance, job, \
                       replica, prometheus_replica, prometheus, __replica__";

    fn query(signal: &PrometheusSignal, measure: Measure, span: Span) -> Query {
        let all = queries(signal, &["mcp", "a.b"]);
        all.into_iter().find(|one| one.measure == measure && one.span == span).unwrap()
    }

    #[test]
    fn a_counter_is_a_rate_by_its_labels_and_is_seen_by_its_servers_newest_sample() {
        let query = query(&PrometheusSignal::default(), Measure::Errors, Span::Window);
        assert_eq!(
            query.text,
            format!("sum by ({WHO}, type, error_type, tool, tool_name) (rate(mcp_errors_total[300s]))")
        );
        assert_eq!(query.seen, Seen::By(format!("max by ({WHO}) (timestamp(mcp_errors_total))")));
    }

    #[test]
    fn a_baseline_is_the_hour_before_the_window_and_its_companion_looks_at_that_hours_beginning() {
        let query = query(&PrometheusSignal::default(), Measure::CacheHits, Span::Before);
        assert_eq!(query.text, format!("sum by ({WHO}) (rate(mcp_cache_hits_total[3600s] offset 300s))"));
        let seen = format!("max by ({WHO}) (timestamp(mcp_cache_hits_total offset 3900s))");
        assert_eq!(query.seen, Seen::Since(seen));
    }

    #[test]
    fn gauges_add_up_or_the_worst_counts() {
        let text = |measure| query(&PrometheusSignal::default(), measure, Span::Window).text;
        assert_eq!(text(Measure::Sessions), format!("sum by ({WHO}) (mcp_sessions)"));
        assert_eq!(text(Measure::HeartbeatTime), format!("max by ({WHO}) (mcp_heartbeat_timestamp_seconds)"));
        assert_eq!(
            text(Measure::DurationQuantile),
            format!("max by ({WHO}, exported_endpoint, endpoint, quantile) (mcp_request_duration_seconds)")
        );
    }

    #[test]
    fn containers_are_asked_for_in_the_namespaces_of_servers_only_and_never_counted_twice() {
        let query = query(&PrometheusSignal::default(), Measure::CpuSeconds, Span::Window);
        assert_eq!(
            query.text,
            "max by (namespace, kubernetes_namespace, k8s_namespace_name, pod, kubernetes_pod_name, pod_name, \
             k8s_pod_name, replica, prometheus_replica, prometheus, __replica__, container, container_name, \
             k8s_container_name) \
             (rate(container_cpu_usage_seconds_total{namespace=~\"mcp|a\\\\.b\",container!=\"\",container!=\"POD\"}[120s]))"
        );
        let many: Vec<String> = (0..51).map(|number| format!("n{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let all = queries(&PrometheusSignal::default(), &many);
        let memory = all.iter().find(|one| one.measure == Measure::WorkingSet).unwrap();
        assert!(
            memory.text.ends_with("(container_memory_working_set_bytes{container!=\"\",container!=\"POD\"})")
        );
        let requests = all.iter().find(|one| one.measure == Measure::Requests).unwrap();
        assert!(!requests.text.contains('{'), "no label is certain to be there");
    }

    #[test]
    fn what_is_called_otherwise_is_asked_for_by_that_name_alone() {
        let mapped = PrometheusSignal {
            window: mcp_health_api::Duration::from_mins(2),
            metrics: vec![MetricName { measure: Measure::ToolCalls, name: "calls".to_owned() }],
            labels: vec![
                LabelName { label: Label::Tool, name: "what".to_owned() },
                LabelName { label: Label::Namespace, name: "ns".to_owned() },
            ],
            ..PrometheusSignal::default()
        };
        let text = query(&mapped, Measure::ToolCalls, Span::Window).text;
        assert!(text.starts_with("sum by (ns, pod, "), "{text}");
        let end = ", job, replica, prometheus_replica, prometheus, __replica__, what) (rate(calls[120s]))";
        assert!(text.ends_with(end), "{text}");
        let memory = query(&mapped, Measure::WorkingSet, Span::Window).text;
        assert!(memory.contains("{ns=~\"mcp|a\\\\.b\","), "{memory}");
    }

    #[test]
    fn replicas_of_a_prometheus_are_told_apart_by_the_labels_that_a_policy_names_or_by_none() {
        for (own, end) in [(vec!["ha"], "job, ha) (mcp_sessions)"), (vec![], "job) (mcp_sessions)")] {
            let labels = Some(own.into_iter().map(str::to_owned).collect());
            let signal = PrometheusSignal { replica_labels: labels, ..PrometheusSignal::default() };
            let text = query(&signal, Measure::Sessions, Span::Window).text;
            assert!(text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn a_query_of_ones_own_replaces_the_built_in_ones_and_has_no_baseline() {
        let own = OwnQuery { measure: Measure::Requests, promql: "sum(rate(x[1m]))".to_owned() };
        let signal = PrometheusSignal { queries: vec![own], ..PrometheusSignal::default() };
        let all = queries(&signal, &[]);
        let requests: Vec<_> = all.iter().filter(|one| one.measure == Measure::Requests).collect();
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].text.as_str(), &requests[0].seen), ("sum(rate(x[1m]))", &Seen::Evaluation));
        assert!(requests[0].own);
    }

    #[test]
    fn only_a_plain_selector_tells_when_it_was_sampled() {
        for plain in ["up", "a:b", " x{}", r#"x{a="}{\"",b=~'c#'}"#, "x{a=`\\`}"] {
            assert!(is_plain_selector(plain), "{plain}");
        }
        for other in [
            "",
            "1",
            "x + y",
            "x[5m]",
            "x offset 5m",
            "x{a=\"b\"} or y{}",
            "rate(x[5m])",
            "x{a=\"b}",
            "{a=\"b\"}",
        ] {
            assert!(!is_plain_selector(other), "{other}");
        }
    }
}
