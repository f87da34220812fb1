//! One answer, judged: what it is to whoever asked. What is normal, what tells the era, what is a fault.

use serde_json::Value;

use super::{
    answer::{Answer, End},
    era::{Era, LEGACY, MODERN},
    foreign::foreign,
    message::{Message, strings},
};
use crate::signals::{Fault, FaultKind};

/// `-32601`: no such method.
const METHOD_NOT_FOUND: i64 = -32601;
/// `-32022`: the version is not spoken; `data.supported` says which are. Only the modern era has it.
const UNSUPPORTED_VERSION: i64 = -32022;
/// The errors that only a server of the modern era gives: headers that differ from the body, a capability that the
/// client lacks, a version.
const OF_THE_MODERN_ERA: [i64; 3] = [-32020, -32021, UNSUPPORTED_VERSION];

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `server/discover`, of the modern era.
    Discover,
    /// `initialize`, of the legacy era.
    Initialize,
    /// `notifications/initialized`: brings no message.
    Initialized,
    /// `ping`, of the legacy era.
    Ping,
    /// `tools/list`.
    Tools {
        /// The server said that it has tools.
        advertised: bool,
    },
    /// `tools/call`.
    Call,
}

impl Asked {
    /// The method's name.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Discover => "server/discover",
            Self::Initialize => "initialize",
            Self::Initialized => "notifications/initialized",
            Self::Ping => "ping",
            Self::Tools { .. } => "tools/list",
            Self::Call => "tools/call",
        }
    }

    /// Whether a server may say that it does not know the method, and be well.
    const fn may_be_unknown(self) -> bool {
        matches!(self, Self::Ping | Self::Tools { advertised: false })
    }
}

/// What was asked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// In the way of this era.
    pub era: Era,
    /// What.
    pub asked: Asked,
    /// It named a session.
    pub in_session: bool,
    /// The credential that was sent with it: no word of it is shown, wherever the server repeats it.
    pub hidden: Option<&'a str>,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// Answered as it should be; the result.
    Well(Value),
    /// Answered that there is no such thing, which it never said there was: well, too.
    NotOffered,
    /// It speaks the legacy era, or nothing that the modern one knows.
    Legacy,
    /// It speaks another version, which is spoken here too: ask again with that.
    Version(&'static str),
    /// It does not know the session: begin another.
    NoSession,
    /// Not answered as it should be.
    Fault(Fault),
}

/// Judges an answer that has ended.
pub fn judge(question: &Question, answer: &Answer) -> Judged {
    let status = answer.status();
    if is_taken(question, answer) {
        return Judged::Fault(refused(question, answer, FaultKind::SingleClient));
    }
    let fault = |kind| Judged::Fault(refused(question, answer, kind));
    match status {
        // 101: what follows it on a WebSocket.
        101 | 200..=299 => of_success(question, answer),
        300..=399 => fault(FaultKind::Redirected),
        401 => fault(FaultKind::Unauthorized),
        403 if names_the_host(&answer.words()) => fault(FaultKind::HostNotAllowed),
        403 => fault(FaultKind::Forbidden),
        406 => fault(FaultKind::NotAcceptable),
        421 => fault(FaultKind::HostNotAllowed),
        429 => fault(FaultKind::RateLimited),
        400..=499 => of_refusal(question, answer),
        503 => fault(FaultKind::Unavailable),
        500..=599 => fault(FaultKind::ServerError),
        _ => fault(FaultKind::UnexpectedStatus),
    }
}

/// One client is all that the server takes. SDKs that hold one transport for all requests say so to each
/// but the first `initialize`; and to what comes before that, that nobody has initialized them: whoever
/// does is its only client.
fn is_taken(question: &Question, answer: &Answer) -> bool {
    let (status, words) = (answer.status(), answer.words().to_ascii_lowercase());
    match question.asked {
        Asked::Initialize => {
            let is_error = matches!(answer.message(), Some(Message::Error { .. }));
            let is_refusal = matches!(status, 400 | 403 | 409 | 422) || is_error && status < 300;
            let says_so =
                ["already initialized", "already connected", "already has a client", "already in use"];
            status == 409 || is_refusal && says_so.iter().any(|said| words.contains(said))
        }
        Asked::Discover => status == 400 && words.contains("server not initialized"),
        _ => false,
    }
}

/// 2xx: the message counts.
fn of_success(question: &Question, answer: &Answer) -> Judged {
    let asked = question.asked;
    if asked == Asked::Initialized {
        // Whatever it says to what asks nothing.
        return Judged::Well(Value::Null);
    }
    let fault = |kind, said: String| Judged::Fault(Fault::new(kind, said));
    match answer.message() {
        Some(Message::Result(result)) => return of_result(asked, result),
        Some(message) => return of_error(question, answer, message),
        None => {}
    }
    let named = named(answer.status());
    let method = asked.method();
    if answer.is_too_long() {
        return fault(FaultKind::TooLarge, format!("answered {method} with more than 1 MiB"));
    }
    if answer.is_foreign() {
        return fault(FaultKind::NotMcp, format!("answered {named} with {}", content(answer)));
    }
    let half = |kind| fault(kind, format!("began to answer {method}, and broke off"));
    match answer.end() {
        End::Cut => return half(FaultKind::Reset),
        End::TimedOut if !answer.is_stream() => return half(FaultKind::TimedOut),
        End::TimedOut if answer.is_empty() => {
            return fault(FaultKind::Buffered, format!("answered {named}, and its stream brings nothing"));
        }
        End::TimedOut => {
            return fault(
                FaultKind::TimedOut,
                format!("answered {named}; its stream lives, and does not bring the answer to {method}"),
            );
        }
        End::Whole => {}
    }
    match answer.strange() {
        Some(Message::OfAnother) => {
            fault(FaultKind::Malformed, format!("answered {method} with another request's id"))
        }
        Some(_) => fault(FaultKind::Malformed, format!("answered {method} with broken JSON-RPC")),
        None if answer.is_empty() => fault(FaultKind::NotMcp, format!("answered {named} with nothing")),
        None => fault(
            FaultKind::Malformed,
            format!("answered {named}, and its stream ended without the answer to {method}"),
        ),
    }
}

/// A result has what its method promises.
fn of_result(asked: Asked, result: &Value) -> Judged {
    let fault =
        |kind, said: &str| Judged::Fault(Fault::new(kind, format!("answered {} {said}", asked.method())));
    if !result.is_object() {
        return fault(FaultKind::Malformed, "with a result that is none");
    }
    match asked {
        Asked::Discover => {
            let versions = strings(result.get("supportedVersions"));
            if versions.is_empty() {
                return fault(FaultKind::Malformed, "without the versions that it speaks");
            }
            if versions.iter().any(|version| version == MODERN) {
                return Judged::Well(result.clone());
            }
            other_era(&versions)
        }
        Asked::Initialize => match result.get("protocolVersion").and_then(Value::as_str) {
            None => fault(FaultKind::Malformed, "without the version that it speaks"),
            Some(version) if LEGACY.contains(&version) => Judged::Well(result.clone()),
            Some(version) => Judged::Fault(version_mismatch(&[version.to_owned()])),
        },
        _ => Judged::Well(result.clone()),
    }
}

/// A JSON-RPC error, whatever the status that it came with.
fn of_error(question: &Question, answer: &Answer, message: &Message) -> Judged {
    let Message::Error { code, message, supported } = message else {
        return Judged::Fault(refused(question, answer, FaultKind::Malformed));
    };
    let asked = question.asked;
    match (question.era, asked) {
        (Era::Modern, _) if *code == UNSUPPORTED_VERSION => return other_era(supported),
        (Era::Modern, Asked::Discover) if !OF_THE_MODERN_ERA.contains(code) => return Judged::Legacy,
        (Era::Legacy, Asked::Initialize) if !supported.is_empty() => {
            let spoken =
                LEGACY.iter().skip(1).find(|version| supported.iter().any(|other| other == *version));
            return match spoken {
                Some(version) => Judged::Version(version),
                None => Judged::Fault(version_mismatch(supported)),
            };
        }
        _ => {}
    }
    let is_refused = *code == METHOD_NOT_FOUND && asked.may_be_unknown();
    // However it turns down what it never said that it has.
    if is_refused || asked == (Asked::Tools { advertised: false }) {
        return Judged::NotOffered;
    }
    let kind = if asked == Asked::Call { FaultKind::ToolFailed } else { FaultKind::RpcError };
    let words = foreign(message, question.hidden);
    let words = if words.is_empty() { words } else { format!(": {words}") };
    Judged::Fault(Fault::new(kind, format!("answered {} with JSON-RPC error {code}{words}", asked.method())))
}

/// A 4xx that names no gate: the era, the session or the path.
fn of_refusal(question: &Question, answer: &Answer) -> Judged {
    let status = answer.status();
    if question.era == Era::Modern && question.asked == Asked::Discover {
        return match answer.message() {
            Some(message @ Message::Error { .. }) => of_error(question, answer, message),
            _ => Judged::Legacy,
        };
    }
    if question.in_session && (status == 404 || status == 400 && names_a_session(&answer.words())) {
        return Judged::NoSession;
    }
    // These mean the same under any status; of the others the status says more.
    if let Some(message @ Message::Error { code, supported, .. }) = answer.message()
        && (*code == METHOD_NOT_FOUND || OF_THE_MODERN_ERA.contains(code) || !supported.is_empty())
    {
        return of_error(question, answer, message);
    }
    let kind = if matches!(status, 404 | 405) { FaultKind::NotFound } else { FaultKind::UnexpectedStatus };
    Judged::Fault(refused(question, answer, kind))
}

/// The modern version is not among those that it speaks.
fn other_era(versions: &[String]) -> Judged {
    if versions.iter().any(|version| LEGACY.contains(&version.as_str())) {
        return Judged::Legacy;
    }
    Judged::Fault(version_mismatch(versions))
}

fn version_mismatch(versions: &[String]) -> Fault {
    let versions: Vec<String> = versions.iter().take(4).map(|version| foreign(version, None)).collect();
    let said = if versions.is_empty() {
        format!("does not speak version {MODERN} of MCP, and names none that it does")
    } else {
        format!("speaks version {} of MCP, and none that is spoken here", versions.join(", "))
    };
    Fault::new(FaultKind::VersionMismatch, said)
}

/// `answered 503 Service Unavailable: draining`.
fn refused(question: &Question, answer: &Answer, kind: FaultKind) -> Fault {
    let named = named(answer.status());
    let words = foreign(&answer.words(), question.hidden);
    // Many say the status once more, and nothing else.
    let repeats = named.to_ascii_lowercase().ends_with(&words.to_ascii_lowercase());
    let words = if repeats { String::new() } else { format!(": {words}") };
    Fault::new(kind, format!("answered {named}{words}"))
}

fn content(answer: &Answer) -> String {
    match answer.content_type() {
        _ if answer.is_empty() => "nothing".to_owned(),
        "" => "what has no content type".to_owned(),
        content_type => foreign(content_type, None),
    }
}

/// SDKs tell the same in their own words: `Invalid Host header`, `Forbidden: Host header is not allowed`.
fn names_the_host(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("host header") || words.contains("invalid host")
}

fn names_a_session(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("session") || words.contains("not initialized")
}

/// A status as people know it: `503 Service Unavailable`.
fn named(status: u16) -> String {
    let name = match status {
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => return status.to_string(),
    };
    format!("{status} {name}")
}
