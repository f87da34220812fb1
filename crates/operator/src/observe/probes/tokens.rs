//! The credentials that servers want to see, from Secrets in the namespaces of the objects that name them. A token is
//! read again after a minute, and goes into a header and nowhere else.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use mcp_health_api::SecretKeyRef;
use mcp_probe::Token;
use tokio::time::{Instant, timeout};

use crate::error::answer;

/// How long a token is used before it is read again.
const KEPT: Duration = Duration::from_mins(1);
/// A token that is refused is not read again before this.
const RENEWED: Duration = Duration::from_secs(10);
/// How long the API server's answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A namespace, and a key of a Secret in it.
type Place = (String, SecretKeyRef);

/// See the module.
pub struct Tokens {
    /// None where the operator may not read Secrets.
    client: Option<Client>,
    cached: Mutex<HashMap<Place, (Instant, Token)>>,
    renewing: tokio::sync::Mutex<()>,
}

impl Tokens {
    /// No token is known yet.
    pub fn new(client: Option<Client>) -> Self {
        Self { client, cached: Mutex::default(), renewing: tokio::sync::Mutex::default() }
    }

    /// The token; why there is none, as a sentence.
    pub async fn get(&self, namespace: &str, of: &SecretKeyRef) -> Result<Token, String> {
        match self.known(namespace, of) {
            Some((_, token)) => Ok(token),
            None => self.read(namespace, of).await,
        }
    }

    /// Another token than the one that the server did not accept. The Secret is read again for it, once for all who
    /// were refused with the same.
    pub async fn renewed(
        &self,
        namespace: &str,
        of: &SecretKeyRef,
        refused: Option<&Token>,
    ) -> Result<Token, String> {
        let _one_at_a_time = self.renewing.lock().await;
        let known = self.known(namespace, of);
        let (read, token) = match known {
            Some((read, token)) if Some(&token) == refused && read.elapsed() < RENEWED => (read, token),
            Some((read, token)) if Some(&token) != refused => (read, token),
            _ => (Instant::now(), self.read(namespace, of).await?),
        };
        if Some(&token) == refused {
            return Err(format!("Secret {} was read {} s ago", of.name, read.elapsed().as_secs()));
        }
        Ok(token)
    }

    fn known(&self, namespace: &str, of: &SecretKeyRef) -> Option<(Instant, Token)> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.retain(|_, (read, _)| read.elapsed() < KEPT);
        cached.get(&(namespace.to_owned(), of.clone())).cloned()
    }

    async fn read(&self, namespace: &str, of: &SecretKeyRef) -> Result<Token, String> {
        let may_not = || {
            format!(
                "Secret {} holds its token, and the operator may not read Secrets (signals.secrets)",
                of.name
            )
        };
        let client = self.client.clone().ok_or_else(may_not)?;
        let api: Api<Secret> = Api::namespaced(client, namespace);
        let secret = match timeout(PATIENCE, api.get(&of.name)).await {
            Err(_) => Err(format!("Secret {}: no answer within {} s", of.name, PATIENCE.as_secs())),
            Ok(Ok(secret)) => Ok(secret),
            // What the API server says is not repeated: it is known what was asked for.
            Ok(Err(error)) => Err(match answer(&error).map(|status| status.code) {
                Some(403) => may_not(),
                Some(404) => format!("Secret {} does not exist", of.name),
                Some(code) => format!("Secret {}: the API server answers {code}", of.name),
                None => format!("Secret {}: the API server cannot be reached", of.name),
            }),
        }?;
        let value = secret.data.as_ref().and_then(|data| data.get(&of.key));
        let value = value.ok_or_else(|| format!("Secret {} has no key {}", of.name, of.key))?;
        let token = std::str::from_utf8(&value.0).ok().and_then(Token::new);
        let token = token.ok_or_else(|| format!("key {} of Secret {} is no token", of.key, of.name))?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.insert((namespace.to_owned(), of.clone()), (Instant::now(), token.clone()));
        Ok(token)
    }
}
