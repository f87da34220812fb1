//! An hour of 200 healthy servers whose metrics, probes and usage never hold still: nothing is written, and the rules
//! say the same at every tick, so that nobody is woken.

use jiff::SignedDuration;
use mcp_health_api::{Label, McpServerHealthStatus, Measure};
use mcp_health_core::{
    Case, Fleet, Settings, decide, diagnose,
    diagnose::Verdict,
    report,
    signals::{
        Database, Reading, Sample, Signals, Usage,
        database::{BlockingChain, DatabaseTable, Recent, Session, SessionCounts, SessionState, Statement},
    },
    usage::remember,
    verify,
};

use crate::support::{
    measured::Measured,
    moment,
    operator::Operator,
    policy,
    postgres::{idle, left_alone, ran, well},
    world::{Template, World},
};

const SERVERS: u32 = 200;
/// Of 15 seconds: an hour.
const TICKS: i64 = 240;

/// Numbers that look like chance, and are the same every time.
struct Chance(u64);

impl Chance {
    /// From `low` up to `high`.
    fn between(&mut self, low: u32, high: u32) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = u32::try_from(self.0 >> 33).unwrap();
        f64::from(low + drawn % (high - low + 1))
    }
}

/// What healthy pods tell this quarter of a minute.
fn metrics(now: i64, pods: &[String], chance: &mut Chance) -> Measured {
    let endpoint = (Label::Endpoint, "/mcp");
    let mut all = Measured::at(now);
    for pod in pods {
        let requests = chance.between(100, 20_000);
        let failed = (requests * chance.between(0, 20) / 1000.0).floor();
        let slow = requests * chance.between(0, 9) / 1000.0;
        let rare = |chance: &mut Chance| chance.between(0, 3);
        // Most are fast, a few take up to half a second, hardly any longer.
        for (bound, below) in [("0.1", 0.9 * requests), ("0.5", requests - slow), ("1", requests)] {
            all = all.with(Measure::DurationBucket, pod, &[(Label::Bound, bound)], below);
        }
        all = all
            .with(Measure::DurationBucket, pod, &[(Label::Bound, "+Inf")], requests)
            .answers(pod, requests - failed, failed)
            .with(Measure::Errors, pod, &[(Label::Type, "tool_error"), (Label::Tool, "search")], failed)
            .with(Measure::ToolCalls, pod, &[(Label::Tool, "search")], requests)
            .with(Measure::InvalidMessages, pod, &[(Label::Code, "-32602")], rare(chance))
            .with(Measure::RateLimited, pod, &[(Label::Client, "a")], rare(chance))
            .with(Measure::ConnectionDrops, pod, &[], rare(chance))
            .with(Measure::CacheHits, pod, &[], 0.8 * requests + chance.between(0, 10))
            .with(Measure::CacheMisses, pod, &[], 0.2 * requests)
            .with(Measure::Sessions, pod, &[], chance.between(0, 300))
            .with(Measure::IdleSessions, pod, &[], chance.between(0, 30))
            .with(Measure::DatabasePoolSize, pod, &[], 20.0)
            .with(Measure::DatabasePoolInUse, pod, &[], chance.between(0, 12))
            .with(Measure::DatabasePoolWaiters, pod, &[], 0.0)
            .with(Measure::CircuitState, pod, &[(Label::Name, "external-api")], 0.0)
            .with(Measure::HeartbeatInterval, pod, &[], 15.0);
        let beat = moment(now - 10).as_second() - 14;
        let beat = f64::from(i32::try_from(beat).unwrap()) + chance.between(0, 14);
        all = all.with(Measure::HeartbeatTime, pod, &[], beat);
        for (measure, labels, a_second) in [
            (Measure::Requests, &[endpoint, (Label::Status, "200")][..], chance.between(1, 60)),
            (Measure::Requests, &[endpoint, (Label::Status, "500")][..], 0.01),
            (Measure::Errors, &[(Label::Type, "tool_error"), (Label::Tool, "search")][..], 0.01),
            (Measure::InvalidMessages, &[(Label::Code, "-32602")][..], 0.01),
            (Measure::RateLimited, &[(Label::Client, "a")][..], 0.01),
            (Measure::ConnectionDrops, &[][..], 0.01),
            (Measure::CacheHits, &[][..], 8.0),
            (Measure::CacheMisses, &[][..], 2.0),
        ] {
            all = all.before(measure, pod, labels, a_second);
        }
    }
    all
}

/// What healthy pods use goes on, a sample a tick.
fn use_on(usage: &mut Vec<Usage>, now: i64, pods: &[String], chance: &mut Chance) {
    for pod in pods {
        if !usage.iter().any(|one| &one.pod == pod) {
            let samples = Vec::new();
            usage.push(Usage { pod: pod.clone(), container: "server".to_owned(), samples });
        }
    }
    for one in usage {
        #[allow(clippy::cast_possible_truncation)]
        let (cpu, memory) = (chance.between(50, 300) as i64, chance.between(100, 120) as i64);
        remember(&mut one.samples, Sample { at: moment(now), cpu, memory: memory << 20 });
    }
}

/// What a database tells in which all is well: its sessions come and go, and some are in a transaction for a while.
fn database(now: i64, signals: &Signals, chance: &mut Chance) -> Database {
    let clients = signals.pods.fresh().into_iter().flatten().filter_map(|pod| pod.address);
    let clients: Vec<_> = clients.collect();
    #[allow(clippy::cast_possible_truncation)]
    let mut number = |low, high| chance.between(low, high) as i64;
    let sessions: Vec<Session> = (0..4)
        .map(|one| {
            let (pid, client) = (100 + one, clients[usize::try_from(one).unwrap() % clients.len()]);
            match number(0, 2) {
                0 => left_alone(pid, now - number(0, 240), client),
                1 => idle(pid, now - number(0, 7200), client),
                _ => Session { state: SessionState::Active, ..left_alone(pid, now - number(0, 900), client) },
            }
        })
        .collect();
    let waits = SignedDuration::from_secs(number(0, 59));
    let chain =
        BlockingChain { root: sessions[0].clone(), waiting: vec![(sessions[1].clone(), waits)], count: 1 };
    let statement = Statement {
        calls: number(1, 1 << 20),
        mean_ms: chance.between(1, 1500),
        recent: Some(Recent { mean_ms: chance.between(1, 999), ..ran(9.0) }),
        ..Statement::default()
    };
    #[allow(clippy::cast_possible_truncation)]
    let mut number = |low, high| chance.between(low, high) as i64;
    Database {
        connections: number(8, 80),
        counts: SessionCounts { total: number(4, 40), active: number(0, 4), ..SessionCounts::default() },
        chains: vec![chain],
        statements: Reading::Fresh(vec![statement]),
        calls: Some(now * 1000),
        cache: Some((number(1, 1 << 20), 1 << 20)),
        tables: vec![DatabaseTable {
            name: "public.orders".to_owned(),
            dead_rows: number(0, 1 << 20),
            ..DatabaseTable::default()
        }],
        oldest_transaction: sessions.first().cloned(),
        sessions,
        ..well(now)
    }
}

fn vary(signals: &mut Signals, usage: &mut Vec<Usage>, now: i64, chance: &mut Chance) {
    let pods: Vec<String> = signals.pods.fresh().into_iter().flatten().map(|pod| pod.name.clone()).collect();
    use_on(usage, now, &pods, chance);
    signals.usage = Reading::Fresh(usage.clone());
    signals.metrics = Reading::Fresh(metrics(now, &pods, chance).metrics);
    signals.database = Reading::Fresh(database(now, signals, chance));
    if let Reading::Fresh(probed) = &mut signals.probes {
        for result in probed.iter_mut().flat_map(|one| &mut one.results) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let millis = chance.between(1, 900) as u64;
            result.millis = millis;
        }
    }
}

#[test]
fn healthy_servers_whose_values_change_are_not_written_and_wake_nobody() {
    let threads = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap();
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                (first..SERVERS).step_by(usize::try_from(threads).unwrap()).for_each(live_through_an_hour);
            });
        }
    });
}

fn live_through_an_hour(number: u32) {
    let mut world = World::with(Template::Good, 1 + i32::try_from(number % 3).unwrap());
    world.probed = true;
    let mut operator = Operator::new(world, policy::with_database(policy::enforcing()));
    operator.run(150, 5);
    let settled = operator.status();
    assert!(settled.incidents.is_empty() && settled.pending.is_empty(), "{settled:#?}");
    let (mut chance, mut usage) = (Chance(u64::from(number)), Vec::new());
    let (mut first, mut verdict) = (None, None);
    for tick in 0..TICKS {
        operator.world.tick(15);
        let mut signals = operator.watches.look(&operator.world);
        vary(&mut signals, &mut usage, operator.world.now, &mut chance);
        let (status, said, next) = look(&operator, &settled, &signals);
        if tick == 0 {
            // As it is read back.
            let read = serde_json::from_value(serde_json::to_value(&status).unwrap());
            assert_eq!(settled, read.unwrap(), "server {number}");
        }
        assert_eq!(*first.get_or_insert_with(|| status.clone()), status, "server {number}, tick {tick}");
        assert_eq!(*verdict.get_or_insert_with(|| said.clone()), said, "server {number}, tick {tick}");
        // Nor does it look again by itself, again and again.
        let pause = next.map(|at| at.duration_since(moment(operator.world.now)));
        assert!(pause.is_none_or(|pause| pause > SignedDuration::from_mins(1)), "{pause:?}");
    }
}

/// What a reconcile would conclude and write now.
fn look(
    operator: &Operator,
    status: &McpServerHealthStatus,
    signals: &Signals,
) -> (McpServerHealthStatus, Verdict, Option<jiff::Timestamp>) {
    let object = operator.object.as_ref().unwrap();
    let settings = Settings::default();
    let case = Case {
        generation: object.generation,
        spec: &object.spec,
        status,
        signals,
        settings: &settings,
        now: moment(operator.world.now),
    };
    let diagnosis = diagnose(&case);
    let story = verify(&case, &diagnosis);
    let decision = decide(&case, &diagnosis, &story, &Fleet::default());
    let after = report::status(&case, &diagnosis, &story, &decision);
    (after, Verdict::of(&diagnosis, signals, &status.incidents), report::next_look(&story, &decision))
}
