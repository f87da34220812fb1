//! ToolsMissing: the server does not offer a tool that it should, offers none, or one of them takes other
//! arguments than it did.
//!
//! Judged by what `tools/list` tells on the pods in force. Where the policy names tools, those are expected;
//! where it names none, those that the very same template offered when it was seen healthy: what a new
//! template leaves out is its owner's choice, but for a list that is empty. Limit: a server that offers each
//! user other tools is seen as the operator's own credential sees it.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::entry::{Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    mask::mask,
    probes::{PathState, ProbedPaths, patience, recent},
    signals::{Pod, ProbeQuestion, Probed, Tool},
    time::lapse,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::ToolsMissing,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Probes]),
    lasting: Some(LASTING),
    // A schema that changed at run time is not the template's doing; a policy may say that it is bad all the
    // same.
    speaks_against_template: |finding| {
        finding.cause != Cause::SchemaDrift || finding.severity <= Severity::SEV2
    },
    runbook,
    guide: &[("001", "Tools Not Loading")],
    ..USUAL
};

/// How long it lasts before it is an incident: servers may offer their tools a moment after their start.
const LASTING: SignedDuration = SignedDuration::from_secs(60);
/// Tools that are named in a sentence, and pods in evidence.
const NAMED: usize = 4;

/// A pod, and what it lacks.
struct Lacking<'a> {
    pod: &'a Pod,
    /// Its list is empty.
    none: bool,
    gone: Vec<&'a str>,
    drifted: Vec<&'a str>,
}

impl Lacking<'_> {
    fn is_complete(&self) -> bool {
        !self.none && self.gone.is_empty() && self.drifted.is_empty()
    }
}

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(probes) = ProbedPaths::of(case, server) else { return Judgement::Unknown };
    let expected = Expected::of(case, server);
    let ready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| pod.ready).collect();
    let told: Vec<(&Pod, &[Tool])> = ready
        .iter()
        .filter(|pod| probes.of_pod(pod, ProbeQuestion::Mcp) == PathState::Well)
        .filter_map(|pod| Some((*pod, listed(case, probes.probed(pod, ProbeQuestion::Tools)?)?)))
        .collect();
    let lacking: Vec<Lacking> = told.iter().map(|(pod, tools)| expected.lacking(pod, tools)).collect();
    let lacking: Vec<&Lacking> = lacking.iter().filter(|one| !one.is_complete()).collect();
    let Some(cause) = cause(&lacking) else {
        let all = !ready.is_empty() && told.len() == ready.len();
        return if all { Judgement::Clear } else { Judgement::Unknown };
    };
    let mut evidence: Vec<String> = lacking.iter().take(NAMED).map(|one| describe(one)).collect();
    evidence.push(expected.words());
    if lacking.len() < told.len() {
        evidence.push(format!(
            "pods disagree: {} of {} what is expected",
            told.len() - lacking.len(),
            if told.len() == 1 { "1 offers".to_owned() } else { format!("{} offer", told.len()) }
        ));
    }
    let listed = lacking.iter().filter_map(|one| probes.probed(one.pod, ProbeQuestion::Tools));
    let lapses = listed.filter_map(|one| lapse([one.last()?.at].into_iter(), patience(one.pause))).min();
    let finding = Finding {
        youngest_pod: lacking.iter().map(|one| one.pod.created).max(),
        lapses,
        ..Finding::new(IncidentType::ToolsMissing, cause, Severity::SEV3, case.now, evidence)
    };
    Judgement::Symptom { finding, lasting: LASTING }
}

/// The list that a pod told last, unless that is too long ago or it told none since.
fn listed<'a>(case: &Case, probed: &'a Probed) -> Option<&'a [Tool]> {
    let last = recent(case, probed).next_back()?;
    probed.tools.as_deref().filter(|_| last.outcome.is_ok())
}

fn cause(lacking: &[&Lacking]) -> Option<Cause> {
    if lacking.is_empty() {
        None
    } else if lacking.iter().any(|one| one.none) {
        Some(Cause::NoTools)
    } else if lacking.iter().any(|one| !one.gone.is_empty()) {
        Some(Cause::ToolGone)
    } else {
        Some(Cause::SchemaDrift)
    }
}

/// The tools that should be there.
struct Expected<'a> {
    names: BTreeSet<&'a str>,
    /// What the same template offered when it was seen healthy: names and digests of schemas.
    known: Vec<(&'a str, &'a str)>,
    /// The policy names them.
    declared: bool,
    /// This server has offered tools before.
    some: bool,
}

impl<'a> Expected<'a> {
    fn of(case: &Case<'a>, server: &Server<'a>) -> Self {
        let declared = case.spec.signals.mcp.as_ref().map(|mcp| mcp.expect_tools.as_slice());
        let declared: BTreeSet<&str> =
            declared.unwrap_or_default().iter().map(|tool| tool.0.as_str()).collect();
        let healthy = server.last_healthy.filter(|healthy| !healthy.tools.is_empty());
        let same = healthy.filter(|healthy| server.is_in_force(&healthy.template));
        let tools = same.map(|healthy| healthy.tools.as_slice()).unwrap_or_default();
        let known: Vec<_> = tools.iter().map(|tool| (tool.name.as_str(), tool.digest.as_str())).collect();
        let is_declared = !declared.is_empty();
        let names = if is_declared { declared } else { known.iter().map(|(name, _)| *name).collect() };
        Self { names, known, declared: is_declared, some: is_declared || healthy.is_some() }
    }

    fn lacking(&self, pod: &'a Pod, tools: &[Tool]) -> Lacking<'a> {
        let offered = |name: &str| tools.iter().find(|tool| tool.name == name);
        let gone = self.names.iter().copied().filter(|name| offered(name).is_none());
        let is_as_it_was = |name: &str| {
            let mut was = self.known.iter().filter(|(known, _)| *known == name);
            was.any(|(_, schema)| tools.iter().any(|tool| tool.name == name && tool.schema == *schema))
        };
        // A pod may have told of a tool with another schema than its neighbour: either is as it was.
        let drifted =
            |name: &str| self.names.contains(name) && offered(name).is_some() && !is_as_it_was(name);
        let mut drifted: Vec<&str> =
            self.known.iter().map(|(name, _)| *name).filter(|name| drifted(name)).collect();
        drifted.dedup();
        Lacking { pod, none: tools.is_empty() && self.some, gone: gone.collect(), drifted }
    }

    fn words(&self) -> String {
        match (self.declared, self.names.len()) {
            (true, _) => {
                format!("spec.signals.mcp.expectTools names {}", words::count(self.names.len(), "tool"))
            }
            (false, 0) => "the template that was seen healthy offered tools".to_owned(),
            (false, all) => {
                format!("the same template offered {} when it was seen healthy", words::count(all, "tool"))
            }
        }
    }
}

fn describe(one: &Lacking) -> String {
    if one.none {
        return format!("pod {} offers no tool at all", one.pod.name);
    }
    let list = |names: &[&str]| {
        let named: Vec<String> =
            names.iter().take(NAMED).map(|name| words::shorten(&mask(name), 64)).collect();
        let more = names.len().saturating_sub(NAMED);
        if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
    };
    let mut said = Vec::new();
    if !one.gone.is_empty() {
        said.push(format!("does not offer {}", list(&one.gone)));
    }
    if !one.drifted.is_empty() {
        said.push(format!("offers {} with other arguments than before", list(&one.drifted)));
    }
    format!("pod {} {}", one.pod.name, said.join(", and "))
}

fn runbook(_: Cause, server: &Server) -> &'static [ActionType] {
    if server.rollout_is_to_blame() { &[ActionType::Rollback] } else { &[] }
}
