//! What Secrets hold (tokens, URLs with passwords, certificates), read in the namespaces of the objects that name them. A
//! value is read again after a minute, goes to whom it is for, and shows nowhere: not in a log, not in a sentence.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use mcp_health_api::SecretKeyRef;
use mcp_probe::Token;
use tokio::time::{Instant, timeout};

use crate::error::answer;

/// How long a value is used before it is read again.
const KEPT: Duration = Duration::from_mins(1);
/// A value that is refused is not read again before this.
const RENEWED: Duration = Duration::from_secs(10);
/// How long the API server's answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A namespace, and a key of a Secret in it.
type Place = (String, SecretKeyRef);

/// What one key of a Secret holds. What it is does not show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Arc<str>);

impl Value {
    /// The text itself, for whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(***)")
    }
}

/// See the module.
pub struct Secrets {
    /// None where the operator may not read Secrets.
    client: Option<Client>,
    cached: Mutex<HashMap<Place, (Instant, Value)>>,
    renewing: tokio::sync::Mutex<()>,
}

impl Secrets {
    /// No value is known yet.
    pub fn new(client: Option<Client>) -> Self {
        Self { client, cached: Mutex::default(), renewing: tokio::sync::Mutex::default() }
    }

    /// The value, at most a minute old; why there is none, as a sentence. `namespace` is that of the object that names it,
    /// and no other.
    pub async fn get(&self, namespace: &str, of: &SecretKeyRef) -> Result<Value, String> {
        match self.known(namespace, of) {
            Some((_, value)) => Ok(value),
            None => self.read(namespace, of).await,
        }
    }

    /// Another value than the one that was refused. The Secret is read again for it, once for all who were refused with
    /// the same.
    pub async fn renewed(
        &self,
        namespace: &str,
        of: &SecretKeyRef,
        is_refused: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let _one_at_a_time = self.renewing.lock().await;
        let (read, value) = match self.known(namespace, of) {
            Some((read, value)) if !is_refused(&value) || read.elapsed() < RENEWED => (read, value),
            _ => (Instant::now(), self.read(namespace, of).await?),
        };
        if is_refused(&value) {
            return Err(format!("Secret {} was read {} s ago", of.name, read.elapsed().as_secs()));
        }
        Ok(value)
    }

    /// The bearer token that a Secret holds.
    pub async fn token(&self, namespace: &str, of: &SecretKeyRef) -> Result<Token, String> {
        let value = self.get(namespace, of).await?;
        Token::new(value.reveal()).ok_or_else(|| no_token(of))
    }

    /// Another token than the one that a server did not accept.
    pub async fn renewed_token(
        &self,
        namespace: &str,
        of: &SecretKeyRef,
        refused: Option<&Token>,
    ) -> Result<Token, String> {
        let is_refused = |value: &Value| Token::new(value.reveal()).as_ref() == refused;
        let value = self.renewed(namespace, of, is_refused).await?;
        Token::new(value.reveal()).ok_or_else(|| no_token(of))
    }

    fn known(&self, namespace: &str, of: &SecretKeyRef) -> Option<(Instant, Value)> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.retain(|_, (read, _)| read.elapsed() < KEPT);
        cached.get(&(namespace.to_owned(), of.clone())).cloned()
    }

    async fn read(&self, namespace: &str, of: &SecretKeyRef) -> Result<Value, String> {
        let may_not = || {
            format!("Secret {} is needed, and the operator may not read Secrets (signals.secrets)", of.name)
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
        let text = std::str::from_utf8(&value.0).ok().map(str::trim).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| format!("key {} of Secret {} holds no text", of.key, of.name))?;
        let value = Value(text.into());
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.insert((namespace.to_owned(), of.clone()), (Instant::now(), value.clone()));
        Ok(value)
    }
}

fn no_token(of: &SecretKeyRef) -> String {
    format!("key {} of Secret {} is no token", of.key, of.name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::act::tests::api_server;

    fn of(key: &str) -> SecretKeyRef {
        SecretKeyRef { name: "db".to_owned(), key: key.to_owned() }
    }

    fn secret(base64: &str) -> (StatusCode, serde_json::Value) {
        (StatusCode::OK, json!({"metadata": {"name": "db"}, "data": {"url": base64}}))
    }

    #[tokio::test]
    async fn a_value_is_read_once_a_minute_and_never_shows() {
        // "planted-one\n", then "planted-two".
        let (client, sent) =
            api_server(vec![secret("cGxhbnRlZC1vbmUK"), secret("cGxhbnRlZC10d28="), secret("////")]);
        let secrets = Secrets::new(Some(client));
        let one = secrets.get("mcp", &of("url")).await.unwrap();
        assert_eq!(one.reveal(), "planted-one");
        assert_eq!(format!("{one:?}"), "Value(***)");
        assert_eq!(secrets.get("mcp", &of("url")).await.unwrap(), one);
        assert_eq!(sent.lock().unwrap().len(), 1);
        // Another namespace is another Secret, whatever its name.
        assert_eq!(secrets.get("other", &of("url")).await.unwrap().reveal(), "planted-two");
        let paths: Vec<String> = sent.lock().unwrap().iter().map(|sent| sent.path.clone()).collect();
        assert_eq!(paths, ["/api/v1/namespaces/mcp/secrets/db", "/api/v1/namespaces/other/secrets/db"]);
        let none = secrets.get("third", &of("url")).await.unwrap_err();
        assert_eq!(none, "key url of Secret db holds no text");
        let none = Secrets::new(None).get("mcp", &of("url")).await.unwrap_err();
        assert_eq!(none, "Secret db is needed, and the operator may not read Secrets (signals.secrets)");
    }
}
