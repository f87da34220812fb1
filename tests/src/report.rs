//! What a person would look at first.

use std::fmt::Write;

use crate::{command::kubectl_blocking, operator::Release};

/// The policies with their stories, the pods, the events, and the operator's log.
pub fn of(namespace: &str, with_operator: bool) -> String {
    let mut report = format!("\n================ the story in namespace {namespace}");
    let looks: &[(&str, &[&str])] = &[
        ("kubectl describe mcph", &["describe", "mcph"]),
        (
            "deployments, replica sets, pods",
            &["get", "deployments,replicasets,pods", "--output=wide", "--ignore-not-found"],
        ),
        ("events", &["get", "events", "--sort-by=.metadata.creationTimestamp"]),
    ];
    for (title, words) in looks {
        let said = kubectl_blocking(&[&["--namespace", namespace], *words].concat(), "");
        let _ = write!(report, "\n=== {title}\n{}{}", said.out, said.err);
    }
    if with_operator {
        Release::of(namespace).report(&mut report);
    }
    report
}
