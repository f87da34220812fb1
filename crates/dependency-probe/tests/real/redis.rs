//! A real Redis.

use std::process::Command;

use dependency_probe::tcp;

use crate::process::{ALL, SOON, Server, found, port};

/// A Redis with these settings, once it takes connections. Its port.
async fn redis(settings: &[&str]) -> (Server, u16) {
    let root = found("MCP_HEALTH_REDIS");
    let port = port();
    let mut server = Server::new();
    let mut command = Command::new(root.join("usr/bin/redis-server"));
    // Libraries that this machine lacks came with it.
    command.env("LD_LIBRARY_PATH", root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).args(settings);
    server.run(&mut command);
    server
        .awaited(async || {
            let asked = tcp::ask("127.0.0.1", port, ALL, SOON).await.unwrap();
            asked.result.ok()
        })
        .await;
    (server, port)
}

#[tokio::test]
#[ignore = "runs Redis"]
async fn a_redis_takes_connections() {
    let (_server, port) = redis(&[]).await;
    assert_eq!(tcp::ask("localhost", port, ALL, SOON).await.unwrap().result, Ok(()));
}
