//! Whether a server speaks MCP (DESIGN §10), by its pods and through its Services. Each way has a prober of
//! its own, for as long as it is there: what it keeps is the era of the server, and at most one session a
//! pod.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream};
use mcp_health_api::{CanaryTool, McpSignal, McpTransport};
use mcp_health_core::signals::{FaultKind, ProbePath};
use mcp_probe::{Address, Canary, Endpoint, Look, Outcome, Prober, SessionUse, Token, Transport};
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::timeout};

use super::{
    super::{secrets::Secrets, table::Key},
    way::Way,
};

/// `tools/list` is asked each fourth time, where it is [settled](super::seen::Server::is_unsettled).
pub const TOOLS_EACH: u16 = 4;
/// How long a server may take to end a session.
const GOODBYE: Duration = Duration::from_secs(2);
/// Sessions that are ended at the same time.
const AT_ONCE: usize = 64;

/// The probers, by object and way.
#[derive(Default)]
pub struct Probers {
    // None is held while it is asked: one way is never asked twice at a time.
    all: Mutex<HashMap<(Key, ProbePath), Kept>>,
}

struct Kept {
    prober: Prober,
    /// How often it was asked.
    asked: u16,
    /// What it showed the server last: that is needed to end a session too.
    token: Option<Token>,
}

/// What MCP is asked with: the same for all ways of one round.
pub struct Question<'a> {
    /// What the policy says.
    pub mcp: &'a McpSignal,
    /// The namespace of the object, and of its Secret.
    pub namespace: &'a str,
    /// What the server wants to see.
    pub token: Option<Token>,
    /// The tool to call.
    pub canary: Option<Canary>,
}

/// One way, asked once.
pub struct Turn<'a> {
    /// The way.
    pub way: &'a Way,
    /// Where it leads.
    pub endpoint: Endpoint,
    /// `tools/list` is asked in any case.
    pub tools: bool,
    /// What becomes of its session.
    pub session: SessionUse,
    /// The one pod that the way leads to: its session is used.
    pub lender: Option<&'a ProbePath>,
}

impl<'a> Question<'a> {
    /// The question that a policy wants asked; why it cannot be.
    pub async fn new(mcp: &'a McpSignal, namespace: &'a str, secrets: &Secrets) -> Result<Self, String> {
        let token = match &mcp.auth {
            Some(auth) => Some(secrets.token(namespace, &auth.token_secret_ref).await?),
            None => None,
        };
        let canary = mcp.canary_tool.as_ref().map(canary).transpose()?;
        Ok(Self { mcp, namespace, token, canary })
    }
}

fn canary(tool: &CanaryTool) -> Result<Canary, String> {
    let arguments: Map<String, Value> = serde_json::from_str(tool.arguments.as_deref().unwrap_or("{}"))
        .map_err(|_| format!("the arguments of canaryTool {} are no JSON object", tool.name))?;
    Ok(Canary { name: tool.name.to_string(), arguments })
}

impl Probers {
    /// Asks one way once. `Err` where the way leads nowhere, or cannot be asked.
    pub async fn ask(
        &self,
        key: &Key,
        turn: Turn<'_>,
        question: &Question<'_>,
        secrets: &Secrets,
    ) -> Result<Outcome, String> {
        let Turn { way, endpoint, tools, session, lender } = turn;
        let place = (key.clone(), way.path.clone());
        let before = self.all.lock().await.remove(&place);
        let (same, other): (Option<Kept>, Option<Kept>) = match before {
            Some(kept) if *kept.prober.endpoint() == endpoint => (Some(kept), None),
            other => (None, other),
        };
        if let Some(other) = other {
            say_goodbye(other).await;
        }
        let mut kept = if let Some(kept) = same {
            kept
        } else {
            let prober = Prober::new(endpoint).map_err(|error| error.to_string())?;
            Kept { prober, asked: 0, token: None }
        };
        self.lend(&mut kept, key, lender).await;
        let canary = question.canary.clone().filter(|_| matches!(way.path, ProbePath::Pod(_)));
        let tools = tools || kept.asked.is_multiple_of(TOOLS_EACH);
        let look = Look { tools, canary, session };
        kept.asked = kept.asked.wrapping_add(1);
        kept.token.clone_from(&question.token);
        let mut outcome = kept.prober.ask(kept.token.as_ref(), &look).await;
        let refused = outcome.result.as_ref().is_err_and(|fault| fault.kind == FaultKind::Unauthorized);
        if refused
            && let Some(auth) = &question.mcp.auth
            && let Ok(newer) =
                secrets.renewed_token(question.namespace, &auth.token_secret_ref, kept.token.as_ref()).await
        {
            kept.token = Some(newer);
            self.lend(&mut kept, key, lender).await;
            outcome = kept.prober.ask(kept.token.as_ref(), &look).await;
        }
        self.all.lock().await.insert(place, kept);
        Ok(outcome)
    }

    /// Where a way leads to one pod only, it is asked in that pod's session.
    async fn lend(&self, to: &mut Kept, key: &Key, lender: Option<&ProbePath>) {
        if let Some(lender) = lender
            && let Some(other) = self.all.lock().await.get(&(key.clone(), lender.clone()))
        {
            to.prober.borrow(&other.prober);
        }
    }

    /// Ends the sessions of an object on the ways that are no more.
    pub async fn keep_to(&self, key: &Key, ways: &[Way]) {
        let gone = {
            let mut all = self.all.lock().await;
            let is_gone =
                |(of, path): &(Key, ProbePath)| of == key && !ways.iter().any(|way| way.path == *path);
            let gone: Vec<_> = all.keys().filter(|place| is_gone(place)).cloned().collect();
            gone.iter().filter_map(|place| all.remove(place)).collect()
        };
        say_goodbye_to(gone).await;
    }

    /// Ends the sessions of an object that is gone.
    pub async fn forget(&self, key: Key) {
        self.keep_to(&key, &[]).await;
    }

    /// Ends all sessions.
    pub async fn end(&self) {
        let all = self.all.lock().await.drain().map(|(_, kept)| kept).collect();
        say_goodbye_to(all).await;
    }
}

async fn say_goodbye_to(all: Vec<Kept>) {
    stream::iter(all).for_each_concurrent(AT_ONCE, say_goodbye).await;
}

async fn say_goodbye(mut kept: Kept) {
    // A server that does not answer keeps what it keeps.
    let _ = timeout(GOODBYE, kept.prober.close(kept.token.as_ref())).await;
}

/// How MCP is carried, in the prober's words.
pub const fn transport(of: McpTransport) -> Transport {
    match of {
        McpTransport::Auto => Transport::Auto,
        McpTransport::StreamableHTTP => Transport::StreamableHttp,
        McpTransport::SSE => Transport::Sse,
        McpTransport::WebSocket => Transport::WebSocket,
    }
}

/// The endpoint of a way. What no credential is sent with may answer with any certificate, as it does the
/// kubelet.
pub fn endpoint(address: std::net::SocketAddr, way: &Way, mcp: &McpSignal) -> Endpoint {
    Endpoint {
        host: way.host.clone(),
        tls: way.tls,
        unverified: true,
        transport: transport(mcp.transport),
        timeout: mcp.timeout.span().unsigned_abs(),
        ..Endpoint::new(Address::Socket(address), mcp.path.clone())
    }
}
