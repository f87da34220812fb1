//! Several things are found on one server at once: which of them is the primary incident, what is done about it,
//! and what keeps the operator from it. All others follow from the primary and never act.

use mcp_health_api::{
    Cause, Cause::*, FollowUp, Incident, IncidentType, IncidentType::*, Mode, Severity, Severity::*, Time,
};
use mcp_health_core::{
    Diagnosis, Server,
    catalogue::facts,
    diagnose::rank,
    finding::Finding,
    incident::breaks_the_server,
    signals::{Autoscaler, Reading, Scaled},
};

use crate::support::{
    moment, policy,
    scene::{Concluded, Scene},
};

/// What is seen of the server; what is found by it stands in each row.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Three pods, all ready, on a template that was seen healthy.
    AllReady,
    /// A new template's pods crash, and the old ones still serve.
    BadRollout,
    /// All pods crash, on a template that was seen healthy.
    NoneReady,
}

use Seen::{AllReady, NoneReady};
const BAD_ROLLOUT: Seen = Seen::BadRollout;

type Found = (IncidentType, Cause, Severity);

/// What a finding of this cause forbids, as the rules say it.
fn forbids(cause: Cause) -> &'static [mcp_health_api::ActionType] {
    use mcp_health_api::ActionType::{DrainAndRestart, RecyclePod, Rollback, RolloutRestart, Scale};
    match cause {
        DatabaseDisk | Cause::DependencyDown => {
            &[RolloutRestart, RecyclePod, DrainAndRestart, Scale, Rollback]
        }
        DatabaseConnection => &[RolloutRestart, RecyclePod, DrainAndRestart, Rollback],
        OthersConnections => &[Scale, RolloutRestart, RecyclePod, DrainAndRestart, Rollback],
        DatabasePool => &[RolloutRestart, RecyclePod, DrainAndRestart, Scale],
        ServiceMismatch => &[RolloutRestart, Rollback],
        QuotaExceeded | Unschedulable => &[RolloutRestart],
        AuthenticationRequired => &[RolloutRestart, RecyclePod, DrainAndRestart],
        _ => &[],
    }
}

fn diagnosis(scene: &Scene, found: &[Found]) -> Diagnosis {
    let finding = |(incident, cause, severity): &Found| Finding {
        youngest_pod: Some(moment(scene.now - 60)),
        forbids: forbids(*cause),
        ..Finding::new(
            *incident,
            *cause,
            *severity,
            moment(scene.now - 60),
            vec![format!("{incident} is found")],
        )
    };
    let mut findings: Vec<Finding> = found.iter().map(finding).collect();
    // Whatever order the rules are asked in.
    findings.reverse();
    rank(&mut findings, &Server::of(&scene.case()).unwrap());
    let types = [
        CrashLoop,
        RolloutStuck,
        ServiceNotResponding,
        IncidentType::OutOfMemory,
        MemoryLeak,
        CpuSaturation,
        DiskFilling,
        IncidentType::AlertFiring,
        McpProtocolFailing,
        ToolsMissing,
        CircuitStuckOpen,
        ToolFailing,
        DatabasePoolExhausted,
        DatabaseIdleInTransaction,
        DatabaseBlockingLocks,
        DatabaseSlowQueries,
        DatabaseCorruption,
        HighErrorRate,
        HighLatency,
        Reported,
    ];
    let clear = types.into_iter().filter(|one| found.iter().all(|(found, ..)| found != one)).collect();
    Diagnosis { findings, clear, ..Diagnosis::default() }
}

fn concluded(seen: Seen, found: &[Found], but: impl FnOnce(&mut Scene)) -> Concluded {
    let mut scene = match seen {
        Seen::AllReady => Scene::healthy(),
        Seen::BadRollout => Scene::bad_rollout(),
        Seen::NoneReady => Scene::process_exit(),
    };
    scene.status.incidents.clear();
    but(&mut scene);
    let diagnosis = diagnosis(&scene, found);
    scene.concluded_from(diagnosis)
}

const CRASH: Found = (CrashLoop, Cause::BadRollout, SEV2);
const NO_IMAGE: Found = (CrashLoop, Cause::ImagePull, SEV2);
const STUCK: Found = (RolloutStuck, Cause::BadRollout, SEV2);
const DOWN: Found = (ServiceNotResponding, NotReady, SEV1);
const EXIT: Found = (CrashLoop, ProcessExit, SEV1);
const DATABASE: Found = (CrashLoop, DatabaseConnection, SEV1);
const QUOTA: Found = (RolloutStuck, QuotaExceeded, SEV2);
const NO_NODE: Found = (RolloutStuck, Unschedulable, SEV2);
const ASTRAY: Found = (ServiceNotResponding, ServiceMismatch, SEV1);
const KILLED: Found = (IncidentType::OutOfMemory, LimitTooSmall, SEV2);
const LEAK: Found = (MemoryLeak, Leak, SEV3);
const BUSY: Found = (CpuSaturation, Saturation, SEV3);
const FULL: Found = (DiskFilling, TemporaryFiles, SEV2);
const NO_ROOM: Found = (DiskFilling, DatabaseDisk, SEV2);
const ALERT: Found = (IncidentType::AlertFiring, Cause::Alert, SEV2);
const SILENT: Found = (ServiceNotResponding, TimedOut, SEV1);
const NEEDS: Found = (ServiceNotResponding, Cause::DependencyDown, SEV1);
const QUEUE: Found = (IncidentType::DependencyDown, Cause::DependencyDown, SEV2);
const NO_DATABASE: Found = (IncidentType::DependencyDown, DatabaseConnection, SEV2);
const EXPIRED: Found = (CertificateExpiring, Cause::Certificate, SEV1);
const HANGS: Found = (McpProtocolFailing, Wedged, SEV2);
const GATED: Found = (McpProtocolFailing, AuthenticationRequired, SEV2);
const GONE: Found = (ToolsMissing, ToolGone, SEV3);
const OPEN: Found = (CircuitStuckOpen, CircuitOpen, SEV3);
const ERRORS: Found = (HighErrorRate, ServerErrors, SEV2);
const NEW_ERRORS: Found = (HighErrorRate, Cause::BadRollout, SEV2);
const DATABASE_ERRORS: Found = (HighErrorRate, DatabaseConnection, SEV2);
const SLOW: Found = (HighLatency, SlowAnswers, SEV3);
const SLOW_POOL: Found = (HighLatency, DatabasePool, SEV3);
const THROTTLED: Found = (HighLatency, CpuThrottled, SEV3);
const TOOL: Found = (ToolFailing, ToolErrors, SEV3);
const FULL_DATABASE: Found = (DatabasePoolExhausted, OthersConnections, SEV2);
const LEAKED: Found = (DatabasePoolExhausted, IdleTransactions, SEV2);
const LOCKED: Found = (DatabaseBlockingLocks, IdleTransactions, SEV2);
const OTHERS_LOCK: Found = (DatabaseBlockingLocks, OthersSession, SEV2);
const LEFT_OPEN: Found = (DatabaseIdleInTransaction, IdleTransactions, SEV3);
const ADVICE: Found = (DatabaseSlowQueries, MissingIndex, SEV4);
const DAMAGED: Found = (DatabaseCorruption, ChecksumFailure, SEV1);
const WORD: Found = (Reported, PersonsReport, SEV1);

#[test]
fn of_what_is_found_at_once_the_nearest_to_the_root_is_the_primary() {
    // DESIGN: dependency, database, node → revision or configuration → resource → process → symptom.
    let rows: &[(&str, &[Found], IncidentType)] = &[
        ("a crash of a new template holds its rollout up", &[CRASH, STUCK], CrashLoop),
        ("and takes the server down", &[CRASH, STUCK, DOWN], CrashLoop),
        (
            "a queue is down, and all that it explains follows",
            &[QUEUE, NEEDS, EXIT, HANGS],
            IncidentType::DependencyDown,
        ),
        (
            "the database is, and says so everywhere",
            &[DATABASE, NO_DATABASE, DATABASE_ERRORS],
            IncidentType::DependencyDown,
        ),
        ("a queue is down, and a new template crashes", &[QUEUE, STUCK, CRASH], IncidentType::DependencyDown),
        ("a queue is down, and an image cannot be pulled", &[QUEUE, STUCK, NO_IMAGE], CrashLoop),
        ("a queue is down, and no node takes a pod", &[QUEUE, NO_NODE, DOWN], RolloutStuck),
        ("a queue is down, and memory runs out", &[QUEUE, KILLED, EXIT], IncidentType::OutOfMemory),
        ("a queue is down, and another's circuit is stuck", &[QUEUE, OPEN, ERRORS], CircuitStuckOpen),
        ("a queue is down, and the work is too much", &[QUEUE, BUSY, SLOW], IncidentType::DependencyDown),
        ("a certificate ends, and a person complains", &[EXPIRED, WORD], Reported),
        ("what it needs is down, and all follows", &[NEEDS, STUCK, EXIT, HANGS], ServiceNotResponding),
        ("pods that end say nothing", &[EXIT, SILENT, HANGS], CrashLoop),
        ("who does not answer does not speak MCP", &[SILENT, GONE, OPEN], ServiceNotResponding),
        ("a busy processor answers late", &[BUSY, SILENT], CpuSaturation),
        ("MCP hangs, and tells of no tools", &[HANGS, GONE], McpProtocolFailing),
        ("a gate is no reason not to mend a leak", &[GATED, LEAK], MemoryLeak),
        ("a tool is gone behind an open circuit", &[GONE, OPEN], ToolsMissing),
        ("a rollout that hangs takes the server down", &[STUCK, DOWN], RolloutStuck),
        ("the database is nearer than the rollout", &[DATABASE, STUCK], CrashLoop),
        ("and than memory, processor and disk", &[DATABASE, KILLED, LEAK, BUSY, FULL], CrashLoop),
        (
            "a kill at the limit is nearer than the loop that it makes",
            &[(CrashLoop, ConfigError, SEV2), KILLED],
            IncidentType::OutOfMemory,
        ),
        ("also where a new template needs too much", &[CRASH, KILLED], IncidentType::OutOfMemory),
        ("a new template is nearer than a disk that it fills", &[CRASH, FULL], CrashLoop),
        ("a wrong setting is nearer than a leak", &[(CrashLoop, ConfigError, SEV2), LEAK], CrashLoop),
        ("and a new template than nodes that do not take it", &[CRASH, NO_NODE], CrashLoop),
        ("a quota is nearer than processes that end", &[QUOTA, EXIT], RolloutStuck),
        ("memory is nearer than processes that end", &[KILLED, EXIT], IncidentType::OutOfMemory),
        ("a leak is nearer than processes that end", &[LEAK, EXIT], MemoryLeak),
        ("a full disk is nearer than processes that end", &[FULL, EXIT, DOWN], DiskFilling),
        ("a busy processor is nearer than probes that time out", &[BUSY, DOWN], CpuSaturation),
        ("processes that end are nearer than a server that is down", &[EXIT, DOWN], CrashLoop),
        ("a Service that leads nowhere is a wrong setting", &[ASTRAY, EXIT, BUSY], ServiceNotResponding),
        ("which a new template may come with", &[ASTRAY, CRASH], CrashLoop),
        ("errors follow from the crash that they come with", &[ERRORS, EXIT], CrashLoop),
        (
            "also those of the database, from a new template that crashes",
            &[DATABASE_ERRORS, CRASH],
            CrashLoop,
        ),
        ("but not from processes that end without a word", &[DATABASE_ERRORS, EXIT], HighErrorRate),
        ("errors of a new template are nearer than a leak", &[NEW_ERRORS, LEAK], HighErrorRate),
        ("a busy processor is nearer than slow answers", &[BUSY, SLOW], CpuSaturation),
        ("and than the errors of time-outs", &[BUSY, ERRORS], CpuSaturation),
        ("one tool shows more of the fault than all errors", &[ERRORS, TOOL], ToolFailing),
        (
            "a circuit that is stuck shows more of the fault than the errors that it makes",
            &[(HighErrorRate, CircuitOpen, SEV2), (CircuitStuckOpen, CircuitOpen, SEV3)],
            CircuitStuckOpen,
        ),
        ("errors are nearer than slow answers", &[SLOW, ERRORS], HighErrorRate),
        ("a pool that is used up is nearer than errors", &[SLOW_POOL, ERRORS], HighLatency),
        ("a server that is down is nearer than its errors", &[ERRORS, DOWN], ServiceNotResponding),
        (
            "a database that can write nothing more is why",
            &[NO_ROOM, DATABASE, DATABASE_ERRORS, DOWN],
            DiskFilling,
        ),
        ("also of processes that end", &[NO_ROOM, EXIT, DOWN], DiskFilling),
        ("but not of a new template that crashes", &[NO_ROOM, STUCK, CRASH], CrashLoop),
        ("nor of memory that runs out", &[NO_ROOM, KILLED, EXIT], IncidentType::OutOfMemory),
        ("damaged data come before all", &[DAMAGED, DATABASE, FULL_DATABASE, STUCK], DatabaseCorruption),
        (
            "a database that lets nobody in is nearer than the loops that it makes",
            &[DATABASE, FULL_DATABASE],
            DatabasePoolExhausted,
        ),
        (
            "a pool that leaks is nearer than its errors and late answers",
            &[LEAKED, ERRORS, SLOW_POOL, DOWN],
            DatabasePoolExhausted,
        ),
        ("but a new template that crashes is mended first", &[LEAKED, LOCKED, CRASH], CrashLoop),
        (
            "what holds all connections is nearer than one of them",
            &[LEFT_OPEN, LEAKED],
            DatabasePoolExhausted,
        ),
        (
            "a lock is nearer than what waits for it",
            &[LOCKED, DATABASE_ERRORS, LEFT_OPEN],
            DatabaseBlockingLocks,
        ),
        ("somebody else's lock keeps nothing from being mended", &[OTHERS_LOCK, BUSY, LEAK], MemoryLeak),
        ("nor do transactions that do no harm yet", &[LEFT_OPEN, BUSY], CpuSaturation),
        ("advice comes last", &[ADVICE, WORD], Reported),
        ("a person's word comes last, however bad", &[WORD, DOWN], ServiceNotResponding),
        ("even after what is only degraded", &[WORD, BUSY], CpuSaturation),
        ("alone it is the primary", &[WORD], Reported),
        ("an alert tells less than what is seen", &[ALERT, BUSY], CpuSaturation),
        ("and more than a person's word", &[WORD, ALERT], IncidentType::AlertFiring),
    ];
    for (what, found, primary) in rows {
        let story = concluded(AllReady, found, |_| {}).story;
        assert_eq!(story.incidents[0].incident_type, *primary, "{what}");
        assert_eq!(story.incidents[0].caused_by, None, "{what}");
        let id = Some(&story.incidents[0].id);
        // Nothing in the server is why something outside it does not answer.
        let explained = |one: &Incident| if facts(one.incident_type).class.is_outside() { None } else { id };
        let follows = |one: &Incident| one.caused_by.as_ref() == explained(one);
        assert!(story.incidents[1..].iter().all(follows), "{what}: {story:#?}");
        assert_eq!(story.incidents.len(), found.len(), "{what}");
    }
}

#[test]
fn what_is_done_is_the_primarys_and_what_any_finding_forbids_is_not() {
    let rows: &[(&str, Seen, &[Found], &str)] = &[
        ("a bad rollout", BAD_ROLLOUT, &[CRASH], "Act Rollback"),
        ("with all that follows", BAD_ROLLOUT, &[CRASH, STUCK, DOWN], "Act Rollback"),
        ("seen by its hanging", BAD_ROLLOUT, &[STUCK], "Act Rollback"),
        (
            "seen by nothing being ready",
            BAD_ROLLOUT,
            &[(ServiceNotResponding, Cause::BadRollout, SEV1)],
            "Act Rollback",
        ),
        ("while the processor is busy", BAD_ROLLOUT, &[CRASH, BUSY], "Act Rollback"),
        ("while a person complains", BAD_ROLLOUT, &[CRASH, WORD], "Act Rollback"),
        ("while no node takes its pods", BAD_ROLLOUT, &[CRASH, NO_NODE], "Act Rollback"),
        (
            "while its Service leads nowhere: that forbids it",
            BAD_ROLLOUT,
            &[CRASH, ASTRAY],
            "Escalate Prohibited",
        ),
        ("all processes end", NoneReady, &[EXIT, DOWN], "Act RolloutRestart"),
        (
            "and the database is why: that forbids it",
            NoneReady,
            &[DATABASE, DOWN],
            "Hold DatabaseUnavailable",
        ),
        ("a quota holds the rollout up", BAD_ROLLOUT, &[QUOTA], "Escalate NoAutomaticAction"),
        ("and processes end", NoneReady, &[QUOTA, EXIT], "Escalate NoAutomaticAction"),
        ("nothing is ready, and no process ends", NoneReady, &[DOWN], "Act RolloutRestart"),
        (
            "and no node takes a pod: that forbids it",
            NoneReady,
            &[DOWN, NO_NODE],
            "Escalate NoAutomaticAction",
        ),
        ("a Service leads nowhere", AllReady, &[ASTRAY], "Escalate NoAutomaticAction"),
        (
            "one of three pods crashes behind a healthy Service",
            AllReady,
            &[(CrashLoop, ProcessExit, SEV2)],
            "Escalate NoAutomaticAction",
        ),
        ("a person says so", AllReady, &[WORD], "Escalate Reported"),
        ("an alert says so", AllReady, &[ALERT], "Escalate AlertFiring"),
        ("a new template needs more memory than it may", BAD_ROLLOUT, &[CRASH, KILLED], "Act Rollback"),
        ("a known template does", NoneReady, &[EXIT, KILLED], "Escalate NoMemoryCap"),
        ("a busy processor", AllReady, &[BUSY], "Act Scale"),
        (
            "while a Service leads nowhere, which no number of pods mends",
            AllReady,
            &[BUSY, ASTRAY],
            "Escalate NoAutomaticAction",
        ),
        ("while a leak grows: that first", AllReady, &[BUSY, LEAK], "Act RolloutRestart"),
        ("no pod answers", AllReady, &[SILENT], "Act RolloutRestart"),
        ("and what they need is down", AllReady, &[NEEDS], "Hold DependencyUnavailable"),
        ("a queue is down", AllReady, &[QUEUE], "Wait"),
        ("and so is the server", NoneReady, &[QUEUE, NEEDS, EXIT], "Wait"),
        ("and a new template crashes", BAD_ROLLOUT, &[QUEUE, CRASH, STUCK], "Wait"),
        (
            "and a new template, before it was ever Ready, for want of a module",
            BAD_ROLLOUT,
            &[QUEUE, (CrashLoop, Cause::MissingDependency, SEV2), STUCK],
            "Act Rollback",
        ),
        ("and the image of a new template is missing", BAD_ROLLOUT, &[QUEUE, NO_IMAGE], "Act Rollback"),
        ("the database is down for the server of a known template", NoneReady, &[NO_DATABASE, EXIT], "Wait"),
        (
            "a queue is down, and a leak grows: its restart waits",
            AllReady,
            &[QUEUE, LEAK],
            "Hold DependencyUnavailable",
        ),
        ("a certificate ends", AllReady, &[EXPIRED], "Wait"),
        ("and all processes end", NoneReady, &[EXPIRED, EXIT], "Act RolloutRestart"),
        ("MCP hangs, on pods that cannot be told apart", AllReady, &[HANGS], "Act RolloutRestart"),
        ("a gate: no restart opens it", AllReady, &[GATED], "Escalate NoAutomaticAction"),
        ("no pod answers, and one asks for a credential", AllReady, &[SILENT, GATED], "Escalate Prohibited"),
        ("a tool is gone", AllReady, &[GONE], "Escalate NoAutomaticAction"),
        ("a circuit that nobody lets it reset", AllReady, &[OPEN], "Escalate NoCircuits"),
        ("errors of a new template", BAD_ROLLOUT, &[NEW_ERRORS], "Act Rollback"),
        ("errors during a crash loop follow it", NoneReady, &[ERRORS, EXIT], "Act RolloutRestart"),
        ("errors that nothing explains", AllReady, &[ERRORS], "Escalate NoAutomaticAction"),
        (
            "errors of the database while a new template crashes: that forbids it",
            BAD_ROLLOUT,
            &[CRASH, DATABASE_ERRORS],
            "Hold DatabaseUnavailable",
        ),
        ("slow answers of a throttled server", AllReady, &[THROTTLED], "Act Scale"),
        ("slow answers of the database's pool", AllReady, &[SLOW_POOL], "Escalate NoAutomaticAction"),
        ("which more pods would only wait for, too", AllReady, &[BUSY, SLOW_POOL], "Escalate Prohibited"),
        ("and which no restart mends", NoneReady, &[EXIT, SLOW_POOL], "Escalate NoAutomaticAction"),
        ("one tool fails", AllReady, &[TOOL, ERRORS], "Escalate NoAutomaticAction"),
        ("a leak, and all processes end", NoneReady, &[LEAK, EXIT, DOWN], "Act RolloutRestart"),
    ];
    let scaling = |scene: &mut Scene| {
        scene.spec.actions.scale = Some(mcp_health_api::ScalePolicy { max: 6, stateless: true });
        scene.spec.actions.allow.push(mcp_health_api::ActionType::Scale);
    };
    for (what, seen, found, then) in rows {
        assert_eq!(concluded(*seen, found, scaling).words(), *then, "{what}");
    }
}

#[test]
fn what_goes_on_around_the_server_holds_the_hand_and_not_the_eye() {
    type Change = fn(&mut Scene);
    let hpa = |scene: &mut Scene| {
        scene.signals.autoscalers = Reading::Fresh(vec![Autoscaler {
            words: "HorizontalPodAutoscaler/mcp".to_owned(),
            sets: Scaled::Replicas,
        }]);
    };
    let rows: &[(&str, Seen, &[Found], Change, &str)] = &[
        (
            "a person has paused it",
            BAD_ROLLOUT,
            &[CRASH, STUCK],
            |one| one.target().paused = true,
            "Hold DeploymentPaused",
        ),
        (
            "a person rolls something out",
            NoneReady,
            &[EXIT, DOWN],
            |one| one.target().updated = 1,
            "Hold RolloutInProgress",
        ),
        (
            "GitOps owns it",
            BAD_ROLLOUT,
            &[CRASH, STUCK],
            |one| one.target().gitops = Some("Argo CD".to_owned()),
            "Hold GitOpsManaged",
        ),
        (
            "an autoscaler sets its replicas, which a rollback leaves alone",
            BAD_ROLLOUT,
            &[CRASH, STUCK],
            hpa,
            "Act Rollback",
        ),
        ("it is suspended", BAD_ROLLOUT, &[CRASH, STUCK], |one| one.spec.suspend = true, "Hold Suspended"),
        (
            "it is only observed",
            NoneReady,
            &[EXIT, DOWN],
            |one| one.spec.mode = Mode::Observe,
            "Hold ObserveMode",
        ),
        (
            "its Services are seen as they were: a rollback does not rest on them",
            BAD_ROLLOUT,
            &[CRASH],
            |one| one.signals.services = Reading::Stale { value: Vec::new(), at: moment(0) },
            "Act Rollback",
        ),
        (
            "its autoscalers are seen as they were: a fence",
            BAD_ROLLOUT,
            &[CRASH],
            |one| one.signals.autoscalers = Reading::Stale { value: Vec::new(), at: moment(0) },
            "Hold EvidenceNotFresh",
        ),
        (
            "most of the fleet is broken",
            BAD_ROLLOUT,
            &[CRASH, WORD],
            |one| (one.fleet.servers, one.fleet.unhealthy) = (9, 8),
            "Hold FleetUnhealthy",
        ),
        (
            "suspended, and what it would do is not allowed: a person, at once",
            BAD_ROLLOUT,
            &[CRASH],
            |one| {
                one.spec.suspend = true;
                one.spec.actions.allow.clear();
            },
            "Escalate ActionNotAllowed",
        ),
    ];
    for (what, seen, found, but, then) in rows {
        let concluded = concluded(*seen, found, but);
        assert_eq!(concluded.words(), *then, "{what}");
        assert_eq!(concluded.story.incidents.len(), found.len(), "{what}: it is told all the same");
    }
}

/// The incidents that these findings opened a while ago, in the status.
fn opened(scene: &mut Scene, found: &[Found], ago: i64) {
    scene.now -= ago;
    let before = diagnosis(scene, found);
    scene.status.incidents = scene.concluded_from(before).story.incidents;
    scene.now += ago;
}

#[test]
fn a_fault_that_comes_to_others_takes_its_place_among_them() {
    type Row<'a> = (&'a str, Seen, &'a [Found], &'a [Found], IncidentType, &'a str);
    let rows: &[Row] = &[
        (
            "the cause shows after its symptom",
            NoneReady,
            &[DOWN],
            &[DOWN, EXIT],
            CrashLoop,
            "Act RolloutRestart",
        ),
        ("the symptom after its cause", BAD_ROLLOUT, &[CRASH], &[CRASH, DOWN], CrashLoop, "Act Rollback"),
        (
            "the database after the crash",
            NoneReady,
            &[EXIT],
            &[DATABASE],
            CrashLoop,
            "Hold DatabaseUnavailable",
        ),
        ("a fault after a person's word", BAD_ROLLOUT, &[WORD], &[WORD, CRASH], CrashLoop, "Act Rollback"),
        ("a person's word after a fault", BAD_ROLLOUT, &[CRASH], &[CRASH, WORD], CrashLoop, "Act Rollback"),
        (
            "the root is mended, its symptom stays",
            NoneReady,
            &[EXIT, DOWN],
            &[DOWN],
            ServiceNotResponding,
            "Act RolloutRestart",
        ),
    ];
    for (what, seen, before, found, primary, then) in rows {
        let concluded = concluded(*seen, found, |scene| opened(scene, before, 20));
        assert_eq!(concluded.story.incidents[0].incident_type, *primary, "{what}");
        assert_eq!(concluded.story.incidents[0].caused_by, None, "{what}");
        assert_eq!(concluded.words(), *then, "{what}");
    }
}

#[test]
fn a_prohibition_binds_as_long_as_any_finding_asserts_it_and_no_longer() {
    let asserted =
        |found: &[Found]| concluded(NoneReady, found, |scene| opened(scene, &[DOWN, DATABASE], 20)).words();
    assert_eq!(asserted(&[DOWN, DATABASE]), "Hold DatabaseUnavailable");
    assert_eq!(asserted(&[DOWN]), "Act RolloutRestart");
}

/// Makes an incident one that something temporary holds at bay.
fn mitigated(scene: &Scene, incident: &mut Incident) {
    incident.quiet_since = Some(Time(moment(scene.now - 30)));
    incident.follow_ups = vec![FollowUp {
        attempt: "x-1".to_owned(),
        message: "set it for good".to_owned(),
        take_back_at: None,
    }];
}

#[test]
fn a_new_fault_goes_before_what_is_mitigated_and_does_not_explain_it() {
    let scene = Scene::bad_rollout();
    let mut story = concluded(BAD_ROLLOUT, &[KILLED, CRASH], |_| {}).story;
    let killed =
        story.incidents.iter_mut().find(|one| one.incident_type == IncidentType::OutOfMemory).unwrap();
    mitigated(&scene, killed);
    assert!(killed.is_mitigated() && !breaks_the_server(killed));
    let mut scene = scene;
    scene.status.incidents = vec![killed.clone()];
    // The attempt that mitigates it is in force: nothing on the template says otherwise.
    scene.status.incidents[0].attempts = vec![in_force()];
    let found = diagnosis(&scene, &[CRASH]);
    let concluded = scene.concluded_from(found);
    let types: Vec<_> = concluded.story.incidents.iter().map(|one| one.incident_type).collect();
    assert_eq!(types, [CrashLoop, IncidentType::OutOfMemory]);
    assert!(concluded.story.incidents.iter().all(|one| one.caused_by.is_none()), "{:#?}", concluded.story);
    assert_eq!(concluded.words(), "Act Rollback");
}

/// An attempt that helped, and left nothing on the Deployment by which it could be told.
fn in_force() -> mcp_health_api::Attempt {
    serde_json::from_value(serde_json::json!({
        "id": "x-1", "action": "RecyclePod", "why": "", "recordedAt": "2026-01-01T11:00:00Z", "readyBefore": 3,
        "steps": [], "outcome": "Improved",
    }))
    .unwrap()
}

#[test]
fn what_follows_from_an_incident_sets_its_pace() {
    let alone = concluded(AllReady, &[BUSY], |scene| opened(scene, &[BUSY], 20 * 60));
    assert_eq!(alone.words(), "Escalate NoScalePolicy");
    let held = |found: &[Found], ago: i64| {
        let found = found.to_vec();
        concluded(AllReady, &found, |scene| {
            scene.spec.suspend = true;
            scene.spec = policy::with_runbook(
                scene.spec.clone(),
                CpuSaturation,
                &[Some(mcp_health_api::ActionType::RolloutRestart)],
            );
            opened(scene, &found, ago);
        })
        .words()
    };
    // Degraded: four hours. Down: a quarter of an hour, whatever it follows from.
    assert_eq!(held(&[BUSY], 20 * 60), "Hold Suspended");
    assert_eq!(held(&[BUSY, DOWN], 14 * 60), "Hold Suspended");
    assert_eq!(held(&[BUSY, DOWN], 15 * 60), "Escalate ResponseOverdue");
}

#[test]
fn while_an_attempt_is_judged_its_incident_stays_the_primary_and_nothing_else_is_begun() {
    let concluded = concluded(NoneReady, &[DOWN, EXIT], |scene| {
        opened(scene, &[DOWN], 20);
        let mut attempt = in_force();
        (attempt.outcome, attempt.recorded_at) = (None, Time(moment(scene.now - 10)));
        attempt.verify_at = Some(Time(moment(scene.now + 60)));
        attempt.steps = vec![
            serde_json::from_value(serde_json::json!({
                "effect": "MarkTarget", "uid": "deployment-1", "state": "Done",
            }))
            .unwrap(),
        ];
        scene.status.incidents[0].attempts = vec![attempt];
    });
    assert_eq!(concluded.story.incidents[0].incident_type, ServiceNotResponding);
    assert_eq!(concluded.words(), "Wait");
}

#[test]
fn one_that_a_person_has_in_hand_is_left_to_them_while_it_is_the_primary() {
    let escalate = |scene: &mut Scene, found: &[Found]| {
        opened(scene, found, 20);
        let why =
            serde_json::json!({"reason": "RunbookExhausted", "message": "", "at": "2026-01-01T12:00:00Z"});
        scene.status.incidents[0].escalation = Some(serde_json::from_value(why).unwrap());
    };
    // The same root, and one more symptom of it.
    let same = concluded(NoneReady, &[EXIT, DOWN], |scene| escalate(scene, &[EXIT]));
    assert_eq!(same.words(), "Wait");
    // Another root, which is nearer: it is mended.
    let other = concluded(BAD_ROLLOUT, &[CRASH, DOWN], |scene| escalate(scene, &[DOWN]));
    assert_eq!(other.words(), "Act Rollback");
}

#[test]
fn an_object_that_is_not_in_charge_finds_nothing_and_does_nothing() {
    let mut scene = Scene::bad_rollout();
    assert_eq!(scene.decision(), "Act Rollback");
    scene.signals.rival = Some("older".to_owned());
    let concluded = scene.concluded();
    assert_eq!((concluded.story.incidents.len(), concluded.words().as_str()), (0, "Wait"));
}
