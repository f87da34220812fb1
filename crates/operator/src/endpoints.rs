//! What else than the target's own pods and Services the operator may contact: what its flags name, and of what
//! objects name, only what the allow-list (`--allowed-endpoints`) permits.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::Uri;
use mcp_health_core::mcp::foreign;
use percent_encoding::percent_decode_str;

/// An HTTP endpoint. Shown without its credentials.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// It is spoken to over TLS.
    tls: bool,
    /// `user:password`, as it is written.
    credentials: Option<String>,
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

impl Endpoint {
    /// The endpoint of a URL: `http://prometheus.monitoring:9090/prefix`. What comes after a `?` has no meaning here.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.trim().parse().map_err(|error| format!("it is no URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it begins neither with http:// nor with https://".to_owned()),
        };
        let authority = uri.authority().ok_or("it names no host")?.as_str();
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?.to_ascii_lowercase();
        let path = uri.path().trim_end_matches('/').to_owned();
        // As whoever asks reads it: there, `%2e` is a dot, and `\` may be a slash.
        let plain = percent_decode_str(&path).decode_utf8_lossy();
        if plain.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
            return Err("its path has dots to go elsewhere".to_owned());
        }
        Ok(Self {
            tls,
            credentials: authority.rsplit_once('@').map(|(credentials, _)| credentials.to_owned()),
            host,
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path,
        })
    }

    /// A port of a host, whatever is spoken there. An IPv6 address may stand in brackets or without them.
    pub fn of(host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase();
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        Self { tls: false, credentials: None, host, port, path: String::new() }
    }

    /// Where it is, whatever is spoken there: `host:port`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is written as one.
    pub fn address(&self) -> Option<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.port))
    }

    /// `user:password`, as it is written.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What objects may name.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<Allowed>);

#[derive(Clone, Debug)]
enum Allowed {
    /// This endpoint, and what is below its path.
    Below(Endpoint),
    /// This host on this port, or any. `*.` before it stands for what ends like this.
    Host(String, Option<u16>),
}

impl AllowList {
    /// The list: each `host`, `host:port`, `*.suffix`, `*.suffix:port`, or the beginning of a URL.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let entries = entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
        let entries = entries.map(|entry| {
            if entry.contains("://") {
                return Endpoint::parse(entry).map(Allowed::Below).map_err(|why| format!("{entry}: {why}"));
            }
            let port = entry.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
            let (host, port) = match port {
                Some((host, port)) => {
                    let number = port.parse().map_err(|_| format!("{entry}: {port} is no port"))?;
                    (host, Some(number))
                }
                None => (entry, None),
            };
            if host.trim_start_matches("*.").contains(['*', '/', '@']) {
                return Err(format!("{entry}: neither a host nor the beginning of a URL"));
            }
            Ok(Allowed::Host(host.to_ascii_lowercase(), port))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// That an object may name this endpoint; `Err` is a sentence for people.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        if self.permits(endpoint) {
            return Ok(());
        }
        let place = foreign(&endpoint.place(), None);
        Err(format!("{place} is not on the operator's allow-list (signals.allowedEndpoints)"))
    }

    /// Whether an object may name this endpoint.
    pub fn permits(&self, endpoint: &Endpoint) -> bool {
        self.0.iter().any(|allowed| match allowed {
            Allowed::Below(from) => {
                let same =
                    from.tls == endpoint.tls && from.host == endpoint.host && from.port == endpoint.port;
                let rest = endpoint.path.strip_prefix(&from.path);
                same && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Allowed::Host(host, port) => {
                let is_host = match host.strip_prefix('*') {
                    Some(suffix) => endpoint.host.len() > suffix.len() && endpoint.host.ends_with(suffix),
                    None => *host == endpoint.host,
                };
                is_host && port.is_none_or(|port| port == endpoint.port)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_its_credentials() {
        let endpoint = Endpoint::parse("https://me:s3cret@Prometheus.monitoring/prefix/").unwrap();
        assert_eq!(format!("{endpoint} {endpoint:?}").matches("s3cret").count(), 0);
        assert_eq!(endpoint.to_string(), "https://prometheus.monitoring:443/prefix");
        assert_eq!(endpoint.credentials(), Some("me:s3cret"));
    }

    #[test]
    fn what_is_no_url_is_no_endpoint() {
        for url in ["", "prometheus:9090", "ftp://a", "http://", "http://a b"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        for path in ["../b", "team/%2E%2e/b", "team/.%2e/b", "team/x\\..\\..\\b", "team/..%2fb", "."] {
            assert!(Endpoint::parse(&format!("http://a/{path}")).is_err(), "{path}");
        }
    }

    #[test]
    fn an_allow_list_permits_hosts_ports_and_what_is_below_a_url_and_nothing_that_looks_alike() {
        let list = ["a.b", "c:9090", "*.monitoring", "https://d/team", "[::1]:80"].map(str::to_owned);
        let list = AllowList::parse(&list).unwrap();
        for (url, permitted) in [
            ("http://a.b", true),
            ("https://A.B:1234/x", true),
            ("http://x.a.b", false),
            ("http://a.b.evil", false),
            ("http://c:9090", true),
            ("http://c:9091", false),
            ("http://one.monitoring:1", true),
            ("http://monitoring:1", false),
            ("http://evilmonitoring:1", false),
            ("https://d/team", true),
            ("https://d/team/x", true),
            ("https://d/teams", false),
            ("http://d/team", false),
            ("https://d:444/team", false),
            ("https://d@evil/team", false),
            ("http://[::1]:80", true),
            ("http://[::1]:81", false),
        ] {
            assert_eq!(list.permits(&Endpoint::parse(url).unwrap()), permitted, "{url}");
        }
        for (host, port, permitted) in [
            ("A.b", 1, true),
            ("c", 9091, false),
            ("::1", 80, true),
            ("[::1]", 80, true),
            ("::1", 81, false),
            ("a.b/x", 1, false),
            ("evil@a.b", 1, false),
        ] {
            assert_eq!(list.check(&Endpoint::of(host, port)).is_ok(), permitted, "{host}:{port}");
        }
        assert!(!AllowList::default().permits(&Endpoint::parse("http://a").unwrap()));
        for wrong in ["a:b", "a*b", "user@host", "host/path", "ftp://a"] {
            assert!(AllowList::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
