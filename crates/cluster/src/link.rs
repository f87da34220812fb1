//! The one link between this machine and the node's network namespace, as this machine sees it: a virtual
//! link, a route and four filter rules.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{run, succeeds, which};
use crate::error::Result;
use crate::network::{Network, ip_program};
use crate::state::Layout;

/// Takes away the link and the rules on this machine's side, whatever of them is there.
pub fn remove(layout: &Layout) -> Result<()> {
    let link = link_name(layout);
    let is_there = || which("ip").is_some() && succeeds(ip().args(["link", "show", "dev", &link]));
    if is_there() {
        let removed = run("removing the link to the node", ip().args(["link", "delete", "dev", &link]));
        // The kernel removes it too, a moment after the node's namespace is gone: whoever comes first.
        if is_there() {
            removed?;
        }
    }
    if which("iptables").is_none() {
        return Ok(());
    }
    for (table, chain) in [("nat", "POSTROUTING"), ("filter", "FORWARD")] {
        let filter = || {
            let mut command = Command::new(iptables_program());
            command.args(["-w", "-t", table]);
            command
        };
        let listed = run("reading the packet filter", filter().args(["-S", chain]))?;
        for rule in ours(&listed, &comment(layout)) {
            run("removing a packet filter rule", filter().args(rule))?;
        }
    }
    Ok(())
}

/// The arguments that delete each listed rule that carries the comment.
fn ours(listed: &str, comment: &str) -> Vec<Vec<String>> {
    listed
        .lines()
        .map(|line| line.split_ascii_whitespace().map(|word| word.trim_matches('"').to_owned()).collect())
        .filter(|words: &Vec<String>| words.iter().any(|word| word == comment))
        .map(|mut words| {
            "-D".clone_into(&mut words[0]);
            words
        })
        .collect()
}

/// Pods reach the world through this machine; the world does not reach pods. Later ones end up before earlier
/// ones.
pub(crate) fn rules(layout: &Layout, network: Network) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let link = link_name(layout);
    let all = network.all();
    let comment = comment(layout);
    let rule = |table, chain, words: &[&str]| {
        let words = words.iter().copied().chain(["-m", "comment", "--comment", &comment]);
        (table, chain, words.map(str::to_owned).collect())
    };
    vec![
        rule("nat", "POSTROUTING", &["-s", &all, "!", "-d", &all, "-j", "MASQUERADE"]),
        rule("filter", "FORWARD", &["-o", &link, "-j", "DROP"]),
        rule("filter", "FORWARD", &["-i", &link, "-j", "ACCEPT"]),
        rule(
            "filter",
            "FORWARD",
            &["-o", &link, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        ),
    ]
}

/// The name of the link on this machine's side; the kernel allows 15 characters.
pub fn link_name(layout: &Layout) -> String {
    format!("mcph-{}", layout.id)
}

fn comment(layout: &Layout) -> String {
    format!("mcp-health-{}", layout.id)
}

/// [`ip_program`], with its arguments to be added.
pub(crate) fn ip() -> Command {
    Command::new(ip_program())
}

/// The program that shows and sets the rules of the packet filter.
pub(crate) fn iptables_program() -> PathBuf {
    which("iptables").unwrap_or_else(|| "iptables".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_with_our_comment_are_deleted() {
        let listed = "-P FORWARD ACCEPT\n\
            -A FORWARD -i docker0 -j ACCEPT\n\
            -A FORWARD -i mcph-abc -m comment --comment mcp-health-abc -j ACCEPT\n\
            -A FORWARD -o x -m comment --comment \"mcp-health-abcdef\" -j DROP";
        let deletions = ours(listed, "mcp-health-abc");
        assert_eq!(deletions.len(), 1);
        assert_eq!(
            deletions[0].join(" "),
            "-D FORWARD -i mcph-abc -m comment --comment mcp-health-abc -j ACCEPT"
        );
    }
}
