//! Thousands of probes leave nothing behind with the server.

use std::time::Instant;

use crate::process::Server;
use crate::python::{FASTMCP_2, FASTMCP_4, Release};
use crate::trial::{GLANCE, TOOLS};

/// How many probers ask at the same time.
const AT_ONCE: usize = 8;
/// What a server may grow by while it is only asked how it is, in KiB.
const GROWTH: u64 = 4 * 1024;

/// A server of each era, and the sessions that it keeps for so many probers.
const EACH: [(Release, usize); 2] = [(FASTMCP_4, 0), (FASTMCP_2, AT_ONCE)];

/// Asks so many times, with the tools every tenth time, as a policy has it by default.
async fn ask(server: &Server, probes: usize, sessions: usize) {
    let rounds = (0..AT_ONCE).map(|_| {
        let mut prober = server.prober("/mcp");
        async move {
            for round in 0..probes / AT_ONCE {
                let look = if round % 10 == 0 { TOOLS } else { GLANCE };
                assert_eq!(prober.ask(None, &look).await.result, Ok(()), "in round {round}");
            }
            prober
        }
    });
    let probers: Vec<_> = futures::future::join_all(rounds).await;
    assert_eq!(server.sessions().await, sessions, "sessions while {AT_ONCE} probers ask");
    for mut prober in probers {
        prober.close(None).await;
    }
    assert_eq!(server.sessions().await, 0, "sessions are left");
}

async fn leaves_nothing(release: Release, sessions: usize, probes: usize) {
    let server = release.start(&[]).await;
    let fresh = server.resident();
    ask(&server, 1000, sessions).await;
    let (before, began) = (server.resident(), Instant::now());
    ask(&server, probes - 1000, sessions).await;
    let (after, took) = (server.resident(), began.elapsed());
    println!(
        "{probes} probes: {fresh} KiB, {before} KiB after 1000, {after} KiB at the end; the last {} in {took:.1?}",
        probes - 1000
    );
    assert!(after < before + GROWTH, "it grew from {before} to {after} KiB");
}

#[tokio::test]
#[ignore = "needs Python"]
async fn probes_leave_no_session_and_no_memory_with_a_server_of_either_era() {
    for (release, sessions) in EACH {
        leaves_nothing(release, sessions, 2000).await;
    }
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn ten_thousand_probes_leave_no_session_and_no_memory() {
    for (release, sessions) in EACH {
        leaves_nothing(release, sessions, 10_000).await;
    }
}
