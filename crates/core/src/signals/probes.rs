//! What probes of a server's own pods and Services came to. A probe says how far it got: what fails before the first
//! byte of an answer speaks of the way as much as of the server.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::Answered;

use super::pod::Pod;
use crate::words;

/// How many results of a path are kept.
pub const KEPT: usize = 5;
/// What was tried so often without an answer is said to be never answered.
const TRIES: usize = 3;

/// The last results of asking one thing along one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// Which way.
    pub path: ProbePath,
    /// What was asked.
    pub question: ProbeQuestion,
    /// It was answered once, by this server, to this operator or one before it. What never was may have a wall in
    /// between: it is no evidence.
    pub ever_answered: bool,
    /// This very pod or Service answered it well at least once, as far as this operator knows.
    pub answered_here: bool,
    /// It is asked again after this time at the latest: evidence is as old as the pauses are long.
    pub pause: SignedDuration,
    /// The Service leads to no port on which MCP is asked, and to one that no container declares.
    pub leads_elsewhere: bool,
    /// Oldest first; at most [`KEPT`].
    pub results: Vec<ProbeResult>,
    /// What `tools/list` told last, sorted by name; `None` where it was not told yet.
    pub tools: Option<Vec<Tool>>,
}

/// Which way a probe goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbePath {
    /// To a pod's own address.
    Pod(String),
    /// To a Service, as clients do.
    Service(String),
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeQuestion {
    /// Whether it speaks MCP at all: a session and `ping`, or `server/discover` (DESIGN §12).
    Mcp,
    /// `tools/list`. A list without a tool is no answer that a later fault is measured by.
    Tools,
    /// `GET` of the health path (guides 000, 001, 002, 004: 5 s).
    Health,
    /// A call of the one tool that the policy names.
    Canary,
}

/// What one probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeResult {
    /// When it was begun.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// What the path leads to was ready when it was asked, and still when the result was there: the pod, or
    /// an endpoint of the Service.
    pub was_ready: bool,
    /// `Ok` where it was answered as it should be.
    pub outcome: Result<(), Fault>,
}

/// A tool of an MCP server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Digest of its input schema.
    pub schema: String,
}

/// Why a probe was not answered as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which fault.
    pub kind: FaultKind,
    /// What was seen, as a sentence without a subject, masked and bounded: `answered 503 Service Unavailable`.
    pub said: String,
}

impl Fault {
    /// A fault, and what was seen of it.
    pub fn new(kind: FaultKind, said: impl Into<String>) -> Self {
        Self { kind, said: said.into() }
    }
}

/// The faults that probes tell apart, in the order of how far they got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The name does not resolve.
    Dns,
    /// There is no way to the address.
    Unreachable,
    /// The connection was refused: nothing listens there, or only on 127.0.0.1.
    Refused,
    /// The connection was not answered: dropped on its way, or the machine is stuck.
    ConnectTimeout,
    /// No TLS session came about.
    Tls,
    /// TLS, and the operator cannot verify the certificate: a private authority, or another name than the address.
    Unverified,
    /// The connection was cut before an answer was there.
    Reset,
    /// Connected, and no answer in time.
    TimedOut,
    /// The answer began, and its stream brought nothing in time: wedged, or a proxy keeps it back.
    Buffered,
    /// 401: alive, and asks for a credential.
    Unauthorized,
    /// 403: alive, and the credential does not do.
    Forbidden,
    /// 421: alive, and does not know the host's name.
    HostNotAllowed,
    /// 406: alive, and answers nobody who asks as the operator does.
    NotAcceptable,
    /// 404, 405, or of other paths than MCP's 501, on the path itself.
    NotFound,
    /// 429.
    RateLimited,
    /// 503.
    Unavailable,
    /// Another 5xx.
    ServerError,
    /// 3xx to another origin, which is not followed.
    Redirected,
    /// Any other status.
    UnexpectedStatus,
    /// 2xx, and the answer is longer than any reasonable one.
    TooLarge,
    /// 2xx, and no JSON-RPC in it: a page, an empty body, another protocol.
    NotMcp,
    /// JSON-RPC that breaks off or contradicts itself: bad JSON, another id, neither result nor error.
    Malformed,
    /// It speaks no version of MCP that the operator does.
    VersionMismatch,
    /// The session that it gave is not known to it at once: sessions are lost, or requests go to other pods.
    SessionLost,
    /// It serves one client at a time, and that is another, or would be the operator.
    SingleClient,
    /// A JSON-RPC error where none is normal.
    RpcError,
    /// The health answer says that the server, or a part of it, is not well.
    Unhealthy,
    /// The canary tool failed.
    ToolFailed,
}

impl FaultKind {
    /// No byte of an answer came: the way may be at fault as well as the server.
    pub const fn is_of_the_way(self) -> bool {
        matches!(
            self,
            Self::Dns
                | Self::Unreachable
                | Self::Refused
                | Self::ConnectTimeout
                | Self::Tls
                | Self::Unverified
        )
    }

    /// What stands between the operator and a pod may say this in the pod's place, or the pod may say it to the operator
    /// alone: a mesh, TLS, a redirect, a host allow-list, a gate. Clients come through the Service.
    pub const fn is_of_the_path(self) -> bool {
        matches!(self, Self::Tls | Self::Unverified | Self::Reset) || self.is_refusal()
    }

    /// It answers, and turns the operator away: alive.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Redirected | Self::Unauthorized | Self::Forbidden | Self::HostNotAllowed)
    }

    /// Alive, and gated: this is configuration, and no restart mends it.
    pub const fn is_of_configuration(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden | Self::HostNotAllowed | Self::VersionMismatch)
    }
}

impl ProbeQuestion {
    /// What of a server's status it is that this was answered, through a Service or by a pod.
    pub const fn answered(self, through_service: bool) -> Option<Answered> {
        match (self, through_service) {
            (Self::Mcp, false) => Some(Answered::McpPod),
            (Self::Mcp, true) => Some(Answered::McpService),
            (Self::Tools, false) => Some(Answered::ToolsPod),
            (Self::Tools, true) => Some(Answered::ToolsService),
            (Self::Health, false) => Some(Answered::HealthPod),
            (Self::Health, true) => Some(Answered::HealthService),
            (Self::Canary, _) => None,
        }
    }
}

impl ProbeResult {
    /// The Service had no ready endpoint: a connection to it is refused or dropped, whatever its ports are.
    pub fn is_without_endpoint(&self, path: &ProbePath) -> bool {
        let of_the_way = self.outcome.as_ref().is_err_and(|fault| fault.kind.is_of_the_way());
        matches!(path, ProbePath::Service(_)) && !self.was_ready && of_the_way
    }
}

impl Probed {
    /// How many of the kept results are faults.
    pub fn faults(&self) -> usize {
        self.results.iter().filter(|result| result.outcome.is_err()).count()
    }

    /// The newest result.
    pub fn last(&self) -> Option<&ProbeResult> {
        self.results.last()
    }

    /// What of a server's status this is, once it was answered.
    pub const fn answered(&self) -> Option<Answered> {
        self.question.answered(matches!(self.path, ProbePath::Service(_)))
    }

    /// The newest fault, unless a good answer came after it.
    pub fn fault(&self) -> Option<&Fault> {
        self.last()?.outcome.as_ref().err()
    }
}

/// Which paths were declared and never answered, though the server's pods are ready: there is no way, or no such server
/// at its end. `None` while too little was tried.
pub fn never_answered(probes: &[Probed], pods: &[Pod]) -> Option<String> {
    let is_ready = |probed: &&Probed| {
        pods.iter().filter(|pod| pod.ready && pod.counts()).any(|pod| match &probed.path {
            ProbePath::Pod(name) => pod.name == *name,
            ProbePath::Service(_) => true,
        })
    };
    let silent = probes.iter().filter(|probed| !probed.ever_answered && probed.results.len() >= TRIES);
    let mut silent = silent.filter(is_ready).filter_map(|probed| Some((probed, probed.fault()?)));
    let (first, fault) = silent.next()?;
    let others = match silent.count() {
        0 => String::new(),
        count => format!(", like {}", words::count(count, "other path")),
    };
    let why = match first.question {
        ProbeQuestion::Mcp | ProbeQuestion::Health => {
            "a NetworkPolicy or mTLS may be in between, or the path or port is another; "
        }
        // MCP itself was answered there.
        ProbeQuestion::Tools | ProbeQuestion::Canary => "",
    };
    Some(format!(
        "NeverAnswered: {} by {} was never answered{others} ({}): {why}it is no evidence until it was",
        first.question, first.path, fault.said
    ))
}

/// Why MCP is not asked of a server that serves one client at a time.
pub fn single_client(probes: &[Probed]) -> Option<String> {
    let mut faults = probes.iter().filter_map(|probed| Some((probed, probed.fault()?)));
    let (probed, fault) = faults.find(|(_, fault)| fault.kind == FaultKind::SingleClient)?;
    Some(format!(
        "SingleClient: {} {}: it is left to clients, MCP is not probed until the template changes, and the server is \
         judged by everything else",
        probed.path, fault.said
    ))
}

impl fmt::Display for ProbePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Service(name) => write!(f, "Service {name}"),
        }
    }
}

impl fmt::Display for ProbeQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mcp => "MCP",
            Self::Tools => "tools/list",
            Self::Health => "the health path",
            Self::Canary => "the canary tool",
        })
    }
}
