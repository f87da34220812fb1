//! A real Redis, well and unwell.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use dependency_probe::{
    Access, Asked, Trust,
    redis::{self, Look},
    tcp,
};
use mcp_health_core::signals::CheckStep;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{ALL, SOON, Server, found, port};

/// Runs a Redis with these settings until it takes connections on this port.
async fn run(server: &mut Server, port: u16, settings: &[&str]) {
    let root = found("MCP_HEALTH_REDIS");
    let mut command = Command::new(root.join("usr/bin/redis-server"));
    // Libraries that this machine lacks came with it.
    command.env("LD_LIBRARY_PATH", root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)));
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]).args(settings);
    server.run(&mut command);
    server.awaited(async || tcp::ask("127.0.0.1", port, ALL, SOON).await.unwrap().result.ok()).await;
}

/// A Redis with these settings. Its port.
async fn redis(settings: &[&str]) -> (Server, u16) {
    let (mut server, port) = (Server::new(), port());
    run(&mut server, port, settings).await;
    (server, port)
}

async fn look(url: &str, before: Option<&Look>) -> (Asked, Option<Look>) {
    let access = Access::redis(url).unwrap();
    redis::ask(&access, &Trust::own(), before, ALL, SOON).await.unwrap()
}

async fn ask(port: u16) -> Asked {
    look(&format!("redis://127.0.0.1:{port}"), None).await.0
}

fn said(asked: &Asked) -> (CheckStep, &str) {
    let failure = asked.result.as_ref().unwrap_err();
    (failure.step, &failure.said)
}

/// Has it carry out a command; what it answers, on one line.
fn command(port: u16, words: &[&str]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "*{}\r\n", words.len()).unwrap();
    for word in words {
        write!(stream, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

/// Writes this many values of a hundred kilobytes; the last answer.
fn fill(port: u16, values: usize) -> String {
    let value = "x".repeat(100_000);
    let mut answers = (0..values).map(|number| command(port, &["SET", &number.to_string(), &value]));
    answers.by_ref().take(values - 1).for_each(drop);
    answers.next().unwrap()
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn a_redis_that_is_well_tells_of_its_memory_and_its_start() {
    let (_server, port) = redis(&[]).await;
    let (asked, before) = look(&format!("redis://127.0.0.1:{port}/3"), None).await;
    assert_eq!(asked.result, Ok(()));
    assert!(asked.remarks[0].starts_with("started "), "{asked:?}");
    assert!(
        asked.remarks[1].starts_with("uses ") && asked.remarks[1].ends_with(", without a limit"),
        "{asked:?}"
    );
    assert!(before.is_some());
    let (asked, _) = look(&format!("redis://127.0.0.1:{port}/99"), None).await;
    assert_eq!(said(&asked), (CheckStep::Answer, "answers ERR DB index is out of range"));
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn a_full_redis_that_evicts_nothing_refuses_writes_and_one_that_evicts_tells_how_much() {
    let (_server, port) = redis(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]).await;
    assert!(fill(port, 60).starts_with("-OOM"));
    let asked = ask(port).await;
    assert_eq!(said(&asked).0, CheckStep::Answer);
    assert!(said(&asked).1.starts_with("its memory is full ("), "{asked:?}");
    assert!(said(&asked).1.ends_with(" of 4 MiB, policy noeviction): writes are refused"), "{asked:?}");
    command(port, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let url = format!("redis://127.0.0.1:{port}");
    let (_, before) = look(&url, None).await;
    assert!(fill(port, 60).starts_with("+OK"));
    let (asked, _) = look(&url, before.as_ref()).await;
    assert_eq!(asked.result, Ok(()));
    let evicted =
        asked.remarks.iter().any(|one| one.starts_with("evicted ") && one.ends_with(" since the last look"));
    assert!(evicted, "{asked:?}");
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn a_login_that_is_refused_is_told_without_the_password() {
    let (_server, port) = redis(&["--requirepass", "s3cret"]).await;
    let asks = "asks for a password, and its Secret has none";
    assert_eq!(said(&ask(port).await), (CheckStep::Login, asks));
    for wrong in ["wr0ng", "mcp:wr0ng"] {
        let wrong = if wrong.contains(':') { wrong.to_owned() } else { format!(":{wrong}") };
        let (asked, _) = look(&format!("redis://{wrong}@127.0.0.1:{port}"), None).await;
        assert_eq!(said(&asked), (CheckStep::Login, "refuses its user or password (WRONGPASS)"));
    }
    let (asked, _) = look(&format!("redis://:s3cret@127.0.0.1:{port}"), None).await;
    assert_eq!(asked.result, Ok(()));
    let (_server, port) = redis(&[]).await;
    let (asked, _) = look(&format!("redis://:s3cret@127.0.0.1:{port}"), None).await;
    assert_eq!(said(&asked).0, CheckStep::Login);
    assert!(!format!("{asked:?}").contains("s3cret"), "{asked:?}");
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn a_restart_is_told() {
    let (mut server, port) = redis(&[]).await;
    let url = format!("redis://127.0.0.1:{port}");
    let (_, before) = look(&url, None).await;
    server.stop();
    assert_eq!(said(&ask(port).await).0, CheckStep::Port);
    run(&mut server, port, &[]).await;
    let (asked, again) = look(&url, before.as_ref()).await;
    assert!(asked.remarks[0].starts_with("restarted "), "{asked:?}");
    let (asked, _) = look(&url, again.as_ref()).await;
    assert!(asked.remarks[0].starts_with("started "), "{asked:?}");
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn a_stopped_process_takes_connections_and_does_not_answer() {
    let (server, port) = redis(&[]).await;
    let pid = Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let access = Access::redis(&format!("redis://127.0.0.1:{port}")).unwrap();
    let short = Duration::from_millis(500);
    let (asked, _) = redis::ask(&access, &Trust::own(), None, ALL, short).await.unwrap();
    assert_eq!(said(&asked), (CheckStep::Answer, "takes the connection, and does not answer in time"));
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn one_that_takes_no_more_clients_and_a_replica_that_is_written_to_are_told() {
    let (mut server, port) = redis(&["--maxclients", "1"]).await;
    // The connection of whoever awaited the start may be counted for a while yet.
    let full = server.awaited(async || {
        let _first = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let asked = ask(port).await;
        // It may cut the connection so soon that its words are lost.
        let is_told = asked.result.as_ref().is_err_and(|failure| !failure.said.starts_with("cuts "));
        is_told.then_some(asked)
    });
    assert_eq!(said(&full.await), (CheckStep::Answer, "takes no more clients (maxclients is reached)"));
    let (_server, port) = redis(&["--replicaof", "127.0.0.1 1"]).await;
    let url = format!("redis://127.0.0.1:{port}");
    let (asked, before) = look(&url, None).await;
    assert_eq!(asked.result, Ok(()));
    assert_eq!(asked.remarks.last().unwrap(), "is a replica of 127.0.0.1, and has lost it");
    assert!(command(port, &["SET", "a", "b"]).starts_with("-READONLY"));
    let (asked, _) = look(&url, before.as_ref()).await;
    let says = "is a read-only replica, and was written to: writes are refused (READONLY)";
    assert_eq!(said(&asked), (CheckStep::Answer, says));
    command(port, &["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    assert!(said(&ask(port).await).1.ends_with("answers nothing (MASTERDOWN)"));
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn one_that_cannot_save_its_data_is_told_since_it_refuses_writes() {
    let mut server = Server::new();
    let (port, folder) = (port(), server.folder.path().join("gone"));
    std::fs::create_dir(&folder).unwrap();
    let settings = ["--save", "3600 1000", "--stop-writes-on-bgsave-error", "yes"];
    run(&mut server, port, &[&settings[..], &["--dir", folder.to_str().unwrap()]].concat()).await;
    let url = format!("redis://127.0.0.1:{port}");
    let (asked, before) = look(&url, None).await;
    assert_eq!(asked.result, Ok(()));
    // Nobody can write there, not even root.
    std::fs::remove_dir(folder).unwrap();
    assert!(command(port, &["SET", "a", "b"]).starts_with("+OK"));
    assert!(command(port, &["BGSAVE"]).starts_with('+'));
    server.awaited(async || command(port, &["SET", "a", "c"]).starts_with("-MISCONF").then_some(())).await;
    let (asked, _) = look(&url, before.as_ref()).await;
    let says = "refuses writes: it cannot write its data to disk (MISCONF)";
    assert_eq!(said(&asked), (CheckStep::Answer, says));
    // It may be told to write all the same.
    command(port, &["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    let asked = ask(port).await;
    assert_eq!(asked.result, Ok(()));
    assert!(asked.remarks.iter().any(|one| one == "its last snapshot failed"), "{asked:?}");
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn one_that_loads_its_data_is_told_until_it_has_them() {
    let (mut server, port) = redis(&[]).await;
    assert!(fill(port, 60).starts_with("+OK"));
    assert!(command(port, &["SAVE"]).starts_with("+OK"));
    server.stop();
    // Each value takes a second.
    let slow = ["--key-load-delay", "1000000", "--loading-process-events-interval-bytes", "1024"];
    run(&mut server, port, &slow).await;
    let says = "is loading its data, and answers nothing until then";
    assert_eq!(said(&ask(port).await), (CheckStep::Answer, says));
    command(port, &["CONFIG", "SET", "key-load-delay", "0"]);
    server.awaited(async || ask(port).await.result.ok()).await;
    assert!(command(port, &["DBSIZE"]).starts_with(":60"));
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn tls_is_spoken_by_a_certificate_that_holds() {
    let (mut server, plain, port) = (Server::new(), port(), port());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let file = |name: &str, text: String| {
        let path = server.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (crt, pem) = (file("tls.crt", certificate.pem()), file("tls.key", key.serialize_pem()));
    let port_text = port.to_string();
    let settings = ["--tls-port", &port_text, "--tls-cert-file", &crt, "--tls-key-file", &pem];
    let settings = [&settings[..], &["--tls-auth-clients", "no", "--tls-ca-cert-file", &crt]].concat();
    run(&mut server, plain, &settings).await;
    let access = Access::redis(&format!("rediss://127.0.0.1:{port}")).unwrap();
    let trust = Trust::pem(certificate.pem().as_bytes()).unwrap();
    let (asked, _) = redis::ask(&access, &trust, None, ALL, SOON).await.unwrap();
    assert_eq!(asked.result, Ok(()));
    assert!(asked.certificate.is_some());
    let (asked, _) = redis::ask(&access, &Trust::own(), None, ALL, SOON).await.unwrap();
    assert_eq!(said(&asked).0, CheckStep::Certificate);
    // It takes a handshake for a command that goes on.
    let access = Access::redis(&format!("rediss://127.0.0.1:{plain}")).unwrap();
    let short = Duration::from_millis(500);
    let (asked, _) = redis::ask(&access, &trust, None, ALL, short).await.unwrap();
    assert_eq!(said(&asked).0, CheckStep::Handshake);
}
