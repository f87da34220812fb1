//! Invariant 8: whatever stands in a status or is seen, nothing panics.

use std::sync::LazyLock;

use mcp_health_api::McpServerHealthStatus;
use mcp_health_core::{
    report,
    signals::{Reading, Signals},
};
use proptest::prelude::*;

use crate::support::{
    garbage::{databases, statuses},
    moment,
    operator::Operator,
    policy,
    world::{Template, World},
};

/// A server with a bad rollout that is being taken back, from its start to its end.
static STORY: LazyLock<Vec<Signals>> = LazyLock::new(|| {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(60, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run(60, 1);
    operator.world.service_astray = true;
    operator.run(60, 1);
    operator.world.dependency_down = true;
    operator.run(90, 1);
    operator.looks.into_iter().map(|look| look.signals).collect()
});

/// The digests of the first two templates.
fn digests() -> Vec<String> {
    let mut known: Vec<String> =
        STORY.iter().filter_map(|signals| Some(signals.target.fresh()?.as_ref()?.template.clone())).collect();
    known.sort();
    known.dedup();
    assert_eq!(known.len(), 2);
    known
}

/// Numbers that no sane object holds.
fn disturb(signals: &mut Signals, number: i64, seconds: i64) {
    let small = i32::try_from(number.clamp(i64::from(i32::MIN), i64::from(i32::MAX))).unwrap();
    if let mcp_health_core::signals::Reading::Fresh(Some(target)) = &mut signals.target {
        target.desired = small;
        target.progress_deadline = jiff::SignedDuration::from_secs(number);
        target.startup_budget = jiff::SignedDuration::from_secs(number);
        target.generation = number;
    }
    if let mcp_health_core::signals::Reading::Fresh(pods) = &mut signals.pods {
        for pod in pods {
            pod.created = moment(seconds);
            for container in &mut pod.containers {
                container.restarts = small;
            }
        }
    }
}

/// What a database tells is judged with nothing else in the way of an action.
fn judge_database(database: mcp_health_core::signals::Database) {
    let spec = policy::with_database(policy::with_all_actions(policy::enforcing()));
    let mut operator = Operator::new(World::with(Template::Good, 3), spec);
    operator.run(60, 5);
    let mut signals = operator.watches.look(&operator.world);
    signals.database = Reading::Fresh(database);
    for _ in 0..4 {
        operator.world.now += 40;
        operator.look_at(&signals);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_database_tells_makes_it_panic(database in databases()) {
        judge_database(database);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_status_and_no_number_makes_it_panic(
        (status, other) in (statuses(&digests()), statuses(&digests())),
        place in any::<prop::sample::Index>(),
        numbers in prop::option::of((any::<i64>(), -100_000_i64..100_000)),
        limits in (0_u32..3, 0_u32..3, 0_u32..100_000),
        database in prop::option::of(databases()),
    ) {
        let mut signals = STORY[place.index(STORY.len())].clone();
        if let Some((number, seconds)) = numbers {
            disturb(&mut signals, number, seconds);
        }
        if let Some(database) = database {
            signals.database = Reading::Fresh(database);
        }
        let spec = policy::with_database(policy::with_all_actions(policy::enforcing()));
        let mut operator = Operator::new(World::with(Template::Good, 3), policy::with_cooldown(spec, limits.2));
        operator.declare(|spec| {
            (spec.limits.max_attempts, spec.limits.max_actions_per_hour) = (limits.0, limits.1);
        });
        operator.world.now = 200;
        operator.overwrite_status(&status);
        for pause in [0, 1, 20, 3600, 86_400] {
            operator.world.now += pause;
            operator.look_at(&signals);
        }
        let after: McpServerHealthStatus = operator.status();
        let _ = report::news(&status, &after);
        let _ = report::news(&other, &status);
    }
}
