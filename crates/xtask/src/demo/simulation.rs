//! What the demo cannot show here, and what it says where the node is simulated: before and after, what was
//! played and what was not shown.

use cluster::Cluster;
use cluster::error::{Error, Result};

use super::acts::Act;
use super::screen::heading;
use crate::postgres;

/// An act that is left out, and why.
pub type NotShown = (&'static Act, String);

/// The acts that this cluster can show, and those that it cannot; PostgreSQL may be installed for one.
pub fn split(
    cluster: &Cluster,
    acts: Vec<&'static Act>,
    install: bool,
) -> Result<(Vec<&'static Act>, Vec<NotShown>)> {
    let (mut shown, mut not_shown) = (Vec::new(), Vec::new());
    for act in acts {
        let node = act.needs_a_node.filter(|_| cluster.is_simulated()).map(str::to_owned);
        let why = match node {
            None if act.postgres.is_some() => postgres(install)?,
            node => node,
        };
        match why {
            Some(why) => not_shown.push((act, why)),
            None => shown.push(act),
        }
    }
    Ok((shown, not_shown))
}

/// Why no image can be made of PostgreSQL.
fn postgres(install: bool) -> Result<Option<String>> {
    postgres::ensure(install)?;
    let missing = || format!("PostgreSQL is not on this machine: {}", postgres::how_to_install());
    Ok(postgres::version().is_none().then(missing))
}

/// An error that names the acts that cannot be shown.
pub fn nothing_to_show(not_shown: &[NotShown]) -> Error {
    Error::other(format!("nothing can be shown here: {}", listed(not_shown).join("; ")))
}

/// Names the acts that are left out.
pub fn say_not_shown(not_shown: &[NotShown]) {
    for line in listed(not_shown) {
        println!("Not shown: {line}.");
    }
}

/// Says what is real and what is played.
pub fn say_before(not_shown: &[NotShown]) {
    heading("The node is SIMULATED.");
    println!(
        "Real: etcd, the API server, the controllers, the scheduler, the chart's rights, and the operator, which runs \
         as a process of this machine with a token of its ServiceAccount.\n\
         Played: the node and what it reports about pods. They get ready, end with an exit code and are killed at \
         their memory limit by what their template says; no container runs and no probe is asked."
    );
    say_not_shown(not_shown);
}

/// Says it again, once one has seen it.
pub fn say_after(acts: &[&Act], not_shown: &[NotShown]) {
    heading("What this does not show");
    let names = acts.iter().map(|act| act.name).collect::<Vec<_>>().join(" and ");
    println!(
        "The pods of {names} were simulated: every crash, every kill and every ready pod above was played. That an MCP \
         client is served again was not shown: nothing ran that could have served one."
    );
    say_not_shown(not_shown);
    println!("A machine with root, or a cluster of yours (--context NAME), shows all of it.");
}

fn listed(not_shown: &[NotShown]) -> Vec<String> {
    not_shown.iter().map(|(act, why)| format!("the act {}, since {why}", act.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::acts::ACTS;
    use super::*;

    #[test]
    fn what_is_not_shown_is_named_with_its_reason() {
        let why = |act: &'static Act| Some((act, act.needs_a_node?.to_owned()));
        let error = nothing_to_show(&ACTS.iter().filter_map(why).collect::<Vec<_>>()).to_string();
        assert!(error.contains("broken-config") && error.contains("ConfigMap"), "{error}");
    }
}
