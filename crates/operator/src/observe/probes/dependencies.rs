//! What servers depend on: whether it answers, asked from here. Only what the operator's allow-list permits, by its name
//! and by the address that it resolves to; and nobody follows where an answer points.

use std::{net::SocketAddr, time::Duration};

use http::Uri;
use mcp_health_api::DependencySpec;
use mcp_health_core::{
    mcp::foreign,
    signals::{CheckStep, Failure, Fault, FaultKind},
};
use mcp_probe::{Address, Endpoint as Asked, get, reach};
use tokio::time::timeout;

use crate::{
    allowed::may_lead_to,
    endpoints::{AllowList, Endpoint},
};

/// How often it is asked.
pub const INTERVAL: Duration = Duration::from_secs(15);
/// How long the answer may take (guides: HTTP 5 s).
const PATIENCE: Duration = Duration::from_secs(5);
/// Nothing of a body is of interest.
const BODY: usize = 0;

/// What is asked, for people.
pub fn words(of: &DependencySpec) -> String {
    let text = match (&of.http, &of.tcp) {
        (Some(http), _) => format!("GET {}", http.url),
        (None, Some(tcp)) => format!("a connection to {}", tcp.address),
        (None, None) => String::new(),
    };
    foreign(&text, None)
}

/// Asks it: `Ok(Err)` says which step failed, `Err` why it is not asked.
pub async fn ask(of: &DependencySpec, allowed: &AllowList) -> Result<Result<(), Failure>, String> {
    let url = match (&of.http, &of.tcp) {
        (Some(http), _) => http.url.clone(),
        // The list is of endpoints, whatever is spoken there.
        (None, Some(tcp)) => format!("http://{}", tcp.address),
        (None, None) => return Err("it names neither http nor tcp".to_owned()),
    };
    let endpoint = Endpoint::parse(&url)?;
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    if !allowed.permits(&endpoint) {
        return Err(format!("{endpoint} is not on the operator's allow-list (signals.allowedEndpoints)"));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let resolved = timeout(PATIENCE, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = match resolved {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) => {
            return Ok(Err(Failure::new(CheckStep::Name, format!("its name {host} does not resolve"))));
        }
        Err(_) => {
            let said = format!("its name {host}: no answer within {} s", PATIENCE.as_secs());
            return Ok(Err(Failure::new(CheckStep::Name, said)));
        }
    };
    if let Some(address) = addresses.iter().find(|address| !may_lead_to(allowed, **address)) {
        return Err(format!("{host} leads to {}, which is not on the operator's allow-list", address.ip()));
    }
    let mut result =
        Ok(Err(Failure::new(CheckStep::Name, format!("its name {host} resolves to no address"))));
    for address in addresses {
        let asked = Asked {
            host: uri.authority().map_or(host, without_user).to_owned(),
            path: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
            tls,
            timeout: PATIENCE,
            ..Asked::new(Address::Socket(address), "/")
        };
        let answer = if of.tcp.is_some() { reach(&asked).await } else { answers(&asked).await };
        match answer {
            Ok(()) => return Ok(Ok(())),
            Err(fault) => {
                // Another address may be of use where this one is not there.
                let goes_on = matches!(
                    fault.kind,
                    FaultKind::Refused | FaultKind::Unreachable | FaultKind::ConnectTimeout
                );
                result = Ok(Err(Failure::new(step(fault.kind), foreign(&fault.said, None))));
                if !goes_on {
                    break;
                }
            }
        }
    }
    result
}

const fn step(kind: FaultKind) -> CheckStep {
    match kind {
        FaultKind::Dns => CheckStep::Name,
        FaultKind::Unreachable | FaultKind::ConnectTimeout => CheckStep::Route,
        FaultKind::Refused => CheckStep::Port,
        FaultKind::Tls => CheckStep::Handshake,
        FaultKind::Unauthorized | FaultKind::Forbidden => CheckStep::Login,
        _ => CheckStep::Answer,
    }
}

async fn answers(asked: &Asked) -> Result<(), Fault> {
    match get(asked, BODY).await?.status {
        200..=399 => Ok(()),
        status => Err(Fault { kind: FaultKind::UnexpectedStatus, said: format!("answered {status}") }),
    }
}

fn without_user(authority: &http::uri::Authority) -> &str {
    let whole = authority.as_str();
    whole.rsplit_once('@').map_or(whole, |(_, host)| host)
}
