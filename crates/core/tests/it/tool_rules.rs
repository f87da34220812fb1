//! ToolFailing, by a table: one tool that fails is told from a server that does.

use mcp_health_api::{IncidentType::ToolFailing, Label, Measure};

use crate::support::measured::{Measured, Metrics, healthy, measured, probed, ready_for, rolled_out, words};

/// Calls of a tool, and how many of them fail, and how.
fn tool(one: Measured, name: &str, calls: f64, failed: f64, kind: &str) -> Measured {
    let one = one.with(Measure::ToolCalls, "", &[(Label::Tool, name)], calls);
    one.with(Measure::Errors, "", &[(Label::Tool, name), (Label::Type, kind)], failed)
}

/// One tool whose calls fail in this way half of the time, and one that is well.
fn half(one: Measured, kind: &str) -> Measured {
    tool(tool(one, "search", 40.0, 20.0, kind), "fetch", 50.0, 0.0, "x")
}

fn fails(one: Measured, of: f64, failed: f64) -> Measured {
    tool(tool(one, "search", of, failed, "tool_error"), "fetch", 50.0, 0.0, "tool_error")
}

#[test]
fn one_tool_that_fails_is_told_from_a_server_that_does() {
    let rows: &[(&str, Metrics, &str)] = &[
        ("all well", |one, _| fails(one, 50.0, 0.0), "Clear"),
        ("at the threshold", |one, _| fails(one, 40.0, 10.0), "Clear"),
        ("one fails", |one, _| fails(one, 40.0, 11.0), "SEV3 ToolErrors"),
        ("of nine calls", |one, _| fails(one, 9.0, 9.0), "Unknown"),
        ("of ten", |one, _| fails(one, 10.0, 10.0), "SEV3 ToolErrors"),
        ("both fail", |one, _| tool(tool(one, "a", 40.0, 20.0, "x"), "b", 50.0, 50.0, "x"), "Unknown"),
        (
            "two fail and two are well",
            |one, _| {
                let one = tool(tool(one, "a", 40.0, 20.0, "x"), "b", 50.0, 50.0, "x");
                tool(tool(one, "c", 40.0, 0.0, "x"), "d", 50.0, 0.0, "x")
            },
            "SEV3 ToolErrors",
        ),
        ("the only one fails", |one, _| tool(one, "a", 40.0, 20.0, "x"), "Unknown"),
        (
            "nobody calls the others",
            |one, _| tool(tool(one, "a", 40.0, 20.0, "x"), "b", 0.0, 0.0, "x"),
            "Unknown",
        ),
        ("it is not there", |one, _| half(one, "not_found"), "SEV3 ToolNotFound"),
        ("its arguments", |one, _| half(one, "validation_error"), "SEV3 ToolArguments"),
        ("its time", |one, _| half(one, "timeout"), "SEV3 ToolTimeout"),
        ("its database", |one, _| half(one, "database_error"), "SEV3 ToolDependency"),
        ("something it needs", |one, _| half(one, "network_unavailable"), "SEV3 ToolDependency"),
        (
            "calls are not counted",
            |one, _| one.with(Measure::Errors, "", &[(Label::Tool, "search")], 100.0),
            "Unknown",
        ),
        (
            "the errors could not be asked for",
            |one, _| fails(one, 40.0, 0.0).missing(Measure::Errors),
            "Unknown",
        ),
        ("old values", |one, _| half(one, "x").aged(121), "Unknown"),
    ];
    for (what, metrics, wanted) in rows {
        let mut scene = measured(healthy(), *metrics);
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, ToolFailing), *wanted, "{what}");
    }
    assert_eq!(words(&measured(rolled_out(), |one, _| half(one, "x")), ToolFailing), "SEV3 BadRollout");
}

#[test]
fn the_tool_that_failed_may_be_the_one_that_nobody_calls_any_more() {
    let mut scene = measured(healthy(), |one, _| half(one, "x"));
    let mut open = crate::support::scene::Scene::bad_rollout().open_incident().clone();
    (open.incident_type, open.cause) = (ToolFailing, mcp_health_api::Cause::ToolErrors);
    scene.status.incidents = vec![open];
    let quiet: Metrics = |one, _| fails(one, 0.0, 0.0);
    let mut scene = measured(scene, quiet);
    ready_for(&mut scene, 20);
    assert_eq!(words(&scene, ToolFailing), "Unknown");
    probed(&mut scene, true);
    assert_eq!(words(&scene, ToolFailing), "Clear");
    let again: Metrics = |one, _| fails(one, 20.0, 0.0);
    scene.signals.probes = mcp_health_core::signals::Reading::Off;
    let mut scene = measured(scene, again);
    ready_for(&mut scene, 20);
    assert_eq!(words(&scene, ToolFailing), "Clear");
}
