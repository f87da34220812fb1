//! One endpoint, asked again and again: what is remembered of it, and what a probe consists of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use mcp_health_core::mcp::{
    self, Asked, Era, Judged, LEGACY, MAX_PAGES, MAX_TOOLS, Page, Question, called, judge,
};
use mcp_health_core::signals::{Fault, FaultKind, Tool};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::connection;
use crate::endpoint::{Endpoint, InvalidEndpoint, Transport};
use crate::event_stream::EventStream;
use crate::request::{CLIENT, CLIENT_VERSION, Request, SESSION_ID, Session};
use crate::retry_after::retry_after;
use crate::streamable::Http;
use crate::token::Token;
use crate::websocket::WebSocket;

/// Sessions lost one probe after another, from which on none is kept: requests go to several pods, and each lost
/// session would stay with one of them.
const LOST_IN_A_ROW: u32 = 2;

/// What a probe looks at, beside whether MCP is spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// `tools/list` is asked too.
    pub tools: bool,
    /// This tool is called too.
    pub canary: Option<Canary>,
    /// What becomes of a session.
    pub session: SessionUse,
}

/// What becomes of a legacy server's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionUse {
    /// It lasts until the next probe.
    #[default]
    Keep,
    /// The same, if another client is let in beside it: that is tried.
    KeepIfShared,
    /// It ends with the probe, unless it is [borrowed](Prober::borrow).
    End,
}

/// The one tool that may be called, as the policy names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// Its name.
    pub name: String,
    /// What it is called with.
    pub arguments: Map<String, Value>,
}

/// What a probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The era that the server speaks, where that is known.
    pub era: Option<Era>,
    /// How long it took to find out whether MCP is spoken.
    pub took: Duration,
    /// Whether MCP is spoken: `server/discover`, or a session and `ping`.
    pub result: Result<(), Fault>,
    /// What `tools/list` came to, where it was asked: only after MCP was spoken.
    pub listed: Option<Listed>,
    /// What the canary came to, where it was called: only after MCP was spoken.
    pub canary: Option<Canaried>,
    /// Another client was let in beside the session, or there is none between two probes.
    pub is_shared: bool,
    /// The server wants no request for so long.
    pub retry_after: Option<Duration>,
    /// So many HTTP requests were sent.
    pub requests: u32,
}

/// What `tools/list` came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// How long it took.
    pub took: Duration,
    /// All tools, sorted by name; `None` where they are not known to be all. A server that offers no list
    /// has none.
    pub result: Result<Option<Vec<Tool>>, Fault>,
}

/// What the call of a canary came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Canaried {
    /// How long it took.
    pub took: Duration,
    /// Whether the tool did what it is for.
    pub result: Result<(), Fault>,
}

/// Asks one endpoint. Dropped without [`Prober::close`], it may leave a session with a legacy server.
pub struct Prober {
    endpoint: Arc<Endpoint>,
    host: HeaderValue,
    path: PathAndQuery,
    /// Known since an answer was well.
    era: Option<Era>,
    /// Where the era is not known: which is tried first.
    first: Era,
    /// `Auto` found HTTP+SSE.
    is_event_stream: bool,
    /// It answered plain HTTP no more, and speaks TLS.
    over_tls: Option<Arc<Endpoint>>,
    session: Option<Session>,
    /// The session is another prober's.
    is_borrowed: bool,
    lost_in_a_row: u32,
    last_id: u64,
    sent: Arc<AtomicU32>,
}

impl Prober {
    /// A prober that knows nothing of the server yet.
    pub fn new(endpoint: Endpoint) -> Result<Self, InvalidEndpoint> {
        let (host, path) = endpoint.checked()?;
        Ok(Self {
            is_event_stream: endpoint.transport == Transport::Sse,
            over_tls: None,
            endpoint: Arc::new(endpoint),
            host,
            path,
            era: None,
            first: Era::Modern,
            session: None,
            is_borrowed: false,
            lost_in_a_row: 0,
            last_id: 0,
            sent: Arc::default(),
        })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Uses the session that another prober of the same server keeps, where it keeps one: a server that has
    /// one pod then has one session, by whichever path it is asked.
    pub fn borrow(&mut self, from: &Self) {
        let is_alike = from.era == Some(Era::Legacy) && !from.is_event_stream;
        if is_alike
            && self.session.is_none()
            && let Some(session) = &from.session
        {
            (self.era, self.session, self.is_borrowed) = (Some(Era::Legacy), Some(session.clone()), true);
        }
    }

    /// Asks once. It ends within the endpoint's time-out, and as long again for the list of tools and for
    /// the canary; cut off before, it may leave a session with a legacy server.
    pub async fn ask(&mut self, token: Option<&Token>, look: &Look) -> Outcome {
        self.sent.store(0, Ordering::Relaxed);
        let outcome = self.ask_once(token, look).await;
        let Err(fault) = &outcome.result else { return outcome };
        if self.over_tls.is_some() {
            // It may have gone back to plain HTTP.
            self.over_tls = self.over_tls.take().filter(|_| fault.kind != FaultKind::Tls);
            return outcome;
        }
        if self.endpoint.tls || !may_be_tls(fault) {
            return outcome;
        }
        let left = self.endpoint.timeout.saturating_sub(outcome.took);
        if !connection::speaks_tls(&self.endpoint, Instant::now() + left).await {
            return outcome;
        }
        self.over_tls = Some(Arc::new(Endpoint { tls: true, ..(*self.endpoint).clone() }));
        (self.era, self.first, self.session, self.is_borrowed) = (None, Era::Modern, None, false);
        self.ask_once(token, look).await
    }

    async fn ask_once(&mut self, token: Option<&Token>, look: &Look) -> Outcome {
        let began = Instant::now();
        let channel = Channel::Http(self.http(token));
        let mut probe = Probe { prober: self, channel, token, retry_after: None };
        let mut spoken = probe.mcp().await;
        let took = began.elapsed();
        let (mut listed, mut canaried, mut is_shared) = (None, None, false);
        if spoken.is_ok() && look.session == SessionUse::KeepIfShared {
            match probe.second_client().await {
                Ok(is_let_in) => is_shared = is_let_in,
                Err(fault) => spoken = Err(fault),
            }
        }
        if let Ok(Some(offer)) = &spoken {
            if look.tools && probe.retry_after.is_none() {
                listed = Some(probe.list(offer).await);
            }
            if let Some(canary) = &look.canary
                && probe.retry_after.is_none()
            {
                canaried = Some(probe.call(offer, canary).await);
            }
        }
        if look.session == SessionUse::End || probe.prober.lost_in_a_row >= LOST_IN_A_ROW {
            probe.end_session().await;
        }
        if let Channel::Socket(socket) = &mut probe.channel {
            socket.close().await;
        }
        let (retry_after, requests) = (probe.retry_after, probe.prober.sent.load(Ordering::Relaxed));
        Outcome {
            era: self.era,
            took,
            result: spoken.map(|_| ()),
            listed,
            canary: canaried,
            is_shared,
            retry_after,
            requests,
        }
    }

    /// Ends the session that a legacy server keeps for this prober, if there is one.
    pub async fn close(&mut self, token: Option<&Token>) {
        let channel = Channel::Http(self.http(token));
        Probe { prober: self, channel, token, retry_after: None }.end_session().await;
    }

    fn http(&self, token: Option<&Token>) -> Http {
        Http::new(self.dialled(), self.host.clone(), self.path.clone(), token, &self.sent)
    }

    /// The endpoint as it is asked: over TLS where it was found to speak that.
    const fn dialled(&self) -> &Arc<Endpoint> {
        match &self.over_tls {
            Some(over_tls) => over_tls,
            None => &self.endpoint,
        }
    }
}

/// One probe under way.
struct Probe<'a> {
    prober: &'a mut Prober,
    channel: Channel,
    token: Option<&'a Token>,
    /// The server wants no further request for so long.
    retry_after: Option<Duration>,
}

/// How a server that speaks MCP is asked further.
#[derive(Clone, Copy, Debug)]
struct Offer {
    era: Era,
    /// It said that it has tools.
    tools: bool,
}

impl Probe<'_> {
    /// Whether MCP is spoken, in whichever transport; `None` where nothing further can be asked.
    async fn mcp(&mut self) -> Result<Option<Offer>, Fault> {
        if self.prober.endpoint.transport == Transport::WebSocket {
            return self.web_socket().await;
        }
        let is_auto = self.prober.endpoint.transport == Transport::Auto;
        if self.prober.is_event_stream {
            let result = self.event_stream().await.map(Some);
            self.prober.is_event_stream = !(is_auto && result.as_ref().is_err_and(is_of_the_protocol));
            return result;
        }
        let result = self.streamable().await.map(Some);
        let Err(fault) = &result else { return result };
        let may_be_a_stream = matches!(fault.kind, FaultKind::NotFound | FaultKind::UnexpectedStatus);
        if is_auto
            && may_be_a_stream
            && let Ok(offer) = self.event_stream().await
        {
            self.prober.is_event_stream = true;
            return Ok(Some(offer));
        }
        result
    }

    /// Streamable HTTP, in whichever era.
    async fn streamable(&mut self) -> Result<Offer, Fault> {
        let known = self.prober.era;
        if known.unwrap_or(self.prober.first) == Era::Modern {
            match self.modern().await {
                Ok(Some(offer)) => {
                    self.prober.era = Some(Era::Modern);
                    self.prober.session = None;
                    return Ok(offer);
                }
                Ok(None) => {}
                Err(fault) => {
                    // Some legacy servers say nothing sensible to what they do not know: next time they are asked in
                    // their own way.
                    if known.is_none() && (is_of_the_protocol(&fault) || is_silence(&fault)) {
                        self.prober.first = Era::Legacy;
                    }
                    return Err(fault);
                }
            }
        }
        let result = self.legacy().await;
        match &result {
            Ok(_) => self.prober.era = Some(Era::Legacy),
            Err(fault) if is_of_the_protocol(fault) => {
                // It may speak something else by now.
                self.prober.era = None;
                self.prober.first = Era::Modern;
            }
            Err(fault) if known.is_none() && is_silence(fault) => self.prober.first = Era::Modern,
            Err(_) => {}
        }
        result
    }

    /// `server/discover`; `None` where the server speaks the legacy era.
    async fn modern(&mut self) -> Result<Option<Offer>, Fault> {
        match self.say(Era::Modern, Asked::Discover, Map::new()).await?.1 {
            Judged::Well(result) => Ok(Some(Offer { era: Era::Modern, tools: has_tools(&result) })),
            Judged::Legacy => Ok(None),
            other => Err(out_of_place(other)),
        }
    }

    /// `ping` in the session that is there; else a session, which is kept.
    async fn legacy(&mut self) -> Result<Offer, Fault> {
        if self.prober.session.is_none() {
            self.begin_session().await?;
        } else {
            match self.say(Era::Legacy, Asked::Ping, Map::new()).await?.1 {
                Judged::Well(_) | Judged::NotOffered => self.prober.lost_in_a_row = 0,
                Judged::NoSession => {
                    (self.prober.session, self.prober.is_borrowed) = (None, false);
                    self.prober.lost_in_a_row = self.prober.lost_in_a_row.saturating_add(1);
                    self.begin_session().await?;
                }
                other => return Err(out_of_place(other)),
            }
        }
        let tools = self.prober.session.as_ref().is_some_and(|session| session.tools);
        Ok(Offer { era: Era::Legacy, tools })
    }

    /// HTTP+SSE: a handshake, and a session that lasts as long as its stream.
    async fn event_stream(&mut self) -> Result<Offer, Fault> {
        let endpoint = Arc::clone(self.prober.dialled());
        let stream = EventStream::open(self.another_way(), &endpoint, self.hidden()).await?;
        self.channel = Channel::Events(Box::new(stream));
        self.whole_conversation().await
    }

    /// Handshake and questions, in a session that is over with its connection.
    async fn whole_conversation(&mut self) -> Result<Offer, Fault> {
        self.prober.session = None;
        let result = self.legacy().await;
        if result.is_ok() {
            self.prober.era = Some(Era::Legacy);
        }
        result
    }

    /// HTTP to the same endpoint, over a connection of its own, until the same deadline.
    fn another_way(&self) -> Http {
        let mut http = self.prober.http(self.token);
        http.deadline = self.channel.deadline();
        http
    }

    /// WebSocket: a ping of its own, one of MCP, and the handshake. Servers that speak something of their own over it
    /// are asked for any answer (guide 002).
    async fn web_socket(&mut self) -> Result<Option<Offer>, Fault> {
        let mut socket = WebSocket::open(self.another_way(), self.hidden()).await?;
        socket.ping().await?;
        // Half of the time for the one way to ask, half for the other.
        let deadline = socket.deadline;
        socket.deadline = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
        self.channel = Channel::Socket(Box::new(socket));
        let judged = self.say(Era::Legacy, Asked::Ping, Map::new()).await?.1;
        self.channel.set_deadline(deadline);
        match judged {
            Judged::Well(_) | Judged::NotOffered => {}
            Judged::Fault(fault) => match (fault.kind, &mut self.channel) {
                // It wants the handshake first.
                (FaultKind::RpcError, _) => {}
                (FaultKind::Malformed, Channel::Socket(socket)) if socket.is_open() => return Ok(None),
                (FaultKind::TimedOut, Channel::Socket(socket)) => {
                    return socket.ask_plainly().await.map(|()| None);
                }
                _ => return Err(fault),
            },
            other => return Err(out_of_place(other)),
        }
        self.whole_conversation().await.map(Some)
    }

    /// `initialize`, in a version that both speak, and `notifications/initialized`.
    async fn begin_session(&mut self) -> Result<(), Fault> {
        let mut version = LEGACY[0];
        loop {
            let (headers, judged) = self.initialize(version).await?;
            let session = |result: &Value| Session {
                id: headers.get(SESSION_ID).cloned(),
                version: spoken(result),
                tools: has_tools(result),
            };
            match judged {
                Judged::Version(other) if version == LEGACY[0] => version = other,
                Judged::Well(result) => {
                    self.prober.session = Some(session(&result));
                    break;
                }
                other => return Err(out_of_place(other)),
            }
        }
        match self.say(Era::Legacy, Asked::Initialized, Map::new()).await?.1 {
            Judged::Well(_) => Ok(()),
            other => {
                if other == Judged::NoSession {
                    self.prober.session = None;
                }
                Err(out_of_place(other))
            }
        }
    }

    async fn initialize(&mut self, version: &str) -> Result<(HeaderMap, Judged), Fault> {
        let params = [
            ("protocolVersion", json!(version)),
            ("capabilities", json!({})),
            ("clientInfo", json!({"name": CLIENT, "version": CLIENT_VERSION})),
        ];
        let params = params.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        self.say(Era::Legacy, Asked::Initialize, params).await
    }

    /// Begins a second session beside the one that is there, and ends it: whether it was let in, or that is
    /// not known. Where it is refused, the server serves one client at a time: then the first one ends at
    /// once.
    async fn second_client(&mut self) -> Result<bool, Fault> {
        let Some(first) = self.prober.session.take_if(|_| matches!(self.channel, Channel::Http(_))) else {
            return Ok(true);
        };
        self.channel.set_deadline(Instant::now() + self.prober.endpoint.timeout);
        let answered = self.initialize(first.version).await;
        let (id, version) = (first.id.clone(), first.version);
        let is_let_in = match answered {
            Ok((headers, Judged::Well(_) | Judged::Version(_))) => {
                let second = headers.get(SESSION_ID).cloned().filter(|second| Some(second) != id.as_ref());
                self.prober.session = second.map(|id| Session { id: Some(id), version, tools: false });
                self.end_session().await;
                Ok(true)
            }
            Ok((_, Judged::Fault(fault))) if !is_momentary(fault.kind) => Err(fault),
            Ok(_) | Err(_) => Ok(false),
        };
        self.prober.session = Some(first);
        match is_let_in {
            Ok(is_let_in) => Ok(is_let_in),
            Err(fault) => {
                self.end_session().await;
                let said = format!("serves one client at a time: a second one {}", fault.said);
                Err(Fault::new(FaultKind::SingleClient, said))
            }
        }
    }

    /// Ends the session, if the server gave it an id.
    async fn end_session(&mut self) {
        if std::mem::take(&mut self.prober.is_borrowed) {
            self.prober.session = None;
            return;
        }
        let Some(session) = self.prober.session.take().filter(|session| session.id.is_some()) else { return };
        if let Channel::Http(http) = &mut self.channel {
            http.end_session(&session).await;
        }
    }

    /// `tools/list`, with as much time as MCP itself had: a slow answer before it is no fault of the list.
    async fn list(&mut self, offer: &Offer) -> Listed {
        let began = Instant::now();
        self.channel.set_deadline(began + self.prober.endpoint.timeout);
        let result = self.all_pages(offer).await;
        Listed { took: began.elapsed(), result }
    }

    /// All pages of `tools/list`.
    async fn all_pages(&mut self, offer: &Offer) -> Result<Option<Vec<Tool>>, Fault> {
        let (mut all, mut params) = (Vec::new(), Map::new());
        for _ in 0..MAX_PAGES {
            let asked = Asked::Tools { advertised: offer.tools };
            let page = match self.say(offer.era, asked, params.clone()).await?.1 {
                Judged::Well(result) => mcp::page(&result)?,
                Judged::NotOffered => Page { tools: Vec::new(), next: None },
                other => return Err(out_of_place(other)),
            };
            all.extend(page.tools);
            let Some(next) = page.next.filter(|_| all.len() <= MAX_TOOLS) else {
                all.sort();
                all.dedup_by(|one, other| one.name == other.name);
                return Ok(Some(all).filter(|all| all.len() <= MAX_TOOLS));
            };
            if params.insert("cursor".to_owned(), next.clone().into()) == Some(next.into()) {
                let said = "answered tools/list with the same page again and again";
                return Err(Fault::new(FaultKind::Malformed, said));
            }
        }
        Ok(None)
    }

    async fn call(&mut self, offer: &Offer, canary: &Canary) -> Canaried {
        let began = Instant::now();
        self.channel.set_deadline(began + self.prober.endpoint.timeout);
        let params = [("name", json!(canary.name)), ("arguments", Value::Object(canary.arguments.clone()))];
        let params = params.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let result = match self.say(offer.era, Asked::Call, params).await {
            Ok((_, Judged::Well(result))) => called(&result, self.hidden()),
            Ok((_, other)) => Err(out_of_place(other)),
            Err(fault) => Err(fault),
        };
        Canaried { took: began.elapsed(), result }
    }

    /// Asks one thing, and judges the answer.
    async fn say(
        &mut self,
        era: Era,
        asked: Asked,
        params: Map<String, Value>,
    ) -> Result<(HeaderMap, Judged), Fault> {
        self.prober.last_id += 1;
        let request = Request::new(era, asked, self.prober.last_id, params);
        let session = self.prober.session.as_ref().filter(|_| era == Era::Legacy);
        let (headers, answer) = self.channel.ask(&request, session).await?;
        let has_session = session.is_some();
        let in_session = has_session || matches!(self.channel, Channel::Events(_));
        let question = Question { era, asked, in_session, hidden: self.hidden() };
        let judged = judge(&question, &answer);
        let unwanted = retry_after(answer.status(), &headers, Timestamp::now());
        self.retry_after = self.retry_after.max(unwanted);
        let is_begun = asked == Asked::Initialize && matches!(judged, Judged::Well(_));
        if !has_session
            && !is_begun
            && let Channel::Http(http) = &mut self.channel
        {
            http.end_stray(&headers).await;
        }
        Ok((headers, judged))
    }

    fn hidden(&self) -> Option<&str> {
        self.token.map(Token::reveal)
    }
}

fn has_tools(result: &Value) -> bool {
    result.pointer("/capabilities/tools").is_some_and(Value::is_object)
}

/// The version that a server chose; the first of its era where it named none.
fn spoken(result: &Value) -> &'static str {
    let chosen = result.get("protocolVersion").and_then(Value::as_str);
    LEGACY.iter().find(|version| Some(**version) == chosen).copied().unwrap_or(LEGACY[LEGACY.len() - 1])
}

/// What an answer is where it was the last thing to try.
fn out_of_place(judged: Judged) -> Fault {
    match judged {
        Judged::Fault(fault) => fault,
        Judged::NoSession => {
            Fault::new(FaultKind::SessionLost, "does not know the session that it gave a moment before")
        }
        Judged::Well(_) | Judged::NotOffered | Judged::Legacy | Judged::Version(_) => {
            Fault::new(FaultKind::VersionMismatch, "changes the version of MCP from one answer to the next")
        }
    }
}

/// It answers, and not in this era or transport.
fn is_of_the_protocol(fault: &Fault) -> bool {
    use FaultKind::{
        Malformed, NotFound, NotMcp, RpcError, ServerError, SessionLost, UnexpectedStatus, VersionMismatch,
    };
    matches!(
        fault.kind,
        Malformed
            | NotFound
            | NotMcp
            | RpcError
            | ServerError
            | SessionLost
            | UnexpectedStatus
            | VersionMismatch
    )
}

/// What a server that speaks TLS makes of plain HTTP: it cuts the connection, answers with an alert, or with 400.
const fn may_be_tls(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Reset | FaultKind::NotMcp | FaultKind::UnexpectedStatus)
}

/// It says nothing of whether another client is let in.
const fn is_momentary(kind: FaultKind) -> bool {
    use FaultKind::{Buffered, RateLimited, Reset, ServerError, TimedOut, Unavailable};
    matches!(kind, Buffered | RateLimited | Reset | ServerError | TimedOut | Unavailable)
}

fn is_silence(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::TimedOut | FaultKind::Buffered)
}
