//! One question to a Prometheus, bounded in time and in size. Its answer is taken as it came: the client's
//! own types leave out the warnings, which say that an answer is only a part.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::{AUTHORIZATION, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prometheus_http_query::{Client, InstantQueryBuilder};
use tokio::time::{Instant, timeout_at};

use super::answer::Trouble;
use crate::{
    allowed::may_lead_to,
    endpoints::{AllowList, Endpoint},
    web::{self, Unread},
};

/// The largest answer.
const LARGEST: usize = 32 << 20;

/// The most clients, each with its connections, that are kept. Beyond, all are made again: objects may name
/// many hosts.
const MOST_CLIENTS: usize = 64;

/// The longest query that a URL takes, encoded: proxies take no longer request lines.
const LONGEST_IN_URL: usize = 7 << 10;

/// See the module.
pub struct Asking {
    trust: rustls::ClientConfig,
    own: Option<Endpoint>,
    allowed: Arc<AllowList>,
    /// By host and port. The operator's own has one that no object's address is judged by.
    clients: Mutex<HashMap<(bool, String), reqwest::Client>>,
    timeout: Duration,
    /// Those that take no POST: a proxy in front of them lets GET through only.
    get_only: Mutex<HashSet<Endpoint>>,
}

/// An answer as it came.
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Asking {
    /// Asks the operator's `own` wherever its name leads, and others where `allowed` permits the address.
    /// Trusts the certificates that the system does, or those in `ca_file` instead.
    pub fn new(
        ca_file: &str,
        own: Option<Endpoint>,
        allowed: AllowList,
        timeout: Duration,
    ) -> Result<Self, String> {
        let (allowed, clients) = (Arc::new(allowed), Mutex::default());
        Ok(Self { trust: web::trust(ca_file)?, own, allowed, clients, timeout, get_only: Mutex::default() })
    }

    /// The client that may ask this endpoint.
    fn client(&self, endpoint: &Endpoint) -> Result<reqwest::Client, Trouble> {
        let failed = |why: String| Trouble::Failed(why);
        let is_own = self.own.as_ref() == Some(endpoint);
        // No client resolves, and so judges, a host that is written as an address.
        if !is_own && endpoint.address().is_some_and(|address| !may_lead_to(&self.allowed, address)) {
            return Err(failed(
                "the operator may not contact its address (signals.allowedEndpoints)".to_owned(),
            ));
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (is_own, endpoint.place());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = if is_own {
            web::client(&self.trust)
        } else {
            web::guarded_client(&self.trust, Arc::clone(&self.allowed), endpoint.port())
        };
        let client = client.map_err(failed)?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// The answer to one query, which comes before `deadline`, or there is none.
    pub async fn ask(
        &self,
        endpoint: &Endpoint,
        authorization: Option<&HeaderValue>,
        query: &str,
        deadline: Instant,
    ) -> Result<Answered, Trouble> {
        let failed = |why: &str| Trouble::Failed(why.to_owned());
        let seconds = self.timeout.as_secs().max(1);
        // Without its credentials.
        let client = Client::from(self.client(endpoint)?, &endpoint.to_string());
        let client = client.map_err(|_| failed("its URL is none"))?;
        let own = endpoint.credentials().and_then(basic);
        let authorization = own.or_else(|| authorization.cloned());
        let asking = || {
            let asking = client.query(query).query("timeout", format!("{seconds}s"));
            match &authorization {
                Some(value) => asking.header(AUTHORIZATION, value.clone()),
                None => asking,
            }
        };
        let until = deadline.min(Instant::now() + self.timeout);
        let answer = async {
            let answer = self.answer(endpoint, query, asking).await?;
            let status = answer.status();
            if status.is_redirection() {
                return Err(failed("it answers with a redirect, which is not followed"));
            }
            match web::body(answer, LARGEST).await {
                Ok(body) => Ok(Answered { status: status.as_u16(), body }),
                Err(Unread::TooLong) => Err(failed("its answer is larger than 32 MiB")),
                Err(Unread::Broken) => Err(failed("the connection broke off")),
            }
        };
        match timeout_at(until, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Failed(format!("no answer within {seconds} s"))),
        }
    }
}

impl Asking {
    /// What comes back by POST; by GET where POST is not let through. That is remembered of an endpoint.
    async fn answer(
        &self,
        endpoint: &Endpoint,
        query: &str,
        asking: impl Fn() -> InstantQueryBuilder,
    ) -> Result<reqwest::Response, Trouble> {
        let failed = |error: &_| Trouble::Failed(web::refusal(error).to_owned());
        let known = || self.get_only.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = None;
        if !known().contains(endpoint) {
            let answer = asking().post_raw().await.map_err(|error| failed(&error))?;
            // The method is not allowed, not implemented, or forbidden by a proxy.
            if !matches!(answer.status().as_u16(), 403 | 405 | 501) {
                return Ok(answer);
            }
            refused = Some(answer.status().as_u16());
        }
        let length: usize = utf8_percent_encode(query, NON_ALPHANUMERIC).map(str::len).sum();
        if length > LONGEST_IN_URL {
            let why =
                format!("it takes no POST, and the query is too long for a URL ({length} bytes encoded)");
            return Err(Trouble::Failed(why));
        }
        let answer = asking().get_raw().await.map_err(|error| failed(&error))?;
        if refused.is_some() && (answer.status().is_success() || refused != Some(403)) {
            known().insert(endpoint.clone());
        }
        match answer.status().as_u16() {
            414 | 431 => {
                Err(Trouble::Failed("it takes no POST, and the query is too long for its URL".to_owned()))
            }
            _ => Ok(answer),
        }
    }
}

/// The bearer token of a file, as a header.
pub fn bearer(file: &str) -> Result<HeaderValue, String> {
    let token = std::fs::read_to_string(file).map_err(|error| format!("{file}: {}", error.kind()))?;
    sensitive(&format!("Bearer {}", token.trim())).ok_or_else(|| format!("{file} holds no token"))
}

fn basic(credentials: &str) -> Option<HeaderValue> {
    let credentials: Vec<u8> = percent_encoding::percent_decode_str(credentials).collect();
    sensitive(&format!("Basic {}", STANDARD.encode(credentials)))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::net::TcpListener;

    use super::*;

    /// What comes of asking `host` on a port of this machine, and whether anything reached it.
    async fn asked(host: &str, own: bool, allowed: &[&str]) -> (Result<u16, String>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::parse(&format!("http://{host}:{port}")).unwrap();
        let allowed: Vec<String> = allowed.iter().map(|one| one.replace("PORT", &port.to_string())).collect();
        let own = own.then(|| endpoint.clone());
        let allowed = AllowList::parse(&allowed).unwrap();
        let asking = Asking::new("", own, allowed, Duration::from_secs(5)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let hang_up = async { drop(listener.accept().await.unwrap()) };
        tokio::pin!(hang_up);
        let answer = asking.ask(&endpoint, None, "up", deadline);
        tokio::pin!(answer);
        let (answer, reached) = tokio::select! {
            biased;
            () = &mut hang_up => (answer.await, true),
            answer = &mut answer => (answer, false),
        };
        let answer = answer.map(|answer| answer.status).map_err(|trouble| match trouble {
            Trouble::Failed(why) => why,
            _ => unreachable!("nothing answers"),
        });
        (answer, reached)
    }

    #[tokio::test]
    async fn a_permitted_name_that_leads_to_a_forbidden_address_is_not_contacted() {
        let (answer, reached) = asked("localhost", false, &["localhost"]).await;
        assert_eq!(
            answer.unwrap_err(),
            "its name resolves to an address that the operator may not contact (signals.allowedEndpoints)"
        );
        assert!(!reached);
    }

    #[tokio::test]
    async fn an_address_that_is_not_permitted_is_not_contacted_however_it_is_written() {
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]"] {
            let (answer, reached) = asked(host, false, &["localhost"]).await;
            assert_eq!(
                answer.unwrap_err(),
                "the operator may not contact its address (signals.allowedEndpoints)",
                "{host}"
            );
            assert!(!reached, "{host}");
        }
    }

    #[tokio::test]
    async fn the_operators_own_and_an_address_that_is_permitted_are_contacted() {
        assert!(asked("localhost", true, &[]).await.1);
        assert!(asked("127.0.0.1", false, &["127.0.0.1:PORT"]).await.1);
        assert!(asked("localhost", false, &["localhost", "127.0.0.1:PORT", "[::1]:PORT"]).await.1);
    }
}
