//! An `OpenID` Connect issuer: its discovery document names it, and its keys are there (guide 000).

use std::time::Duration;

use mcp_health_core::{
    signals::{CheckStep, Failure},
    words,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;
use url::Url;

use crate::{
    Asked, Barred, Permit, Trust,
    said::said,
    web::{self, Web},
};

/// Neither document is longer than this.
const BODY: usize = 256 << 10;

/// What is read of the discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// What is read of the keys.
#[derive(Deserialize)]
struct Keys {
    keys: Vec<serde::de::IgnoredAny>,
}

/// Asks it. `may_name` says whether the document may name this URL for the keys, on its own server or
/// another. `Err` where it may not be asked, with the reason for people.
pub async fn ask(
    issuer: &str,
    may_name: &(dyn Fn(&str) -> bool + Send + Sync),
    trust: &Trust,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<Asked, String> {
    let until = Instant::now() + patience;
    let mut web = Web::new(trust, permit);
    let mut remarks = Vec::new();
    let result = look(issuer, may_name, &mut web, &mut remarks, until).await;
    Asked { certificate: web.certificate, remarks, ..Asked::default() }.ended(result)
}

async fn look(
    issuer: &str,
    may_name: &(dyn Fn(&str) -> bool + Send + Sync),
    web: &mut Web<'_>,
    remarks: &mut Vec<String>,
    until: Instant,
) -> Result<(), Barred> {
    let wrong = |said: String| Barred::from(Failure::new(CheckStep::Answer, said));
    let document = format!("{}/.well-known/openid-configuration", issuer.trim().trim_end_matches('/'));
    let document = web::parse(&document).map_err(Barred::Forbidden)?;
    let discovery: Discovery = json(web, &document, "discovery document", until).await?;
    if discovery.issuer != issuer.trim() {
        return Err(wrong(format!(
            "calls itself {}, which is not the issuer that is named",
            said(&discovery.issuer, &[])
        )));
    }
    let keys = Url::parse(&discovery.jwks_uri);
    let keys = keys.map_err(|_| wrong("names no URL for its keys".to_owned()))?;
    if !may_name(keys.as_str()) {
        let host = said(keys.host_str().unwrap_or_default(), &[]);
        remarks.push(format!(
            "its keys are at {host}, which is not on the operator's allow-list: they were not looked at"
        ));
        return Ok(());
    }
    let keys: Keys = json(web, &keys, "keys", until).await?;
    let count = keys.keys.len();
    if count == 0 {
        return Err(wrong("has no keys: no token can be verified".to_owned()));
    }
    remarks.push(format!("has {}", words::count(count, "key")));
    Ok(())
}

async fn json<T: DeserializeOwned>(
    web: &mut Web<'_>,
    url: &Url,
    what: &str,
    until: Instant,
) -> Result<T, Barred> {
    let got = web.get(url, None, BODY, until).await?;
    if !got.status.is_success() {
        let Failure { step, said } = web::refusal(got.status);
        return Err(Failure::new(step, format!("{said} for its {what}")).into());
    }
    serde_json::from_slice(&got.body).map_err(|_| {
        Failure::new(CheckStep::Answer, format!("answers for its {what} with something else")).into()
    })
}
