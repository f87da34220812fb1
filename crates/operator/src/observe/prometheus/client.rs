//! One question to a Prometheus, bounded in time and in size. Its answer is taken as it came: the client's own types
//! leave out the warnings, which say that an answer is only a part.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::{AUTHORIZATION, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prometheus_http_query::{Client, InstantQueryBuilder};
use tokio::time::{Instant, timeout_at};

use super::answer::Trouble;
use crate::{
    endpoints::Endpoint,
    web::{self, Unread},
};

/// The largest answer.
const LARGEST: usize = 32 << 20;

/// The longest query that a URL takes, encoded: proxies take no longer request lines.
const LONGEST_IN_URL: usize = 7 << 10;

/// See the module.
pub struct Asking {
    http: reqwest::Client,
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
    /// Asks with certificates that the system trusts, or those in `ca_file` instead.
    pub fn new(ca_file: &str, timeout: Duration) -> Result<Self, String> {
        Ok(Self { http: web::client(ca_file)?, timeout, get_only: Mutex::default() })
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
        let client = Client::from(self.http.clone(), &endpoint.to_string());
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
