//! `cargo xtask demo`: servers break, and one watches them being healed.
//!
//! ```text
//! cluster ──► images ──► the operator ──┬─► a server, seen healthy ──► its mishap ──► the timeline ──► asked over MCP ─┐
//!             (build)    (Helm)         └──────────────────────── the next act ◄────────────────────────────────────┘
//! ```

mod acts;
mod ahead;
mod client;
mod names;
mod screen;
mod simulation;
mod tidy;
mod timeline;
mod watch;

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use cluster::Cluster;
use cluster::Plan;
use cluster::error::{Error, Result};
use cluster::kind::Kind;
use cluster::preflight;
use cluster::progress::{Step as Progress, say, seconds};
use cluster::state::name_option;
use cluster::status::Status;
use serde_json::Value;

use crate::background::Background;
use crate::install::{Images, build_images, helm_install, load_postgres};
use crate::interrupt;
use crate::local_operator::LocalOperator;
use acts::{ACTS, Act, Change};
use names::{NAMESPACE, OPERATOR_NAMESPACE, RELEASE};
use screen::{Screen, heading};
use simulation::NotShown;
use timeline::{Step, Timeline};
use watch::{Seen, Watches};

/// How long the server may take until the operator has seen it healthy.
const TO_HEALTH: Duration = Duration::from_mins(2);
/// How long the incident may last.
const TO_RECOVERY: Duration = Duration::from_mins(3);

/// What the demo is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// A cluster of ours, brought up where it is down.
    pub name: String,
    /// A cluster that is there, instead.
    pub context: Option<String>,
    /// Only the act of this name.
    pub act: Option<String>,
    /// Leave everything as it is at the end.
    pub keep: bool,
    /// How a cluster of ours is brought up.
    pub plan: Plan,
}

/// Runs the demo; an error unless every server serves MCP again at its end.
pub fn run(options: &Options) -> Result<()> {
    let acts = chosen(options.act.as_deref())?;
    interrupt::watch()?;
    let (plan, programs) = match options.context {
        Some(_) => (options.plan, None),
        None => begin(options)?,
    };
    let (cluster, brought_up) = cluster(options, &plan)?;
    let (acts, not_shown) = simulation::split(&cluster, acts, options.plan.install)?;
    // Whoever stops it half way wants it gone; whoever wants to look wants that after a failure too.
    let keep = || options.keep && !interrupt::requested();
    let crd_was_there = tidy::has_crd(&cluster);
    let outcome = tidy::refuse_what_is_not_ours(&cluster).and_then(|()| {
        let outcome = tidy::prepare(&cluster)
            .and_then(|()| programs.map_or(Ok(()), Background::wait))
            .and_then(|()| {
                let mut later = ahead::complete(&cluster, plan)?;
                show(&cluster, &acts, &not_shown, &mut later, options)?;
                // Whoever looks at it afterwards finds the whole cluster.
                later.filter(|_| options.keep || !brought_up).map_or(Ok(()), Background::wait)
            })
            .map_err(interrupt::explain);
        if keep() {
            tell_how_to_look(options);
        } else if !brought_up {
            let removed = tidy::remove(&cluster, crd_was_there);
            return outcome.and(removed);
        }
        outcome
    });
    let outcome = outcome.map_err(interrupt::explain);
    if brought_up && !keep() {
        let down = cluster::down::down(&options.name);
        return outcome.and(down);
    }
    outcome
}

/// How a cluster of ours is brought up, and what is built for its images beside it.
fn begin(options: &Options) -> Result<(Plan, Option<Background>)> {
    let there = Cluster::kind(&options.name)?;
    let kind = preflight::choose(options.plan.node, there, options.plan.install)?;
    // From here on it is decided, and said once.
    let plan = Plan { node: kind.into(), ..options.plan };
    match kind {
        Kind::Real => Ok((ahead::plan(plan)?, ahead::begin()?)),
        Kind::Simulated => Ok((plan, None)),
    }
}

/// The cluster to use, and whether it is up only for this demo.
fn cluster(options: &Options, plan: &Plan) -> Result<(Cluster, bool)> {
    if let Some(context) = &options.context {
        return Ok((Cluster::existing(context)?, false));
    }
    let was_up = Status::of(&options.name)?.node.is_some();
    match Cluster::up(&options.name, plan) {
        Ok(cluster) => Ok((cluster, !was_up)),
        Err(error) => {
            // Half a cluster is of no use to anybody; one that was there is for its owner to look at.
            if !was_up && Status::of(&options.name)?.node.is_some() {
                cluster::down::down(&options.name)?;
            }
            Err(error)
        }
    }
}

/// The acts to play.
fn chosen(name: Option<&str>) -> Result<Vec<&'static Act>> {
    let acts: Vec<_> = ACTS.iter().filter(|act| name.is_none_or(|name| act.name == name)).collect();
    if acts.is_empty() {
        let names = ACTS.iter().map(|act| act.name).collect::<Vec<_>>().join(", ");
        return Err(Error::other(format!(
            "there is no act {}: the acts are {names}",
            name.unwrap_or_default()
        )));
    }
    Ok(acts)
}

fn show(
    cluster: &Cluster,
    acts: &[&Act],
    not_shown: &[NotShown],
    later: &mut Option<Background>,
    options: &Options,
) -> Result<()> {
    if acts.is_empty() {
        return Err(simulation::nothing_to_show(not_shown));
    }
    let images = build_images(cluster)?;
    interrupt::check()?;
    if cluster.is_simulated() {
        simulation::say_before(not_shown);
    } else {
        simulation::say_not_shown(not_shown);
    }
    let postgres =
        acts.iter().any(|act| act.postgres.is_some()).then(|| load_postgres(cluster)).transpose()?;

    let mut operator = install_operator(cluster, &images)?;

    let mut reports = Vec::new();
    for (at, act) in acts.iter().enumerate() {
        interrupt::check()?;
        if acts.len() > 1 {
            heading(&format!("── Act {} of {}: {} ──", at + 1, acts.len(), act.name));
        }
        if act.needs_addons
            && let Some(later) = later.take()
        {
            later.wait()?;
        }
        let played = bring_up_postgres(cluster, act, postgres.as_deref().unwrap_or_default())
            .and_then(|()| play(cluster, act, &images.demo_server));
        // Where it is gone, that is why.
        operator.as_mut().map_or(Ok(()), LocalOperator::check)?;
        reports.push(format!("{}: {}", act.name, played?));
    }
    heading("In short");
    for report in reports {
        println!("{report}");
    }
    if cluster.is_simulated() {
        simulation::say_after(acts, not_shown);
    }
    if let Some(operator) = operator.as_mut().filter(|_| options.keep) {
        operator.stay();
    }
    Ok(())
}

/// Installs the operator with Helm. Where no pod can run it, gives the process that does its work.
fn install_operator(cluster: &Cluster, images: &Images) -> Result<Option<LocalOperator>> {
    let step = Progress::start(format!("installing the operator with Helm into {OPERATOR_NAMESPACE}"));
    let watched = format!("{{{NAMESPACE}}}");
    let dependencies = format!("{{*.{NAMESPACE}}}");
    let mut values = vec![
        ("watchNamespaces", watched.as_str()),
        ("actions.rollbackConfig", "true"),
        ("signals.allowedEndpoints", dependencies.as_str()),
        ("signals.secrets", "true"),
        ("signals.scrapePeriod", "5s"),
    ];
    if cluster.is_simulated() {
        values.push(("replicaCount", "0"));
    }
    helm_install(cluster, images, RELEASE, OPERATOR_NAMESPACE, &values)?;
    step.done();
    if !cluster.is_simulated() {
        return Ok(None);
    }
    let mut operator = LocalOperator::start(cluster, &images.operator_binary, RELEASE, OPERATOR_NAMESPACE)?;
    operator.await_lead(cluster)?;
    Ok(Some(operator))
}

/// Brings up the PostgreSQL that an act's server uses, so that the server finds it at its start.
fn bring_up_postgres(cluster: &Cluster, act: &Act, image: &str) -> Result<()> {
    let Some(manifest) = act.postgres else { return Ok(()) };
    let step = Progress::start("starting PostgreSQL");
    // As a string of JSON, it is one of YAML.
    let role = Value::from(crate::postgres::ROLE).to_string();
    cluster.apply(&manifest.replace("POSTGRES-IMAGE", image).replace("ROLE-SQL", &role))?;
    let ready = ["rollout", "status", "deployment/postgres", "--namespace", NAMESPACE, "--timeout=90s"];
    cluster.kubectl_run(ready)?;
    step.done();
    Ok(())
}

/// Plays an act; gives a sentence about how it went.
fn play(cluster: &Cluster, act: &Act, image: &str) -> Result<String> {
    cluster.apply(&act.manifest.replace("IMAGE", image))?;
    let watches = Watches::start(cluster, act.server)?;
    let mut timeline = Timeline::default();
    await_health(act, &watches, &mut timeline)?;

    heading(act.scene);
    println!("{}", served(cluster, act)?);

    heading(act.mishap);
    for command in act.commands() {
        println!("{command}");
    }
    println!();
    let report = incident(cluster, act, &watches, &mut timeline)?;
    drop(watches);

    heading(&format!("$ kubectl describe mcph {} -n {NAMESPACE}", act.server));
    print!("{}", describe(cluster, act)?);

    heading(&report);
    println!("{}", served(cluster, act)?);
    Ok(report)
}

/// What an MCP client says about the server; nothing is claimed where nothing can answer.
fn served(cluster: &Cluster, act: &Act) -> Result<String> {
    if cluster.is_simulated() {
        return Ok("No MCP client was asked: nothing runs in simulated pods.".to_owned());
    }
    Ok(format!("An MCP client {}.", client::ask(cluster, act.server, act.tool)?))
}

/// Waits until the operator calls the server healthy and knows the template to go back to.
fn await_health(act: &Act, watches: &Watches, timeline: &mut Timeline) -> Result<()> {
    let step = Progress::start("starting the MCP server, until the operator has seen it healthy");
    let started = Instant::now();
    while !timeline.is_healthy() {
        let (ready, wanted) = timeline.ready();
        step.note(format!("{ready} of {wanted} pods ready"));
        if let Some((_, seen)) = next(watches)? {
            timeline.see(&seen);
        }
        if started.elapsed() > TO_HEALTH {
            return Err(Error::other(format!(
                "the server is not healthy after {}: look with `kubectl describe mcph {} -n {NAMESPACE}`",
                seconds(started.elapsed()),
                act.server
            )));
        }
    }
    step.done();
    Ok(())
}

/// Makes the change and tells what follows, until the incident is over; gives a sentence about it.
fn incident(cluster: &Cluster, act: &Act, watches: &Watches, timeline: &mut Timeline) -> Result<String> {
    let screen = Screen::start();
    timeline.begin();
    let mut started = Instant::now();
    let mut times: Vec<(Step, Duration)> = Vec::new();
    // One pod is the one that breaks, whatever becomes of it meanwhile.
    let pod = first_pod(cluster, act)?;
    for change in act.change {
        if let Some(text) = make(cluster, act, change, &pod)? {
            for line in timeline.fault(text) {
                let after = started.elapsed();
                times.push((line.step, after));
                screen.line(after, &line);
            }
        }
    }
    while !timeline.is_over(act.ending) {
        let elapsed = started.elapsed();
        screen.note(elapsed, timeline.next().unwrap_or("watching"));
        if let Some((at, seen)) = next(watches)? {
            for line in timeline.see(&seen) {
                // Where a person changes nothing, the story begins with the fault.
                if times.is_empty() {
                    started = at;
                }
                let after = at.saturating_duration_since(started);
                times.push((line.step, after));
                screen.line(after, &line);
            }
        }
        if elapsed > TO_RECOVERY {
            let described = describe(cluster, act)?;
            return Err(Error::other(format!(
                "the incident is not over after {}\n{described}",
                seconds(elapsed)
            )));
        }
    }
    if timeline.has(Step::Escalated) {
        return Err(Error::other("the operator handed over to a person, and was not supposed to"));
    }
    Ok(sentence(&times))
}

/// Makes a change; gives what is wrong from then on, where no object of the cluster will tell it.
fn make(cluster: &Cluster, act: &Act, change: &Change, pod: &str) -> Result<Option<String>> {
    interrupt::check()?;
    match change {
        Change::Kubectl(words) => cluster.kubectl_run(words.iter().copied()).map(|_| None),
        Change::Around { kubectl, means } => {
            cluster.kubectl_run(kubectl.iter().copied()).map(|_| Some((*means).to_owned()))
        }
        Change::Fault { fault, means } => {
            client::switch_on(cluster, pod, fault)?;
            Ok(Some(format!("pod {pod} {means}")))
        }
        Change::Calls(times) => client::fail(cluster, pod, act.tool, *times).map(|()| None),
    }
}

/// The first of the server's pods, by name.
fn first_pod(cluster: &Cluster, act: &Act) -> Result<String> {
    let selector = format!("--selector=app={}", act.server);
    let names =
        ["get", "pods", "--namespace", NAMESPACE, &selector, "--output=jsonpath={.items[0].metadata.name}"];
    cluster.kubectl_run(names)
}

/// How long what took.
fn sentence(times: &[(Step, Duration)]) -> String {
    let time = |step: Step| times.iter().find(|(one, _)| *one == step).map(|(_, at)| *at);
    let span = |from: Step, to: Step| {
        time(from).zip(time(to)).map(|(from, to)| format!("{:.1} s", to.saturating_sub(from).as_secs_f64()))
    };
    let mut parts = vec!["Healed, and nobody was called".to_owned()];
    parts.extend(span(Step::Fault, Step::Acted).map(|span| format!("{span} from the fault to the repair")));
    parts.extend(span(Step::Down, Step::Up).map(|span| format!("down for {span}")));
    parts.join("; ") + "."
}

/// The next thing seen; nothing where nothing changes for a moment.
fn next(watches: &Watches) -> Result<Option<(Instant, Seen)>> {
    interrupt::check()?;
    match watches.seen.recv_timeout(Duration::from_millis(100)) {
        Ok((_, Seen::Lost(what))) => {
            interrupt::check()?;
            Err(Error::other(format!("kubectl stopped watching {what}: is the cluster still up?")))
        }
        Ok(seen) => Ok(Some(seen)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(Error::other("kubectl stopped watching")),
    }
}

fn describe(cluster: &Cluster, act: &Act) -> Result<String> {
    cluster.kubectl_run(["describe", "mcph", act.server, "--namespace", NAMESPACE])
}

fn tell_how_to_look(options: &Options) {
    let name = name_option(&options.name);
    heading("It is all still there.");
    match &options.context {
        None => say(&format!(
            "look:    eval \"$(cargo xtask cluster env{name})\"; kubectl get mcph -A\n\
             remove:  cargo xtask cluster down{name}"
        )),
        Some(context) => say(&format!(
            "look:    kubectl --context {context} get mcph -A\n\
             remove:  helm --kube-context {context} uninstall {RELEASE} -n {OPERATOR_NAMESPACE}; \
             kubectl --context {context} delete namespace {NAMESPACE} {OPERATOR_NAMESPACE}"
        )),
    }
}
