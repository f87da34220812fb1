//! The TypeScript SDK, from npm: version 1 with sessions, and version 2.

use mcp_probe::Era;
use tokio::process::Command;

use crate::install;
use crate::process::Server;
use crate::trial::{Settings, asks_for_its_name, asks_for_its_token, knows_its_path, lives_and_dies};

const VERSION_1: (&str, &[&str], &str) =
    ("sdk-1.17.5", &["@modelcontextprotocol/sdk@1.17.5"], include_str!("node_1.mjs"));
const VERSION_2: (&str, &[&str], &str) = (
    "server-2.4.0",
    &["@modelcontextprotocol/server@2.4.0", "@modelcontextprotocol/node@2.1.2"],
    include_str!("node_2.mjs"),
);

async fn command((name, packages, code): (&str, &[&str], &'static str)) -> impl Fn(Settings) -> Command {
    let folder = install::node(name, packages).await;
    move |settings| {
        let mut command = Command::new("node");
        command.args(["--input-type=module", "-e", code]).current_dir(&folder);
        command.envs(settings.iter().copied());
        command
    }
}

#[tokio::test]
#[ignore = "needs Node"]
async fn the_typescript_sdk_1_is_told() {
    let command = command(VERSION_1).await;
    lives_and_dies(&command, |server| server.endpoint("/mcp"), Era::Legacy).await;
    let gated = Server::start(command(&[("TOKEN", "correct-horse")])).await;
    asks_for_its_token(&gated, "/mcp").await;
    asks_for_its_name(&Server::start(command(&[("HOSTS", "mcp.example")])).await, "/mcp").await;
    knows_its_path(&Server::start(command(&[])).await).await;
}

#[tokio::test]
#[ignore = "needs Node"]
async fn the_typescript_sdk_1_is_told_by_its_stream() {
    lives_and_dies(command(VERSION_1).await, |server| server.endpoint("/sse"), Era::Legacy).await;
}

#[tokio::test]
#[ignore = "needs Node"]
async fn the_typescript_sdk_2_is_told() {
    let command = command(VERSION_2).await;
    lives_and_dies(&command, |server| server.endpoint("/mcp"), Era::Modern).await;
    let guarded = Server::start(command(&[("HOSTS", "mcp.example")])).await;
    asks_for_its_name(&guarded, "/mcp").await;
}
