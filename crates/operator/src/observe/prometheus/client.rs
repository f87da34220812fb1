//! One question to a Prometheus, bounded in time and in size. Its answer is taken as it came: the client's own types
//! leave out the warnings, which say that an answer is only a part.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header::{AUTHORIZATION, HeaderValue};
use prometheus_http_query::Client;
use tokio::time::{Instant, timeout_at};

use super::answer::Trouble;
use crate::{
    endpoints::Endpoint,
    web::{self, Unread},
};

/// The largest answer.
const LARGEST: usize = 32 << 20;

/// See the module.
pub struct Asking {
    http: reqwest::Client,
    timeout: Duration,
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
        Ok(Self { http: web::client(ca_file)?, timeout })
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
        let mut query = client.query(query).query("timeout", format!("{seconds}s"));
        let own = endpoint.credentials().and_then(basic);
        if let Some(value) = own.or_else(|| authorization.cloned()) {
            query = query.header(AUTHORIZATION, value);
        }
        let until = deadline.min(Instant::now() + self.timeout);
        let answer = async {
            let answer = query.post_raw().await.map_err(|error| failed(web::refusal(&error)))?;
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
