//! `cargo xtask demo`: a server breaks, and one watches it being healed.
//!
//! ```text
//! cluster ──► images ──► the operator ──► a server, seen healthy ──► a bad rollout ──► the timeline ──► asked over MCP
//!             (build)    (Helm)           (its policy says Enforce)
//! ```

mod client;
mod screen;
mod tidy;
mod timeline;
mod watch;

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::Cluster;
use crate::cluster::state::DEFAULT_NAME;
use crate::cluster::status::Status;
use crate::error::{Error, Result};
use crate::install::{build_images, helm_install};
use crate::interrupt;
use crate::progress::{Step as Progress, say, seconds};
use screen::{Screen, heading};
use timeline::{Step, Timeline};
use watch::{Seen, Watches};

/// Where the server runs.
const NAMESPACE: &str = "mcp";
/// The server, and its policy.
const SERVER: &str = "mcp-server";
/// Where the operator runs.
const OPERATOR_NAMESPACE: &str = "mcp-health-system";
/// The operator's release.
const RELEASE: &str = "mcp-health-operator";

/// The change that a person makes: from then on the server insists on a setting that nobody gave it.
const CHANGE: &str = "MCP_REQUIRE=DATABASE_URL";

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
    /// Leave everything as it is at the end.
    pub keep: bool,
    /// Allow to install system packages.
    pub install: bool,
}

/// Runs the demo; an error unless the server serves MCP again at its end.
pub fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    let (cluster, brought_up) = cluster(options)?;
    // Whoever stops it half way wants it gone; whoever wants to look wants that after a failure too.
    let keep = || options.keep && !interrupt::requested();
    let crd_was_there = tidy::has_crd(&cluster);
    let outcome = tidy::refuse_what_is_not_ours(&cluster).and_then(|()| {
        let outcome = tidy::prepare(&cluster).and_then(|()| show(&cluster)).map_err(interrupt::explain);
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
        let down = crate::cluster::down::down(&options.name);
        return outcome.and(down);
    }
    outcome
}

/// The cluster to use, and whether it is up only for this demo.
fn cluster(options: &Options) -> Result<(Cluster, bool)> {
    if let Some(context) = &options.context {
        return Ok((Cluster::existing(context)?, false));
    }
    let was_up = Status::of(&options.name)?.node.is_some();
    match Cluster::up(&options.name, options.install) {
        Ok(cluster) => Ok((cluster, !was_up)),
        Err(error) => {
            // Half a cluster is of no use to anybody; one that was there is for its owner to look at.
            if !was_up && Status::of(&options.name)?.node.is_some() {
                crate::cluster::down::down(&options.name)?;
            }
            Err(error)
        }
    }
}

fn show(cluster: &Cluster) -> Result<()> {
    let images = build_images(cluster)?;
    interrupt::check()?;

    let step = Progress::start(format!("installing the operator with Helm into {OPERATOR_NAMESPACE}"));
    let watched = format!("watchNamespaces={{{NAMESPACE}}}");
    let (name, value) = watched.split_once('=').unwrap_or_default();
    helm_install(cluster, &images, RELEASE, OPERATOR_NAMESPACE, &[(name, value)])?;
    step.done();
    interrupt::check()?;

    cluster.apply(&include_str!("server.yaml").replace("IMAGE", &images.demo_server))?;
    let watches = Watches::start(cluster)?;
    let mut timeline = Timeline::default();
    await_health(&watches, &mut timeline)?;

    heading("An MCP server runs, three pods, and the operator looks after it.");
    println!("An MCP client {}.", client::ask(cluster)?);

    heading("Somebody rolls out a change, and forgets half of it:");
    println!("$ kubectl set env deployment/{SERVER} -n {NAMESPACE} {CHANGE}\n");
    let report = incident(cluster, &watches, &mut timeline)?;
    drop(watches);

    heading(&format!("$ kubectl describe mcph {SERVER} -n {NAMESPACE}"));
    print!("{}", describe(cluster)?);

    heading(&report);
    println!("An MCP client {}.", client::ask(cluster)?);
    Ok(())
}

/// Waits until the operator calls the server healthy and knows the template to go back to.
fn await_health(watches: &Watches, timeline: &mut Timeline) -> Result<()> {
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
                "the server is not healthy after {}: look with `kubectl describe mcph {SERVER} -n {NAMESPACE}`",
                seconds(started.elapsed())
            )));
        }
    }
    step.done();
    Ok(())
}

/// Makes the change and tells what follows, until the incident is over; gives a sentence about it.
fn incident(cluster: &Cluster, watches: &Watches, timeline: &mut Timeline) -> Result<String> {
    let screen = Screen::start();
    timeline.begin();
    let mut started = Instant::now();
    cluster.kubectl_run(["set", "env", &format!("deployment/{SERVER}"), "--namespace", NAMESPACE, CHANGE])?;
    let mut times: Vec<(Step, Duration)> = Vec::new();
    while !timeline.is_over() {
        let elapsed = started.elapsed();
        screen.note(elapsed, timeline.next().unwrap_or("watching"));
        if let Some((at, seen)) = next(watches)? {
            for line in timeline.see(&seen) {
                if line.step == Step::Rollout {
                    started = at;
                }
                let after = at.saturating_duration_since(started);
                times.push((line.step, after));
                screen.line(after, &line);
            }
        }
        if elapsed > TO_RECOVERY {
            let described = describe(cluster)?;
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

/// How long what took.
fn sentence(times: &[(Step, Duration)]) -> String {
    let time = |step: Step| times.iter().find(|(one, _)| *one == step).map(|(_, at)| *at);
    let span = |from: Step, to: Step| {
        time(from).zip(time(to)).map(|(from, to)| format!("{:.1} s", to.saturating_sub(from).as_secs_f64()))
    };
    let mut parts = vec!["Healed, and nobody was called".to_owned()];
    parts.extend(
        span(Step::Fault, Step::Acted).map(|span| format!("{span} from the first crash to the repair")),
    );
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

fn describe(cluster: &Cluster) -> Result<String> {
    cluster.kubectl_run(["describe", "mcph", SERVER, "--namespace", NAMESPACE])
}

fn tell_how_to_look(options: &Options) {
    let name = if options.name == DEFAULT_NAME { String::new() } else { format!(" --name {}", options.name) };
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
