//! Where a server points to: the path of a URL that it names, if that is on the server itself. What leads to another
//! origin is never dialled: it could carry the probe, and the credential with it, out of the cluster.

use http::Uri;
use http::uri::PathAndQuery;

use crate::endpoint::Endpoint;

/// The path that `named` leads to, seen from the path `base` of the endpoint; `None` where it is another origin's, or no
/// URL.
pub fn same_origin(named: &str, endpoint: &Endpoint, base: &str) -> Option<PathAndQuery> {
    if named.starts_with('/') && !named.starts_with("//") {
        return PathAndQuery::try_from(named).ok();
    }
    if let Ok(uri) = named.parse::<Uri>()
        && let Some(scheme) = uri.scheme_str()
    {
        let same_scheme = scheme == if endpoint.tls { "https" } else { "http" };
        let same_host = uri.authority().is_some_and(|host| {
            with_port(host.as_str(), endpoint.tls)
                .eq_ignore_ascii_case(&with_port(&endpoint.host, endpoint.tls))
        });
        return uri.path_and_query().filter(|_| same_scheme && same_host).cloned();
    }
    if named.is_empty() || named.starts_with("//") || named.contains("://") {
        return None;
    }
    // Relative to the folder of the base.
    let path = base.split('?').next().unwrap_or_default();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    PathAndQuery::try_from(format!("{folder}/{named}")).ok()
}

/// The path of a URL at another origin: a server behind a proxy announces its public address, and serves the same path
/// on its own. `None` where it names no path, or hides the host behind a user's name.
pub fn of_another_origin(named: &str) -> Option<PathAndQuery> {
    let uri: Uri = match named.strip_prefix("//") {
        Some(rest) => format!("http://{rest}").parse().ok()?,
        None => named.parse().ok()?,
    };
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = uri.authority().is_some_and(|host| !host.as_str().contains('@'));
    uri.path_and_query().filter(|path| is_http && plain && path.path() != "/").cloned()
}

/// The path without its first segment: what a proxy that serves a server below a prefix leaves of it.
pub fn without_prefix(path: &PathAndQuery) -> Option<PathAndQuery> {
    let (prefix, rest) = path.as_str().strip_prefix('/')?.split_once('/')?;
    if prefix.contains('?') || rest.is_empty() || rest.starts_with('?') {
        return None;
    }
    PathAndQuery::try_from(format!("/{rest}")).ok()
}

/// An authority with its port, where that goes without saying.
fn with_port(authority: &str, tls: bool) -> String {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { authority.to_owned() } else { format!("{authority}:{}", if tls { 443 } else { 80 }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Address;

    #[test]
    fn a_location_leads_to_the_same_server_or_nowhere() {
        let address = Address::Name("mcp.example".to_owned(), 8000);
        let endpoint = Endpoint::new(address, "/v1/sse?x=1");
        for (named, path) in [
            ("/messages/?session_id=1", Some("/messages/?session_id=1")),
            ("messages?s=1", Some("/v1/messages?s=1")),
            ("?s=1", Some("/v1/?s=1")),
            ("http://mcp.example:8000/messages", Some("/messages")),
            ("http://MCP.example:8000/messages", Some("/messages")),
            ("https://mcp.example:8000/messages", None),
            ("http://mcp.example/messages", None),
            ("http://169.254.169.254/latest", None),
            ("//169.254.169.254/latest", None),
            ("http://mcp.example:8000@evil/messages", None),
            ("", None),
            ("/a b", None),
        ] {
            let found = same_origin(named, &endpoint, &endpoint.path);
            assert_eq!(found.as_ref().map(PathAndQuery::as_str), path, "{named}");
        }
        let plain = Endpoint { host: "mcp.example".to_owned(), ..endpoint };
        assert!(same_origin("http://mcp.example:80/mcp/", &plain, "/mcp").is_some());
    }

    #[test]
    fn of_a_public_url_only_the_path_is_taken() {
        for (named, path) in [
            ("https://mcp.example.com/messages?s=1", Some("/messages?s=1")),
            ("//mcp.example.com/messages", Some("/messages")),
            ("https://mcp.example.com/", None),
            ("https://mcp.example.com", None),
            ("ftp://mcp.example.com/messages", None),
            ("http://mcp.example:8000@evil/messages", None),
            ("/messages", None),
        ] {
            assert_eq!(of_another_origin(named).as_ref().map(PathAndQuery::as_str), path, "{named}");
        }
        let stripped = |path| without_prefix(&PathAndQuery::from_static(path));
        assert_eq!(stripped("/team/messages?s=1"), Some(PathAndQuery::from_static("/messages?s=1")));
        assert_eq!((stripped("/messages?s=a/b"), stripped("/messages/")), (None, None));
    }
}
