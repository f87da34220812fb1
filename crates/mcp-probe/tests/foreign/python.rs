//! The official SDK and FastMCP, from PyPI: today's releases, which speak both eras, and ones of the legacy era.

use mcp_probe::{Endpoint, Era, Prober, Transport};
use tokio::process::Command;

use crate::install;
use crate::process::Server;
use crate::trial::{GLANCE, Settings, asks_for_its_name, asks_for_its_token, knows_its_path, lives_and_dies};

const SERVER: &str = include_str!("server.py");
const PLAIN_WEBSOCKET: &str = include_str!("websocket.py");

/// A release of one SDK.
#[derive(Clone, Copy)]
pub struct Release {
    sdk: &'static str,
    folder: &'static str,
    packages: &'static [&'static str],
}

pub const FASTMCP_4: Release =
    Release { sdk: "fastmcp", folder: "fastmcp-4.1.0", packages: &["fastmcp==4.1.0"] };
pub const FASTMCP_2: Release =
    Release { sdk: "fastmcp", folder: "fastmcp-2.14.7", packages: &["fastmcp==2.14.7", "mcp==1.30.0"] };
const SDK_2: Release = Release { sdk: "mcp", folder: "mcp-2.3.0", packages: &["mcp==2.3.0"] };
const SDK_1: Release =
    Release { sdk: "mcp", folder: "mcp-1.26.0", packages: &["mcp==1.26.0", "websockets==17.4"] };

impl Release {
    /// How a server on it is started.
    pub async fn command(self, more: Settings<'_>) -> impl Fn(Settings) -> Command {
        let python = install::python(self.folder, self.packages).await;
        let more: Vec<_> = more.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        move |settings| {
            let mut command = Command::new(&python);
            command.args(["-c", SERVER]).env("SDK", self.sdk).envs(more.clone());
            command.envs(settings.iter().copied());
            command
        }
    }

    pub async fn start(self, settings: Settings<'_>) -> Server {
        Server::start(self.command(settings).await(&[])).await
    }

    /// Everything, over Streamable HTTP.
    async fn is_told(self, era: Era, protects_its_name: bool) {
        let command = self.command(&[]).await;
        lives_and_dies(&command, |server| server.endpoint("/mcp"), era).await;
        let gated = Server::start(command(&[("TOKEN", "correct-horse")])).await;
        asks_for_its_token(&gated, "/mcp").await;
        knows_its_path(&gated).await;
        if protects_its_name {
            asks_for_its_name(&Server::start(command(&[("HOSTS", "mcp.example")])).await, "/mcp").await;
        }
    }

    /// Over HTTP+SSE, which is found where a path is all that is known.
    async fn is_told_by_its_stream(self) {
        let command = self.command(&[("TRANSPORT", "sse")]).await;
        lives_and_dies(&command, |server| server.endpoint("/sse"), Era::Legacy).await;
    }
}

#[tokio::test]
#[ignore = "needs Python"]
async fn fastmcp_4_is_told() {
    FASTMCP_4.is_told(Era::Modern, true).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn fastmcp_2_is_told() {
    FASTMCP_2.is_told(Era::Legacy, false).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn the_official_sdk_2_is_told() {
    SDK_2.is_told(Era::Modern, true).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn the_official_sdk_1_is_told() {
    SDK_1.is_told(Era::Legacy, true).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn a_server_without_sessions_or_streams_is_told_all_the_same() {
    for release in [SDK_1, FASTMCP_2] {
        let command = release.command(&[("STATELESS", "1"), ("JSON", "1")]).await;
        lives_and_dies(&command, |server| server.endpoint("/mcp"), Era::Legacy).await;
    }
}

#[tokio::test]
#[ignore = "needs Python"]
async fn the_older_transport_is_found_and_told() {
    SDK_1.is_told_by_its_stream().await;
    FASTMCP_4.is_told_by_its_stream().await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn mcp_over_a_websocket_is_told() {
    let command = SDK_1.command(&[("TRANSPORT", "ws")]).await;
    let endpoint = |server: &Server| Endpoint { transport: Transport::WebSocket, ..server.endpoint("/ws") };
    lives_and_dies(&command, endpoint, Era::Legacy).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn a_websocket_with_messages_of_its_own_is_well_if_it_answers_a_ping() {
    let python = install::python(SDK_1.folder, SDK_1.packages).await;
    for settings in [&[][..], &[("TALKATIVE", "1")]] {
        let mut command = Command::new(&python);
        command.args(["-c", PLAIN_WEBSOCKET]).envs(settings.iter().copied());
        let server = Server::start(command).await;
        let endpoint = Endpoint {
            transport: Transport::WebSocket,
            timeout: std::time::Duration::from_secs(4),
            ..server.endpoint("/")
        };
        let outcome = Prober::new(endpoint).unwrap().ask(None, &GLANCE).await;
        assert_eq!((outcome.result, outcome.era), (Ok(()), None));
    }
}
