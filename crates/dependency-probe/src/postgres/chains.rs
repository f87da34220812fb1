//! Who waits for whom: from what `pg_blocking_pids()` says of each session that waits, the chains with the
//! session at their root, that waits for nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use mcp_health_core::signals::database::{BlockingChain, CHAINS_SEEN, Session};

/// The most waiting sessions of a chain that are listed.
const LISTED: usize = 20;

/// A session that waits for a lock.
pub struct Waiting {
    /// Its process.
    pub pid: i32,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Those whom it waits for; 0 stands for a prepared transaction.
    pub blockers: Vec<i32>,
}

/// The chains, the longest wait first. Sessions that wait for each other in a ring have no root: PostgreSQL
/// itself ends such a deadlock.
pub fn chains(waiting: &[Waiting], sessions: &[Session], now: Timestamp) -> Vec<BlockingChain> {
    let by_pid: HashMap<i32, &Session> = sessions.iter().map(|session| (session.pid, session)).collect();
    let waits: HashMap<i32, &Waiting> = waiting.iter().map(|one| (one.pid, one)).collect();
    let mut behind: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
    for one in waiting {
        for blocker in one.blockers.iter().filter(|blocker| **blocker != one.pid) {
            behind.entry(*blocker).or_default().insert(one.pid);
        }
    }
    let since = |pid: i32| {
        let since = waits.get(&pid).and_then(|one| one.since);
        since.map_or(SignedDuration::ZERO, |since| now.duration_since(since).max(SignedDuration::ZERO))
    };
    let roots = behind.keys().filter(|pid| !waits.contains_key(pid));
    let mut chains: Vec<BlockingChain> = roots
        .map(|root| {
            let (mut seen, mut queue) = (BTreeSet::from([*root]), VecDeque::from([*root]));
            let mut order = Vec::new();
            while let Some(pid) = queue.pop_front() {
                for next in behind.get(&pid).into_iter().flatten().filter(|next| seen.insert(**next)) {
                    order.push(*next);
                    queue.push_back(*next);
                }
            }
            let listed = order.iter().take(LISTED).map(|pid| (session(*pid, &by_pid), since(*pid)));
            BlockingChain { root: session(*root, &by_pid), waiting: listed.collect(), count: order.len() }
        })
        .collect();
    let longest = |chain: &BlockingChain| chain.waiting.iter().map(|(_, since)| *since).max();
    chains.sort_by_key(|chain| std::cmp::Reverse((longest(chain), chain.count)));
    chains.truncate(CHAINS_SEEN);
    chains
}

/// A session, as far as it is known. One that has no process, or ended in between, is never a client's.
fn session(pid: i32, by_pid: &HashMap<i32, &Session>) -> Session {
    let query = if pid == 0 { "a prepared transaction" } else { "" };
    let unknown = || Session { pid, query: query.to_owned(), ..Session::default() };
    by_pid.get(&pid).map_or_else(unknown, |session| (*session).clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn waiting(pid: i32, seconds: i64, blockers: &[i32]) -> Waiting {
        Waiting { pid, since: Timestamp::from_second(-seconds).ok(), blockers: blockers.to_vec() }
    }

    #[test]
    fn a_chain_is_told_from_its_root_and_the_longest_wait_first() {
        let all = [
            waiting(4, 20, &[3, 2]),
            waiting(2, 70, &[1]),
            waiting(3, 50, &[2]),
            waiting(12, 90, &[11]),
            // A ring, and one that waits for it: nobody is at its root.
            waiting(21, 5, &[22]),
            waiting(22, 5, &[21]),
            waiting(23, 5, &[22]),
            waiting(31, 5, &[0]),
        ];
        let sessions = [Session { pid: 1, query: "BEGIN".to_owned(), ..Session::default() }];
        let chains = chains(&all, &sessions, NOW);
        let roots: Vec<_> = chains.iter().map(|chain| (chain.root.pid, chain.count)).collect();
        assert_eq!(roots, [(11, 1), (1, 3), (0, 1)]);
        assert_eq!(chains[1].root.query, "BEGIN");
        let order: Vec<_> =
            chains[1].waiting.iter().map(|(session, since)| (session.pid, since.as_secs())).collect();
        assert_eq!(order, [(2, 70), (3, 50), (4, 20)]);
        assert_eq!(chains[2].root.query, "a prepared transaction");
    }

    proptest! {
        #[test]
        fn whatever_waits_for_whatever_ends_and_is_bounded(
            edges in prop::collection::vec((0_i32..40, prop::collection::vec(-1_i32..40, 0..6)), 0..60),
        ) {
            let all: Vec<_> = edges.iter().map(|(pid, blockers)| waiting(*pid, 1, blockers)).collect();
            let chains = chains(&all, &[], NOW);
            prop_assert!(chains.len() <= CHAINS_SEEN);
            prop_assert!(chains.iter().all(|chain| chain.waiting.len() <= LISTED));
        }
    }
}
