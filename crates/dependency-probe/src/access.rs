//! The URL of a Secret: where something is, and who asks. Shown without the credentials in it.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

/// Where something is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Its host, as it is written.
    pub host: String,
    /// Its port.
    pub port: u16,
    pub(crate) tls: bool,
    pub(crate) user: String,
    pub(crate) password: String,
    /// What comes after the host, without the slash before it.
    pub(crate) path: Option<String>,
}

impl Access {
    /// `redis://[user]:[password]@host[:6379][/database]`, with `rediss` for TLS. `Err` is a sentence for
    /// people, and says nothing of what the URL holds.
    pub fn redis(url: &str) -> Result<Self, String> {
        Self::parse(url, ("redis", 6379), ("rediss", 6379))
    }

    /// `amqp://user:password@host[:5672][/virtual host]`, with `amqps` for TLS (port 5671).
    pub fn amqp(url: &str) -> Result<Self, String> {
        Self::parse(url, ("amqp", 5672), ("amqps", 5671))
    }

    fn parse(url: &str, plain: (&str, u16), tls: (&str, u16)) -> Result<Self, String> {
        // What is wrong with it is not told: it would show parts of it.
        let parsed = Url::parse(url.trim()).map_err(|_| "its Secret holds no URL".to_owned())?;
        let (is_tls, port) = match parsed.scheme() {
            scheme if scheme == plain.0 => (false, plain.1),
            scheme if scheme == tls.0 => (true, tls.1),
            _ => {
                return Err(format!(
                    "the URL in its Secret begins neither with {}:// nor with {}://",
                    plain.0, tls.0
                ));
            }
        };
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from).map_err(|_| "the URL in its Secret holds text that is no UTF-8".to_owned())
        };
        Ok(Self {
            host: host.ok_or("the URL in its Secret names no host")?.to_ascii_lowercase(),
            port: parsed.port().unwrap_or(port),
            tls: is_tls,
            user: decoded(parsed.username())?,
            password: decoded(parsed.password().unwrap_or_default())?,
            path: parsed.path().strip_prefix('/').map(decoded).transpose()?,
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_credentials() {
        let access = Access::amqp("amqps://mcp:s3%40cret@Rabbit.mcp/%2fqueues").unwrap();
        assert_eq!((&*access.host, access.port, access.tls), ("rabbit.mcp", 5671, true));
        assert_eq!((&*access.user, &*access.password), ("mcp", "s3@cret"));
        assert_eq!(access.path.as_deref(), Some("/queues"));
        assert_eq!(format!("{access} {access:?}"), "rabbit.mcp:5671 rabbit.mcp:5671");
        let access = Access::redis("redis://:pw@[::1]:7000").unwrap();
        assert_eq!((&*access.host, access.port, access.path), ("[::1]", 7000, None));
        assert_eq!(Access::redis("redis://a/").unwrap().path.as_deref(), Some(""));
    }

    #[test]
    fn a_url_that_is_none_is_told_without_its_content() {
        for url in ["", "s3cret", "http://s3cret@a", "redis://", "redis://u:s3cret@a:port", "redis://%ff@a"] {
            let why = Access::redis(url).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(url: String, rest: String) {
            let _ = Access::redis(&url);
            let _ = Access::amqp(&format!("amqp://{rest}"));
        }
    }
}
