//! The list of tools and the canary have histories of their own: what they come to while MCP itself answers.

use mcp_health_api::{ActionType, CanaryTool, Cause, IncidentType, ToolName};
use mcp_health_core::signals::{
    FaultKind::{self, *},
    ProbePath, ProbeQuestion, Probed,
};

use crate::{
    probes::{on_a_new_template, probed, probes, results, runbook, scene},
    support::{
        measured::{found, judged, word},
        scene::Scene,
    },
};

use ActionType::{RecyclePod, Rollback, RolloutRestart};
use IncidentType::McpProtocolFailing;
use ProbeQuestion::{Canary, Tools};

/// Three ready pods that speak MCP: what a question comes to on each, and through the Service.
fn asked(question: ProbeQuestion, pods: [Option<FaultKind>; 3], service: Option<FaultKind>) -> Scene {
    scene(&[(None, None)], None).with(|scene| {
        let names: Vec<String> =
            scene.signals.pods.fresh().unwrap().iter().map(|pod| pod.name.clone()).collect();
        let now = scene.now;
        let of_pods = names.into_iter().zip(pods);
        let all: Vec<Probed> =
            of_pods.map(|(name, fault)| probed(now, ProbePath::Pod(name), question, fault)).collect();
        probes(scene).extend(all);
        if question == Canary {
            let name = ToolName("search".to_owned());
            scene.spec.signals.mcp.as_mut().unwrap().canary_tool = Some(CanaryTool { name, arguments: None });
        } else {
            let path = ProbePath::Service("mcp-server".to_owned());
            probes(scene).push(probed(now, path, question, service));
        }
    })
}

fn of_question(scene: &mut Scene, question: ProbeQuestion) -> impl Iterator<Item = &mut Probed> {
    probes(scene).iter_mut().filter(move |one| one.question == question)
}

#[test]
fn a_list_of_tools_that_fails_while_ping_answers_is_found_by_what_it_answers() {
    for (fault, cause, known_good, new) in [
        (
            RpcError,
            "ErrorAnswers",
            &[RecyclePod, RolloutRestart][..],
            &[Rollback, RecyclePod, RolloutRestart][..],
        ),
        (ServerError, "ErrorAnswers", &[RecyclePod, RolloutRestart], &[Rollback, RecyclePod, RolloutRestart]),
        (TimedOut, "Wedged", &[RecyclePod, RolloutRestart], &[Rollback, RecyclePod, RolloutRestart]),
        (Malformed, "Malformed", &[], &[Rollback]),
    ] {
        for pods in [[Some(fault); 3], [None, Some(fault), None]] {
            let scene = asked(Tools, pods, Some(fault));
            assert_eq!(word(&judged(&scene, McpProtocolFailing)), cause, "{pods:?}");
            let finding = found(&scene, McpProtocolFailing);
            assert_eq!(finding.severity, mcp_health_api::Severity::SEV2);
            assert!(finding.evidence[0].contains(": tools/list: fails by"), "{finding:#?}");
            assert!(finding.evidence[0].ends_with("; MCP itself answers"), "{finding:#?}");
            assert_eq!(runbook(&scene, McpProtocolFailing), known_good, "{fault:?}");
            assert_eq!(runbook(&scene.with(on_a_new_template), McpProtocolFailing), new, "{fault:?}");
        }
    }
    let all = asked(Tools, [Some(RpcError); 3], Some(RpcError));
    assert_eq!(all.decision(), "Act RecyclePod", "one pod, and no restart of all at first sight");
    assert_eq!(all.with(on_a_new_template).decision(), "Act Rollback");
}

#[test]
fn a_list_of_tools_that_was_never_told_or_was_slow_once_or_fails_for_the_operator_alone_is_nothing() {
    let never = asked(Tools, [Some(RpcError); 3], Some(RpcError))
        .with(|scene| of_question(scene, Tools).for_each(|one| one.ever_answered = false));
    assert_eq!(word(&judged(&never, McpProtocolFailing)), "Clear");
    assert!(never.signals.problems()[0].contains("NeverAnswered: tools/list by pod"), "it is told");
    let once = asked(Tools, [None; 3], None).with(|scene| {
        let now = scene.now;
        of_question(scene, Tools).for_each(|one| one.results = results(now, "....x", TimedOut));
    });
    assert_eq!(once.concluded().diagnosis.findings, []);
    assert_eq!(once.concluded().words(), "Wait");
    for alone in [Forbidden, HostNotAllowed, Reset] {
        let scene = asked(Tools, [Some(alone); 3], None);
        assert_eq!(word(&judged(&scene, McpProtocolFailing)), "Clear", "{alone:?}");
    }
    // A server that does not speak MCP at all is judged by that alone.
    let silent = asked(Tools, [Some(RpcError); 3], Some(RpcError)).with(|scene| {
        let now = scene.now;
        of_question(scene, ProbeQuestion::Mcp).for_each(|one| one.results = results(now, "..xxx", NotMcp));
    });
    assert_eq!(found(&silent, McpProtocolFailing).cause, Cause::NotMcp);
}

#[test]
fn an_incident_of_the_list_of_tools_ends_only_with_lists_that_are_told_again_on_every_pod() {
    for (pattern, expected) in [("xxx..", "Unknown"), ("..", "Unknown"), ("xx...", "Clear")] {
        let scene = asked(Tools, [None; 3], None).with(|scene| {
            let now = scene.now;
            of_question(scene, Tools).nth(1).unwrap().results = results(now, pattern, RpcError);
        });
        assert_eq!(word(&judged(&scene, McpProtocolFailing)), expected, "{pattern}");
    }
}

#[test]
fn a_list_that_fails_through_the_service_alone_is_kept_back_on_the_way() {
    let scene = asked(Tools, [None; 3], Some(TimedOut));
    assert_eq!(found(&scene, McpProtocolFailing).cause, Cause::ProxyBuffering);
    assert_eq!(runbook(&scene, McpProtocolFailing), []);
}

#[test]
fn a_canary_that_fails_on_some_pods_has_one_recycled_and_one_that_fails_on_all_restarts_nothing() {
    let one = asked(Canary, [None, Some(ToolFailed), None], None);
    let pod = one.signals.pods.fresh().unwrap()[1].name.clone();
    let finding = found(&one, McpProtocolFailing);
    assert_eq!(finding.cause, Cause::OnePod);
    assert!(
        finding.evidence[0].starts_with(&format!("pod {pod}: canary tool search: fails by ToolFailed")),
        "{finding:#?}"
    );
    assert_eq!(runbook(&one, McpProtocolFailing), [RecyclePod]);
    assert_eq!(runbook(&one.with(on_a_new_template), McpProtocolFailing), [RecyclePod]);
    for (fault, cause) in [
        (ToolFailed, Cause::ToolErrors),
        (TimedOut, Cause::ToolTimeout),
        (Unauthorized, Cause::AuthenticationRequired),
    ] {
        let all = asked(Canary, [Some(fault); 3], None);
        assert_eq!(
            (found(&all, McpProtocolFailing).cause, runbook(&all, McpProtocolFailing)),
            (cause, &[][..])
        );
        assert!(!all.decision().starts_with("Act"), "{}", all.decision());
        // It was well on these very pods: what the tool needs went, not the revision.
        assert_eq!(found(&all.with(on_a_new_template), McpProtocolFailing).cause, cause);
    }
}

#[test]
fn a_new_revision_on_which_the_canary_never_was_well_goes_back() {
    let new = asked(Canary, [Some(ToolFailed); 3], None).with(on_a_new_template).with(|scene| {
        let now = scene.now;
        for one in of_question(scene, Canary) {
            (one.answered_here, one.results) = (false, results(now, "xxx", ToolFailed));
        }
    });
    assert_eq!(found(&new, McpProtocolFailing).cause, Cause::BadRollout);
    assert_eq!(new.decision(), "Act Rollback");
}

#[test]
fn a_canary_that_never_was_well_or_failed_twice_or_is_named_no_more_is_nothing() {
    let all = asked(Canary, [Some(ToolFailed); 3], None);
    let never =
        all.clone().with(|scene| of_question(scene, Canary).for_each(|one| one.ever_answered = false));
    assert_eq!(word(&judged(&never, McpProtocolFailing)), "Clear");
    let twice = all.clone().with(|scene| {
        let now = scene.now;
        of_question(scene, Canary).for_each(|one| one.results = results(now, "...xx", ToolFailed));
    });
    assert_eq!(twice.concluded().diagnosis.findings, []);
    let unnamed = all.with(|scene| scene.spec.signals.mcp.as_mut().unwrap().canary_tool = None);
    assert_eq!(word(&judged(&unnamed, McpProtocolFailing)), "Clear");
}

#[test]
fn what_a_canary_opened_is_not_closed_by_a_canary_that_is_not_seen() {
    let mut open = asked(Canary, [Some(ToolFailed); 3], None);
    open.open_incident();
    let well = asked(Canary, [None; 3], None).with(|scene| scene.status.clone_from(&open.status));
    assert_eq!(word(&judged(&well, McpProtocolFailing)), "Clear");
    let unseen = well.with(|scene| probes(scene).retain(|one| one.question != Canary));
    assert_eq!(word(&judged(&unseen, McpProtocolFailing)), "Unknown");
}
