//! The policy's own rules: what becomes an incident, when, and what is done about it; and with them, how what lasts
//! is told from what comes and goes.

use std::sync::LazyLock;

use mcp_health_api::{
    ActionType, ConditionType, Decimal, Incident, IncidentType, McpServerHealth, McpServerHealthSpec,
    McpServerHealthStatus, Mode, Outcome,
};
use mcp_health_core::{
    catalogue::CATALOGUE,
    report,
    signals::{Reading, RuleReading},
};

use crate::support::{
    history::RULE,
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    watches::{Sight, Source},
    world::{Template, World},
};

/// Two pods that are well, and a policy without rules.
fn well() -> Scene {
    static WELL: LazyLock<Scene> = LazyLock::new(|| {
        let mut operator = Operator::new(World::with(Template::Good, 2), policy::enforcing());
        operator.run(120, 1);
        Scene::of(&operator)
    });
    WELL.clone()
}

/// A rule that holds above 100 after so many seconds, and its runbook.
fn backlog(spec: McpServerHealthSpec, seconds: u32, steps: &[Option<ActionType>]) -> McpServerHealthSpec {
    policy::with_rule(spec, RULE, "100", seconds, steps)
}

/// Two pods, and a rule whose value is well below its number.
fn watching(seconds: u32, steps: &[Option<ActionType>]) -> Operator {
    let mut world = World::with(Template::Good, 2);
    world.answer(RULE, 3.0);
    let mut operator = Operator::new(world, backlog(policy::enforcing(), seconds, steps));
    operator.run(120, 1);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    operator
}

fn incident(status: &McpServerHealthStatus) -> Option<&Incident> {
    status.incidents.iter().find(|incident| incident.rule.as_deref() == Some(RULE))
}

/// Runs until the rule's incident is open; how long that took.
fn opened_after(operator: &mut Operator, limit: i64) -> i64 {
    let start = operator.world.now;
    operator.run_until("opened", limit, |status| incident(status).is_some());
    operator.world.now - start
}

fn signals_available(status: &McpServerHealthStatus) -> (&str, &str) {
    let kind = ConditionType::SignalsAvailable.to_string();
    let condition = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
    (&condition.status, &condition.message)
}

#[test]
fn a_value_beyond_the_number_is_found_one_within_is_clear_and_anything_else_is_unknown() {
    type Values = Result<Vec<(&'static str, f64)>, &'static str>;
    type Row = (&'static str, (Option<&'static str>, Option<&'static str>), Values, i64, &'static str);
    let (above, below) = (|text| (Some(text), None), |text| (None, Some(text)));
    let rows: &[Row] = &[
        ("above", above("100"), Ok(vec![("", 100.1)]), 0, "Found"),
        ("as much", above("100"), Ok(vec![("", 100.0)]), 0, "Clear"),
        ("less", above("100"), Ok(vec![("", 3.0)]), 0, "Clear"),
        ("one of two", above("100"), Ok(vec![("a", 3.0), ("b", 300.0)]), 0, "Found"),
        ("below zero", below("-0.5"), Ok(vec![("", -0.6)]), 0, "Found"),
        ("not below zero", below("-0.5"), Ok(vec![("", 0.0)]), 0, "Clear"),
        ("zero is below one", below("1"), Ok(vec![("", 0.0)]), 0, "Found"),
        ("no value", below("1"), Ok(vec![]), 0, "Unknown"),
        ("an error", above("100"), Err("parse error"), 0, "Unknown"),
        ("no number", above("100"), Ok(vec![("", f64::NAN)]), 0, "Unknown"),
        ("infinity is no number", above("100"), Ok(vec![("", f64::INFINITY)]), 0, "Unknown"),
        ("partly a number, and well", above("100"), Ok(vec![("a", 3.0), ("b", f64::NAN)]), 0, "Unknown"),
        ("partly a number, and not", above("100"), Ok(vec![("a", 300.0), ("b", f64::NAN)]), 0, "Found"),
        ("two minutes old", above("100"), Ok(vec![("", 300.0)]), 120, "Found"),
        ("older", above("100"), Ok(vec![("", 300.0)]), 121, "Unknown"),
        ("older, and well", above("100"), Ok(vec![("", 3.0)]), 121, "Unknown"),
        ("a policy without a number", above("many"), Ok(vec![("", 3.0)]), 0, "Unknown"),
        ("a policy with NaN", below("NaN"), Ok(vec![("", 3.0)]), 0, "Unknown"),
        ("a policy with two", (Some("1"), Some("2")), Ok(vec![("", 3.0)]), 0, "Unknown"),
        ("a policy with none", (None, None), Ok(vec![("", 3.0)]), 0, "Unknown"),
    ];
    for (what, (above, below), values, age, expected) in rows {
        let mut scene = well();
        scene.spec = backlog(scene.spec, 0, &[]);
        let decimal = |text: Option<&str>| text.map(|text| Decimal(text.to_owned()));
        (scene.spec.rules[0].above, scene.spec.rules[0].below) = (decimal(*above), decimal(*below));
        let values = values.clone().map_err(str::to_owned);
        let values = values.map(|all| all.into_iter().map(|(of, value)| (of.to_owned(), value)).collect());
        let reading = RuleReading { name: RULE.to_owned(), values, at: moment(scene.now - age) };
        scene.signals.rules = Reading::Fresh(vec![reading]);
        assert_eq!(verdict(&scene), *expected, "{what}");
    }
}

fn verdict(scene: &Scene) -> &'static str {
    let diagnosis = scene.concluded().diagnosis;
    if diagnosis.findings.iter().any(|finding| finding.rule.as_deref() == Some(RULE)) {
        "Found"
    } else if diagnosis.clear_rules.iter().any(|rule| rule == RULE) {
        "Clear"
    } else {
        "Unknown"
    }
}

#[test]
fn a_rule_that_nobody_answers_is_unknown_and_a_server_scaled_to_zero_has_none() {
    let with = |rules| {
        well().with(|scene| {
            scene.spec = backlog(scene.spec.clone(), 0, &[]);
            scene.signals.rules = rules;
        })
    };
    let reading = |name: &str| RuleReading {
        name: name.to_owned(),
        values: Ok(vec![(String::new(), 300.0)]),
        at: moment(well().now),
    };
    assert_eq!(verdict(&with(Reading::Off)), "Unknown");
    assert_eq!(verdict(&with(Reading::Unavailable("no Prometheus".to_owned()))), "Unknown");
    let stale = Reading::Stale { value: vec![reading(RULE)], at: moment(well().now) };
    assert_eq!(verdict(&with(stale)), "Unknown");
    assert_eq!(verdict(&with(Reading::Fresh(vec![reading("Another")]))), "Unknown");
    let fresh = Reading::Fresh(vec![reading(RULE)]);
    assert_eq!(verdict(&with(fresh.clone())), "Found");
    assert_eq!(verdict(&with(fresh).with(|scene| scene.target().desired = 0)), "Clear");
}

#[test]
fn the_evidence_names_the_worst_values_the_number_and_the_query() {
    let mut scene = well();
    scene.spec = backlog(scene.spec, 300, &[]);
    let labels = |at: u8| format!("queue=\"q{at}\"");
    let values = (0..7_u8).map(|at| (labels(at), 100.0 * f64::from(at))).collect();
    scene.signals.rules = Reading::Fresh(vec![RuleReading {
        name: RULE.to_owned(),
        values: Ok(values),
        at: moment(scene.now),
    }]);
    scene.status.pending = scene.concluded().story.pending;
    assert_eq!(scene.status.pending.len(), 1);
    scene.now += 300;
    let Reading::Fresh(rules) = &mut scene.signals.rules else { panic!() };
    rules[0].at = moment(scene.now);
    let story = scene.concluded().story;
    let incident = story.primary().unwrap();
    assert_eq!(incident.since.0, moment(scene.now - 300));
    assert_eq!(
        incident.evidence,
        [
            "queue=\"q6\": 600 is above 100 for 5m",
            "queue=\"q5\": 500 is above 100 for 5m",
            "queue=\"q4\": 400 is above 100 for 5m",
            "queue=\"q3\": 300 is above 100 for 5m",
            "and 1 value besides",
            "query: sum by (namespace, service) (mcp_queuebacklog)",
        ]
    );
}

#[test]
fn it_is_an_incident_of_the_rules_name_mended_by_the_rules_runbook() {
    let mut operator = watching(30, &[Some(ActionType::RolloutRestart)]);
    operator.world.answer(RULE, 120.0);
    assert_eq!(opened_after(&mut operator, 60), 31, "half a minute after it was seen");
    let status = operator.status();
    let opened = incident(&status).unwrap();
    assert_eq!((opened.incident_type, opened.name().as_str()), (IncidentType::Rule, RULE));
    assert!(opened.id.starts_with("queuebacklog-"), "{}", opened.id);
    assert!(status.summary.as_ref().unwrap().starts_with("QueueBacklog (OwnRule) since "), "{status:#?}");
    let told = report::news(&McpServerHealthStatus::default(), &status);
    assert!(told[0].note.starts_with("QueueBacklog (OwnRule), SEV3: QueueBacklog: 120 is above 100 for 30s"));
    operator.run_until("acted", 5, McpServerHealthStatus::is_acting);
    operator.world.answer(RULE, 3.0);
    operator.run_until("resolved", 1200, |status| status.incidents.is_empty());
    let status = operator.status();
    assert_eq!(status.history[0].name(), RULE);
    assert_eq!(status.history[0].resolution, "RolloutRestart helped");
    assert_eq!(status.last_action.unwrap().outcome, Some(Outcome::Improved));
}

#[test]
fn what_its_query_looks_back_over_is_waited_for_and_no_longer() {
    for (query, seconds) in [("mcp_sessions", 60), ("rate(mcp_errors_total[2m])", 180)] {
        let mut operator = watching(0, &[Some(ActionType::RolloutRestart)]);
        // What another rule looks back over is that rule's.
        operator.declare(|spec| {
            *spec = policy::with_rule(spec.clone(), "Daily", "1", 0, &[]);
            spec.rules[0].promql = query.to_owned();
            spec.rules[1].promql = "increase(mcp_errors_total[1d])".to_owned();
        });
        operator.world.answer("Daily", 0.0);
        operator.world.answer(RULE, 120.0);
        operator.run_until("acted", 30, McpServerHealthStatus::is_acting);
        operator.world.answer(RULE, 3.0);
        operator.run_until("resolved", 1200, |status| status.incidents.is_empty());
        let ready = operator.world.pods.iter().map(|pod| pod.ready_changed).max().unwrap();
        assert_eq!(operator.world.now - ready, seconds, "{query}");
    }
}

#[test]
fn the_next_step_waits_for_what_the_rules_own_query_looks_back_over() {
    let steps = [Some(ActionType::RolloutRestart), Some(ActionType::RolloutRestart)];
    let mut operator = watching(0, &steps);
    operator.declare(|spec| spec.limits.cooldown = mcp_health_api::Duration::from_secs(0));
    operator.world.answer(RULE, 120.0);
    operator.run_until("acted", 30, McpServerHealthStatus::is_acting);
    let first = operator.world.now;
    // Its deadline: the rollout's two minutes, a quarter of a minute to settle, and a scrape.
    operator.run_until("again", 600, |status| incident(status).is_some_and(|one| one.attempts.len() == 2));
    assert_eq!(operator.world.now - first, 120 + 15 + 60);
}

#[test]
fn a_step_that_recycles_takes_the_pod_that_the_worst_value_names() {
    let mut operator = watching(0, &[Some(ActionType::RecyclePod)]);
    let pods: Vec<_> = operator.world.pods.iter().map(|pod| pod.name.clone()).collect();
    let values = vec![(format!("pod=\"{}\"", pods[0]), 150.0), (format!("pod=\"{}\"", pods[1]), 900.0)];
    operator.world.rules.insert(RULE.to_owned(), Ok(values));
    operator.run_until("evicted", 30, |status| status.last_action.is_some());
    let evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.as_str()).collect();
    assert_eq!(evicted, [&pods[1]]);
    // One whose values name no pod is a person's.
    let mut operator = watching(0, &[Some(ActionType::RecyclePod)]);
    operator.world.answer(RULE, 120.0);
    operator.run_until("escalated", 30, |status| {
        incident(status)
            .and_then(|one| one.escalation.as_ref())
            .is_some_and(|why| why.reason == "NoPodToRecycle")
    });
}

#[test]
fn a_rule_without_a_runbook_is_a_persons_at_once() {
    let mut operator = watching(0, &[]);
    operator.world.answer(RULE, 120.0);
    operator.run_until("escalated", 30, |status| {
        let escalation = incident(status).and_then(|one| one.escalation.as_ref());
        escalation.is_some_and(|why| why.message == "rule QueueBacklog names no action: see the evidence")
    });
}

#[test]
fn the_catalogues_findings_are_nearer_to_the_root() {
    let mut operator = watching(0, &[Some(ActionType::RolloutRestart)]);
    operator.declare(|spec| spec.mode = Mode::Observe);
    operator.world.answer(RULE, 120.0);
    operator.run(30, 1);
    assert_eq!(operator.status().incidents[0].rule.as_deref(), Some(RULE));
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("crashes", 120, |status| status.incidents.len() > 1);
    let status = operator.status();
    assert_eq!(status.incidents[0].incident_type, IncidentType::CrashLoop);
    assert_eq!(incident(&status).unwrap().caused_by.as_ref(), Some(&status.incidents[0].id));
}

#[test]
fn a_rule_that_is_removed_takes_its_incident_with_it_and_no_other() {
    let mut operator = watching(0, &[None]);
    operator.declare(|spec| *spec = policy::with_rule(spec.clone(), "Slow", "1", 0, &[None]));
    operator.world.answer(RULE, 120.0);
    operator.world.answer("Slow", 2.0);
    operator.run_until("both", 30, |status| status.incidents.len() == 2);
    // Also while nothing can be seen: it is the policy that has changed.
    operator.watches.set(&operator.world, Source::Pods, Sight::Gone);
    operator.declare(|spec| spec.rules.retain(|rule| rule.name != RULE));
    operator.run(2, 1);
    let status = operator.status();
    assert_eq!(status.history[0].name(), RULE);
    assert_eq!(status.history[0].resolution, "the rule was removed from the policy");
    let left: Vec<_> = status.incidents.iter().map(Incident::name).collect();
    assert_eq!(left, ["Slow"]);
}

#[test]
fn what_a_removed_rule_began_is_not_left_half_done() {
    let mut operator = watching(0, &[Some(ActionType::DrainAndRestart)]);
    operator.declare(|spec| {
        let rules = std::mem::take(&mut spec.rules);
        *spec = policy::with_all_actions(spec.clone());
        spec.rules = rules;
    });
    operator.world.answer(RULE, 120.0);
    operator.run_until("drained", 30, |status| {
        incident(status).and_then(Incident::open_attempt).is_some_and(mcp_health_api::Attempt::has_begun)
    });
    operator.declare(|spec| spec.rules.clear());
    operator.run(5, 1);
    let status = operator.status();
    assert!(status.incidents[0].open_attempt().is_some(), "the drained pods are not left alone: {status:#?}");
    operator.run_until("closed", 300, |status| status.incidents.is_empty());
    let status = operator.status();
    assert_eq!(status.history[0].resolution, "the rule was removed from the policy");
    let done: Vec<_> = operator.world.done.iter().map(|done| done.effect).collect();
    assert!(done.contains(&mcp_health_api::Effect::RestartPods), "{done:?}");
}

#[test]
fn what_a_removed_rule_did_for_a_time_is_still_taken_back() {
    let mut operator = watching(0, &[Some(ActionType::SetEnv)]);
    operator.declare(|spec| {
        let rules = std::mem::take(&mut spec.rules);
        *spec = policy::with_all_actions(spec.clone());
        spec.rules = rules;
    });
    operator.world.answer(RULE, 120.0);
    operator.run_until("set", 30, McpServerHealthStatus::is_acting);
    operator.world.answer(RULE, 3.0);
    operator.run_until("mitigated", 1200, |status| incident(status).is_some_and(Incident::is_mitigated));
    let template = |operator: &Operator| operator.world.deployment.as_ref().unwrap().template.clone();
    let edited = template(&operator);
    operator.declare(|spec| spec.rules.clear());
    operator.run_until("taken back", 4 * 3600, |status| status.incidents.is_empty());
    assert_ne!(template(&operator), edited);
    assert_eq!(operator.status().history[0].done(), "SetEnv: Improved, SetEnv: Improved");
}

#[test]
fn a_rule_whose_query_fails_or_answers_nothing_is_named_by_the_condition() {
    let mut operator = watching(0, &[]);
    assert_eq!(signals_available(&operator.status()).0, "True");
    operator.world.rules.insert(RULE.to_owned(), Err("1:4: parse error: unexpected end of input".to_owned()));
    operator.run(2, 1);
    let expected = "rule QueueBacklog: 1:4: parse error: unexpected end of input";
    assert_eq!(signals_available(&operator.status()), ("False", expected));
    let writes = operator.looks.iter().filter(|look| look.wrote).count();
    operator.run(120, 1);
    assert_eq!(operator.looks.iter().filter(|look| look.wrote).count(), writes, "it stays said");
    operator.world.rules.insert(RULE.to_owned(), Ok(Vec::new()));
    operator.run(2, 1);
    let expected = "rule QueueBacklog: its query answers nothing for this server, and absent is not zero";
    assert_eq!(signals_available(&operator.status()), ("False", expected));
}

#[test]
fn it_lasts_from_the_operators_own_first_sight_on_and_over_its_restart() {
    for away in [0, 20] {
        let mut operator = watching(60, &[None]);
        operator.world.answer(RULE, 120.0);
        operator.run(31, 1);
        let since = operator.status().pending[0].since.0;
        assert_eq!(since, moment(operator.world.now - 30));
        if away > 0 {
            operator.restart(away);
        }
        assert_eq!(opened_after(&mut operator, 60), 30, "{away} s away");
        assert_eq!(incident(&operator.status()).unwrap().since.0, since);
    }
}

#[test]
fn what_cannot_be_seen_does_not_last() {
    for (source, sight) in
        [(Source::Rules, Sight::Stale), (Source::Rules, Sight::Gone), (Source::Pods, Sight::Stale)]
    {
        let mut operator = watching(60, &[None]);
        operator.world.answer(RULE, 120.0);
        operator.run(31, 1);
        operator.watches.set(&operator.world, source, sight);
        operator.run(600, 1);
        assert!(incident(&operator.status()).is_none(), "{source:?} {sight:?}: nobody saw it last");
        operator.restart(10);
        operator.run(300, 1);
        operator.watches.set(&operator.world, source, Sight::Clear);
        assert_eq!(opened_after(&mut operator, 60), 30, "{source:?} {sight:?}");
    }
}

#[test]
fn what_comes_and_goes_begins_anew_each_time_and_writes_no_more_than_that() {
    let mut operator = watching(60, &[None]);
    let writes = |operator: &Operator| operator.looks.iter().filter(|look| look.wrote).count();
    let before = writes(&operator);
    for _ in 0..10 {
        operator.world.answer(RULE, 120.0);
        operator.run(59, 1);
        assert_eq!(operator.status().pending.len(), 1);
        operator.world.answer(RULE, 3.0);
        operator.run(30, 1);
        assert!(operator.status().pending.is_empty());
    }
    assert!(operator.status().history.is_empty() && operator.status().incidents.is_empty());
    assert_eq!(writes(&operator) - before, 20, "when it comes, and when it goes");
    // Other values of what is so already are no news.
    operator.world.answer(RULE, 120.0);
    operator.run(1, 1);
    let before = writes(&operator);
    for value in 0..50 {
        operator.world.answer(RULE, 120.0 + f64::from(value));
        operator.run(1, 1);
    }
    assert_eq!(writes(&operator), before);
}

#[test]
fn all_that_may_be_open_or_may_come_has_its_place_in_the_status() {
    let crd = serde_json::to_value(<McpServerHealth as kube::CustomResourceExt>::crd()).unwrap();
    let limit = |of: &str| {
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{of}/maxItems");
        usize::try_from(crd.pointer(&path).unwrap().as_u64().unwrap()).unwrap()
    };
    let most = CATALOGUE.len() + limit("spec/properties/rules");
    assert!(most <= limit("status/properties/incidents") && most <= limit("status/properties/pending"));
}
