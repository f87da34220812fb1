//! Random histories: what people, faults and crashes do to a server and its operator, and when.

use mcp_health_api::{ActionType, IncidentType, Mode, RollbackPolicy};
use mcp_health_core::{Fleet, actions::ACTIONS};
use proptest::prelude::*;

use super::{
    operator::{Crash, Operator},
    policy,
    postgres::Postgres,
    watches::{QUEUE, SOURCES, Sight, Source},
    world::{Template, World},
};

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    RollOut(Template),
    Undo,
    RestartByAPerson,
    Scale(i32),
    Pause(bool),
    Quota(bool),
    NoRoom(bool),
    DependencyDown(bool),
    ServiceAstray(bool),
    KillAPod,
    WedgeAPod,
    OpenACircuit,
    CircuitsStick(bool),
    Unanswered(bool),
    Leak(usize),
    SessionsGoOn,
    CrowdedDatabase(bool),
    LockedDatabase(bool),
    DamagedDatabase(bool),
    Recreate(Template),
    RecreateTheObject,
    Watch(Source, Sight),
    AllWatchesClear,
    ModeEnforce(bool),
    Suspend(bool),
    ClusterSwitch(bool),
    RollbackNever(bool),
    OnlyRestarts(bool),
    GitOps(bool),
    OthersAct(bool),
    Rival(bool),
    HooksFail(bool),
    JobsFail(bool),
    EvictionsRefused(bool),
    Report(bool),
    RuleHolds(bool),
    Silent(bool),
    Crowded(bool),
    RuleUnanswered,
    RuleRemoved(bool),
    Crash(Crash),
    RestartOperator(i64),
}

/// A server, its policy, and what happens, with the seconds before each.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a choice of its own.
pub struct History {
    pub first: Template,
    pub desired: i32,
    pub recreates: bool,
    pub cooldown: u32,
    pub max_attempts: u32,
    pub max_actions_per_hour: u32,
    /// The ladder of the object's own, where it has one.
    pub runbook: Option<Vec<ActionType>>,
    pub smoke_test: bool,
    pub probed: bool,
    /// Its metrics are seen.
    pub measured: bool,
    /// It has a database.
    pub based: bool,
    pub happenings: Vec<(i64, Happening)>,
}

fn template() -> impl Strategy<Value = Template> {
    prop_oneof![
        3 => Just(Template::Good),
        3 => Just(Template::CrashesAtOnce),
        2 => (20_i64..120).prop_map(Template::CrashesAfter),
        2 => Just(Template::NeverReady),
        1 => (10_i64..200).prop_map(Template::ReadyAfter),
        1 => Just(Template::NoImage),
        1 => (10_i64..200).prop_map(Template::InitTakes),
        1 => Just(Template::GateUnset),
    ]
}

/// What is in the way goes away more often than it comes.
fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.3)
}

fn happening() -> impl Strategy<Value = Happening> {
    let source = prop::sample::select(SOURCES.to_vec());
    let sight = prop_oneof![1 => Just(Sight::Stale), 1 => Just(Sight::Gone), 2 => Just(Sight::Clear)];
    let crash = prop_oneof![
        Just(Crash::Unrecorded),
        Just(Crash::Undone),
        Just(Crash::HalfDone),
        Just(Crash::Unnoted)
    ];
    prop_oneof![
        12 => template().prop_map(Happening::RollOut),
        2 => Just(Happening::Undo),
        1 => Just(Happening::RestartByAPerson),
        2 => (0_i32..5).prop_map(Happening::Scale),
        1 => seldom().prop_map(Happening::Pause),
        1 => seldom().prop_map(Happening::Quota),
        1 => seldom().prop_map(Happening::NoRoom),
        4 => any::<bool>().prop_map(Happening::DependencyDown),
        3 => any::<bool>().prop_map(Happening::Unanswered),
        2 => seldom().prop_map(Happening::ServiceAstray),
        2 => Just(Happening::KillAPod),
        2 => Just(Happening::WedgeAPod),
        3 => Just(Happening::OpenACircuit),
        1 => seldom().prop_map(Happening::CircuitsStick),
        4 => (1_usize..250).prop_map(Happening::Leak),
        1 => Just(Happening::SessionsGoOn),
        1 => seldom().prop_map(Happening::CrowdedDatabase),
        1 => seldom().prop_map(Happening::LockedDatabase),
        1 => prop::bool::weighted(0.1).prop_map(Happening::DamagedDatabase),
        1 => template().prop_map(Happening::Recreate),
        2 => Just(Happening::RecreateTheObject),
        4 => (source, sight).prop_map(|(source, sight)| Happening::Watch(source, sight)),
        3 => Just(Happening::AllWatchesClear),
        1 => seldom().prop_map(|observe| Happening::ModeEnforce(!observe)),
        1 => seldom().prop_map(Happening::Suspend),
        1 => seldom().prop_map(Happening::ClusterSwitch),
        1 => seldom().prop_map(Happening::RollbackNever),
        1 => seldom().prop_map(Happening::OnlyRestarts),
        1 => seldom().prop_map(Happening::GitOps),
        1 => seldom().prop_map(Happening::OthersAct),
        1 => seldom().prop_map(Happening::Rival),
        1 => seldom().prop_map(Happening::HooksFail),
        1 => seldom().prop_map(Happening::JobsFail),
        1 => seldom().prop_map(Happening::EvictionsRefused),
        1 => seldom().prop_map(Happening::Report),
        3 => any::<bool>().prop_map(Happening::RuleHolds),
        1 => seldom().prop_map(Happening::Silent),
        2 => any::<bool>().prop_map(Happening::Crowded),
        1 => Just(Happening::RuleUnanswered),
        1 => seldom().prop_map(Happening::RuleRemoved),
        8 => crash.prop_map(Happening::Crash),
        2 => (1_i64..1200).prop_map(Happening::RestartOperator),
    ]
}

/// Any ladder. A rollback and a restart come more often: they are what it does by itself.
fn runbook() -> impl Strategy<Value = Vec<ActionType>> {
    let any = prop::sample::select(ACTIONS.iter().map(|entry| entry.action).collect::<Vec<_>>());
    let own = prop::sample::select(vec![ActionType::Rollback, ActionType::RolloutRestart]);
    prop::collection::vec(prop_oneof![1 => own, 2 => any], 1..6)
}

/// Any history of up to `most` happenings.
pub fn histories(most: usize) -> impl Strategy<Value = History> {
    let happenings =
        prop::collection::vec((prop_oneof![3 => 1_i64..40, 2 => 40_i64..400], happening()), 1..most);
    (
        prop_oneof![4 => Just(Template::Good), 1 => template()],
        1_i32..5,
        prop::bool::weighted(0.3),
        prop_oneof![Just(0_u32), 5_u32..60, Just(300)],
        1_u32..4,
        1_u32..6,
        prop::option::weighted(0.7, runbook()),
        (prop::bool::weighted(0.3), prop::bool::weighted(0.4)),
        (any::<bool>(), any::<bool>()),
        happenings,
    )
        .prop_map(
            |(
                first,
                desired,
                recreates,
                cooldown,
                max_attempts,
                max_actions_per_hour,
                runbook,
                (smoke_test, measured),
                (probed, based),
                happenings,
            )| {
                History {
                    first,
                    desired,
                    recreates,
                    cooldown,
                    max_attempts,
                    max_actions_per_hour,
                    runbook,
                    smoke_test,
                    probed,
                    measured,
                    based,
                    happenings,
                }
            },
        )
}

/// The policy's own rule.
pub const RULE: &str = "QueueBacklog";
/// Seconds between two looks at the clock.
const STEP: i64 = 3;

impl History {
    fn policy(&self) -> mcp_health_api::McpServerHealthSpec {
        let mut spec = policy::with_cooldown(policy::enforcing(), self.cooldown);
        spec.limits.max_attempts = self.max_attempts;
        spec.limits.max_actions_per_hour = self.max_actions_per_hour;
        spec = policy::with_dependency(policy::with_all_actions(spec), QUEUE, "rabbitmq.mcp:5672");
        if self.based {
            spec = policy::with_database(spec);
        }
        if self.smoke_test {
            spec = policy::with_smoke_test(spec);
        }
        let ladder: Vec<_> = self.runbook.iter().flatten().copied().map(Some).collect();
        spec = policy::with_rule(spec, RULE, "100", 20, &ladder);
        if self.runbook.is_some() {
            for incident in
                [IncidentType::CrashLoop, IncidentType::ServiceNotResponding, IncidentType::RolloutStuck]
            {
                spec = policy::with_runbook(spec, incident, &ladder);
            }
        }
        spec
    }

    /// Lives through it.
    pub fn live(&self) -> Operator {
        let mut world = World::with(self.first, self.desired);
        world.answer(RULE, 3.0);
        world.measured = self.measured;
        world.deployment.as_mut().unwrap().recreate = self.recreates;
        world.probed = self.probed;
        world.postgres = self.based.then(Postgres::default);
        let mut operator = Operator::new(world, self.policy());
        operator.run(100, STEP);
        for (pause, happening) in &self.happenings {
            self.let_happen(&mut operator, *happening);
            operator.run(*pause, STEP);
        }
        operator
    }

    fn let_happen(&self, operator: &mut Operator, happening: Happening) {
        let world = &mut operator.world;
        match happening {
            Happening::RollOut(template) => drop(world.roll_out(template)),
            Happening::Undo => world.undo(),
            Happening::RestartByAPerson => world.restart(),
            Happening::Scale(desired) => world.change(|one| one.desired = desired),
            Happening::Pause(paused) => world.change(|one| one.paused = paused),
            Happening::Quota(quota) => world.quota = quota,
            Happening::NoRoom(full) => world.full = full,
            Happening::DependencyDown(down) => world.dependency_down = down,
            Happening::ServiceAstray(astray) => world.service_astray = astray,
            Happening::KillAPod => world.kill_a_pod(),
            Happening::WedgeAPod => world.wedge_a_pod(),
            Happening::OpenACircuit => world.open_a_circuit(),
            Happening::Unanswered(down) => world.unanswered = down.then_some(world.now),
            Happening::CircuitsStick(stick) => world.circuits_stick = stick,
            Happening::Leak(sessions) => world.leak(sessions),
            Happening::SessionsGoOn => world.postgres.iter_mut().for_each(Postgres::go_on),
            Happening::CrowdedDatabase(crowded) => {
                world.postgres.iter_mut().for_each(|one| one.crowded = crowded);
            }
            Happening::LockedDatabase(locked) => {
                let since = locked.then_some(world.now);
                world.postgres.iter_mut().for_each(|one| one.locked = since);
            }
            Happening::DamagedDatabase(damaged) => {
                world.postgres.iter_mut().for_each(|one| one.failures = i64::from(damaged));
            }
            Happening::Recreate(template) => {
                world.delete();
                world.create(template, self.desired);
            }
            Happening::RecreateTheObject => operator.create_object(self.policy()),
            Happening::Watch(source, sight) => operator.watches.set(&operator.world, source, sight),
            Happening::AllWatchesClear => {
                for source in SOURCES {
                    operator.watches.set(&operator.world, source, Sight::Clear);
                }
            }
            Happening::ModeEnforce(enforce) => {
                operator.declare(|spec| spec.mode = if enforce { Mode::Enforce } else { Mode::Observe });
            }
            Happening::Suspend(suspend) => operator.declare(|spec| spec.suspend = suspend),
            Happening::ClusterSwitch(thrown) => operator.watches.cluster_suspended = thrown,
            Happening::RollbackNever(never) => operator.declare(|spec| {
                spec.actions.rollback = if never { RollbackPolicy::Never } else { RollbackPolicy::Allow };
            }),
            Happening::OnlyRestarts(only) => operator.declare(|spec| {
                spec.actions.allow.retain(|action| *action != ActionType::Rollback);
                if !only {
                    spec.actions.allow.push(ActionType::Rollback);
                }
            }),
            Happening::GitOps(owned) => world.change(|one| one.gitops = owned.then(|| "Argo CD".to_owned())),
            Happening::OthersAct(act) => {
                operator.fleet = Fleet {
                    acting: act.then(|| "mcp/other".to_owned()).into_iter().collect(),
                    ..Fleet::default()
                };
            }
            Happening::Rival(rival) => operator.watches.rival = rival.then(|| "older".to_owned()),
            Happening::HooksFail(fail) => world.hooks_fail = fail,
            Happening::JobsFail(fail) => world.jobs_fail = fail,
            Happening::EvictionsRefused(refused) => world.evictions_refused = refused,
            Happening::Report(said) => {
                operator.watches.report = said.then(|| "SEV2: it hangs".to_owned());
            }
            Happening::RuleHolds(holds) => world.answer(RULE, if holds { 120.0 } else { 3.0 }),
            Happening::Silent(silent) => world.silent = silent,
            Happening::Crowded(crowded) => {
                let pods = world.pods.iter().filter(|_| crowded).map(|pod| pod.name.clone());
                world.crowded = pods.collect();
            }
            Happening::RuleUnanswered => {
                world.rules.insert(RULE.to_owned(), Ok(Vec::new()));
            }
            Happening::RuleRemoved(removed) => {
                let rules = if removed { Vec::new() } else { self.policy().rules };
                operator.declare(|spec| spec.rules = rules);
            }
            Happening::Crash(crash) => operator.crash = Some(crash),
            Happening::RestartOperator(away) => operator.restart(away),
        }
    }
}

/// Everything that was in the way is taken away, and somebody applies a template that works.
pub fn make_well(operator: &mut Operator) {
    operator.crash = None;
    for source in SOURCES {
        operator.watches.set(&operator.world, source, Sight::Clear);
    }
    operator.watches.rival = None;
    operator.watches.cluster_suspended = false;
    operator.fleet = Fleet::default();
    operator.watches.report = None;
    operator.world.answer(RULE, 3.0);
    (operator.world.silent, operator.world.crowded) = (false, Vec::new());
    let world = &mut operator.world;
    (world.wedged, world.circuits_open, world.circuits_stick) = (Vec::new(), Vec::new(), false);
    world.unanswered = None;
    if let Some(postgres) = &mut world.postgres {
        (postgres.crowded, postgres.locked, postgres.failures) = (false, None, 0);
        postgres.sessions.clear();
    }
    (world.hooks_fail, world.jobs_fail, world.evictions_refused) = (false, false, false);
    (world.quota, world.full, world.dependency_down, world.service_astray) = (false, false, false, false);
    world.change(|one| {
        one.paused = false;
        one.desired = 2;
    });
    world.roll_out(Template::Good);
}
