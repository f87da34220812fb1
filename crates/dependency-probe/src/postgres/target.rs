//! What the URL of a database says: where it is, as whom, and how much TLS is to prove. It never shows as a
//! whole.

use std::fmt;

use mcp_health_core::mcp::foreign;
use tokio_postgres::config::{Config, Host, SslMode};

/// What the operator's sessions call themselves.
const APPLICATION: &str = "mcp-health-operator";
/// The port where a URL names none.
const PORT: u16 = 5432;
/// More hosts than these are not tried.
const HOSTS: usize = 8;
/// What of a URL's parameters is about where and as whom. Everything else is another client's, or the
/// operator's own.
const KEPT: [&str; 5] = ["host", "port", "user", "password", "dbname"];

/// A database, and the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) config: Config,
    hosts: Vec<(String, u16)>,
    database: String,
    pub(super) tls: Tls,
}

/// What TLS is to prove: `sslmode`, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// No TLS.
    Disable,
    /// TLS where the server has it.
    Prefer,
    /// TLS, by whatever certificate; by one that is vouched for where authorities are given.
    Require,
    /// A certificate that is vouched for.
    VerifyCa,
    /// One that is for its host, too.
    VerifyFull,
}

impl Target {
    /// The target of a URL: `postgres://user:password@host:5432/database?sslmode=verify-full`. Several hosts
    /// are tried in order. What is wrong with it is said without repeating any of it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.trim().split_once("://").ok_or("it is no URL as postgres://…")?;
        // SQLAlchemy's URLs name a driver: `postgresql+asyncpg://`.
        if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) {
            return Err("it is no URL as postgres://…".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut tls, mut kept) = (Tls::Prefer, Vec::new());
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("sslmode" | "ssl", mode)) => tls = Tls::parse(mode)?,
                Some((name, _)) if KEPT.contains(&name) => kept.push(parameter),
                _ => {}
            }
        }
        let url = format!("postgres://{rest}?{}", kept.join("&"));
        let mut config: Config =
            url.parse().map_err(|_| "it cannot be read as a URL of PostgreSQL".to_owned())?;
        let ports = config.get_ports();
        let port = |index: usize| match ports {
            [] => PORT,
            [one] => *one,
            several => several.get(index).copied().unwrap_or(PORT),
        };
        let hosts = config.get_hosts().iter().enumerate().take(HOSTS).map(|(index, host)| match host {
            Host::Tcp(host) => Ok((host.to_ascii_lowercase(), port(index))),
            #[cfg(unix)]
            Host::Unix(_) => Err("it names a socket of this machine".to_owned()),
        });
        let hosts: Vec<_> = hosts.collect::<Result<_, _>>()?;
        if hosts.is_empty() {
            return Err("it names no host".to_owned());
        }
        let user = config.get_user().ok_or("it names no user")?;
        let database = config.get_dbname().unwrap_or(user).to_owned();
        // TLS is negotiated before, so that each step can be told.
        config.ssl_mode(SslMode::Disable).application_name(APPLICATION);
        Ok(Self { config, hosts, database, tls })
    }

    /// The hosts, in the order in which they are tried, each with its port.
    pub fn hosts(&self) -> &[(String, u16)] {
        &self.hosts
    }

    /// Where it is: `postgres.mcp:5432`.
    pub fn place(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        foreign(&hosts.join(","), None)
    }

    /// For people: `mcp_prod at postgres.mcp:5432`.
    pub fn words(&self) -> String {
        format!("{} at {}", foreign(&self.database, None), self.place())
    }

    /// The password, so that no words of others repeat it.
    pub(super) fn password(&self) -> Option<&str> {
        self.config.get_password().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

impl Tls {
    fn parse(mode: &str) -> Result<Self, String> {
        Ok(match mode {
            "disable" | "false" => Self::Disable,
            // `allow` would rather go without; that is not asked for.
            "allow" | "prefer" => Self::Prefer,
            "require" | "true" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err("its sslmode is none of PostgreSQL's".to_owned()),
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.words())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_is_read_and_shows_neither_its_user_nor_its_password() {
        let url =
            "postgresql+asyncpg://me:s3cr%40t@A.mcp,b.mcp:5433/mcp_prod?sslmode=verify-ca&pool=5&options=-c";
        let target = Target::parse(url).unwrap();
        assert_eq!(target.hosts(), [("a.mcp".to_owned(), 5432), ("b.mcp".to_owned(), 5433)]);
        assert_eq!((target.tls, target.password()), (Tls::VerifyCa, Some("s3cr@t")));
        assert_eq!(format!("{target:?}"), "Target(mcp_prod at a.mcp:5432,b.mcp:5433)");
        assert_eq!(target.config.get_options(), None);
        let plain = Target::parse("postgres://me@10.0.0.7").unwrap();
        assert_eq!((plain.words().as_str(), plain.tls), ("me at 10.0.0.7:5432", Tls::Prefer));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_without_repeating_it() {
        for url in [
            "",
            "s3cret",
            "mysql://me:s3cret@a/b",
            "postgres://me:s3cret@/b",
            "postgres://a/s3cret",
            "postgres://me:s3cret@a/b?sslmode=s3cret",
            "postgres://me:s3cret@a:s3cret/b",
            "postgres://me:s3cret@%2Fvar%2Frun/b",
        ] {
            let why = Target::parse(url).unwrap_err();
            assert!(!why.contains("s3cret"), "{url}: {why}");
        }
    }
}
