//! Whether a name resolves, by the DNS servers, search domains and `ndots` that this machine has: in a pod,
//! those of its namespace. Nothing is kept from one question to the next.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use mcp_health_core::signals::{CheckStep, Failure};
use tokio::time::{Instant, timeout};

use crate::{Asked, said::said};

/// More addresses than these are not told.
const TOLD: usize = 4;

/// Asks for the addresses of a name; each must be among `expected`, where any are.
pub async fn ask(name: &str, expected: &[IpAddr], patience: Duration) -> Asked {
    match TokioResolver::builder_tokio() {
        Ok(resolver) => resolve(resolver, name, expected, patience).await,
        Err(_) => failed(CheckStep::Name, "this machine names no DNS servers that could be read".to_owned()),
    }
}

async fn resolve(
    mut resolver: ResolverBuilder<TokioRuntimeProvider>,
    name: &str,
    expected: &[IpAddr],
    patience: Duration,
) -> Asked {
    let options = resolver.options_mut();
    // Another answer is looked for, not the last one.
    options.cache_size = 0;
    // A lost datagram is sent again before patience ends.
    options.timeout = (patience / 3).max(Duration::from_millis(1));
    options.attempts = 2;
    let Ok(resolver) = resolver.build() else {
        return failed(CheckStep::Name, "this machine names no DNS servers that could be asked".to_owned());
    };
    let began = Instant::now();
    let answer = timeout(patience, resolver.lookup_ip(name)).await.unwrap_or(Err(NetError::Timeout));
    let took = began.elapsed().as_millis();
    let mut addresses: Vec<IpAddr> = match answer {
        Ok(answer) => answer.iter().collect(),
        Err(error) => return failed(CheckStep::Name, unresolved(&error, patience)),
    };
    addresses.sort_unstable();
    addresses.dedup();
    let remark = format!("resolves to {} in {took} ms", listed(&addresses));
    let result = match addresses.iter().find(|address| !expected.is_empty() && !expected.contains(address)) {
        Some(wrong) => {
            let said = format!(
                "resolves to {wrong}, which is not among the addresses expected ({})",
                listed(expected)
            );
            Err(Failure::new(CheckStep::Answer, said))
        }
        None => Ok(()),
    };
    Asked { result, certificate: None, remarks: vec![remark] }
}

fn failed(step: CheckStep, said: String) -> Asked {
    Asked { result: Err(Failure::new(step, said)), ..Asked::default() }
}

fn unresolved(error: &NetError, patience: Duration) -> String {
    match error {
        error if error.is_nx_domain() => "there is no such name (NXDOMAIN)".to_owned(),
        error if error.is_no_records_found() => "the name is there, and has no address".to_owned(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            "the DNS server fails to resolve the name (SERVFAIL)".to_owned()
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
            "the DNS server refuses to resolve the name (REFUSED)".to_owned()
        }
        NetError::Timeout => {
            format!("no DNS server answers for the name within {} s", patience.as_secs_f32())
        }
        NetError::NoConnections | NetError::Io(_) => "no DNS server can be reached".to_owned(),
        other => format!("the name does not resolve: {}", said(&other.to_string(), &[])),
    }
}

/// The first few, and how many more there are.
fn listed(addresses: &[IpAddr]) -> String {
    let told: Vec<String> = addresses.iter().take(TOLD).map(ToString::to_string).collect();
    let mut text = if told.is_empty() { "no address".to_owned() } else { told.join(", ") };
    if let more @ 1.. = addresses.len().saturating_sub(TOLD) {
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests;
