//! A bucket of an object store that speaks S3: one signed request for a page of what is in it, which also
//! counts a small bucket (SEED_FACTS §4).

use std::{iter, time::Duration};

use http::{StatusCode, header::DATE};
use jiff::{Timestamp, fmt::rfc2822};
use mcp_health_core::signals::{CheckStep, Failure};
use rusty_s3::{Bucket, Method, UrlStyle, signing::sign};
use tokio::time::Instant;

use crate::{
    Asked, Barred, Permit, Trust,
    said::{said, size},
    web::{self, Got, Web},
};

/// Objects of one page.
const PAGE: usize = 1000;
/// A page is no longer than this, in bytes: keys are at most 1 KiB each.
const BODY: usize = 2 << 20;
/// For how long a signature holds: clocks may differ by as much, as S3 has it for signatures in headers.
const SIGNED: Duration = Duration::from_mins(15);

/// A bucket, and who asks for it.
pub struct Target<'a> {
    /// The store, as `https://s3.eu-central-1.amazonaws.com`.
    pub endpoint: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// The store's region.
    pub region: &'a str,
    /// The bucket's name is part of the host name, not of the path.
    pub virtual_hosts: bool,
    /// The access key's id.
    pub access_key: &'a str,
    /// The secret key.
    pub secret_key: &'a str,
}

/// Asks it. `Err` where it may not be asked, with the reason for people.
pub async fn ask(
    target: &Target<'_>,
    trust: &Trust,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<Asked, String> {
    ask_at(target, Timestamp::now(), trust, permit, patience).await
}

/// The same, by a clock that says `now`: what is signed says so too.
pub async fn ask_at(
    target: &Target<'_>,
    now: Timestamp,
    trust: &Trust,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<Asked, String> {
    let style = if target.virtual_hosts { UrlStyle::VirtualHost } else { UrlStyle::Path };
    let endpoint = web::parse(target.endpoint)?;
    let bucket = Bucket::new(endpoint, style, target.bucket.to_owned(), target.region.to_owned());
    let bucket = bucket.map_err(|_| "its endpoint and bucket make no URL".to_owned())?;
    let (access_key, secret_key) = (target.access_key.trim(), target.secret_key.trim());
    let page = PAGE.to_string();
    let page = [("list-type", "2"), ("max-keys", &*page)].into_iter();
    let (url, seconds) = (bucket.base_url().clone(), SIGNED.as_secs());
    let url = sign(
        &now,
        Method::Get,
        url,
        access_key,
        secret_key,
        None,
        target.region,
        seconds,
        page,
        iter::empty(),
    );
    let mut web = Web::new(trust, permit);
    let got = web.get(&url, None, BODY, Instant::now() + patience).await;
    let mut asked = Asked { certificate: web.certificate, ..Asked::default() };
    let result = match got {
        Ok(got) if got.status.is_success() => {
            counted(&got.body).map(|count| asked.remarks.push(count)).map_err(Barred::from)
        }
        Ok(got) => Err(refusal(target, &got, now).into()),
        Err(barred) => Err(barred),
    };
    asked.ended(result)
}

/// `has 3 objects with 12 MiB`.
fn counted(body: &[u8]) -> Result<String, Failure> {
    let text = String::from_utf8_lossy(body);
    if tag(&text, "Name").is_none() || tag(&text, "IsTruncated").is_none() {
        return Err(Failure::new(CheckStep::Answer, "answers with something else than a list of objects"));
    }
    let sizes = text.split("<Size>").skip(1).filter_map(|rest| rest.split('<').next()?.parse::<u64>().ok());
    let (count, bytes) =
        sizes.fold((0_usize, 0_u64), |(count, bytes), size| (count + 1, bytes.saturating_add(size)));
    Ok(match (tag(&text, "IsTruncated"), count) {
        (Some("true"), _) => format!("has more than {count} objects"),
        (_, 0) => "has no objects".to_owned(),
        (_, 1) => format!("has 1 object with {}", size(bytes)),
        (_, count) => format!("has {count} objects with {}", size(bytes)),
    })
}

fn refusal(target: &Target<'_>, got: &Got, now: Timestamp) -> Failure {
    let text = String::from_utf8_lossy(&got.body);
    let code = tag(&text, "Code").unwrap_or_default();
    let secrets = [target.access_key.trim(), target.secret_key.trim()];
    let bucket = target.bucket;
    if matches!(
        code,
        "RequestTimeTooSkewed"
            | "AccessDenied"
            | "SignatureDoesNotMatch"
            | "AuthorizationQueryParametersError"
    ) && let Some(apart) = apart(got, now)
    {
        let said = format!(
            "refuses the request: its clock and the operator's are {} min apart",
            apart.as_secs() / 60
        );
        return Failure::new(CheckStep::Login, said);
    }
    let (step, text) = match code {
        "SignatureDoesNotMatch" => {
            (CheckStep::Login, "refuses the secret key (SignatureDoesNotMatch)".to_owned())
        }
        // The second is versitygw's.
        "InvalidAccessKeyId" | "XAdminUserNotFound" => {
            (CheckStep::Login, format!("does not know the access key ({code})"))
        }
        "AccessDenied" => {
            (CheckStep::Login, format!("does not let the access key list {bucket} (AccessDenied)"))
        }
        "NoSuchBucket" => (CheckStep::Answer, format!("there is no bucket {bucket} (NoSuchBucket)")),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            (CheckStep::Answer, format!("has the bucket in another region or at another address ({code})"))
        }
        "" => return web::refusal(got.status),
        code => {
            let step = match got.status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CheckStep::Login,
                _ => CheckStep::Answer,
            };
            let message = tag(&text, "Message").unwrap_or_default();
            (step, format!("answers {}: {code} {message}", web::words(got.status)))
        }
    };
    Failure::new(step, said(&text, &secrets))
}

/// How far its clock is from the operator's, where that is further than a signature holds.
fn apart(got: &Got, now: Timestamp) -> Option<Duration> {
    let date = rfc2822::parse(got.headers.get(DATE)?.to_str().ok()?).ok()?;
    let apart = date.timestamp().duration_since(now).unsigned_abs();
    (apart >= SIGNED).then_some(apart)
}

/// The text of the first element of this name.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split('<').next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const TARGET: Target<'static> = Target {
        endpoint: "http://s3.mcp",
        bucket: "mcp-storage",
        region: "us-east-1",
        virtual_hosts: false,
        access_key: "AKIDEXAMPLE",
        secret_key: "s3cretkey",
    };

    fn got(status: u16, body: &str, date: Option<&str>) -> Got {
        let mut headers = HeaderMap::new();
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        Got { status: StatusCode::from_u16(status).unwrap(), headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_page_is_counted() {
        let page = |objects: &str, more: bool| {
            format!(
                "<ListBucketResult><Name>b</Name><IsTruncated>{more}</IsTruncated>{objects}</ListBucketResult>"
            )
        };
        let counted = |text: String| counted(text.as_bytes()).map_err(|failure| failure.said);
        assert_eq!(counted(page("", false)).unwrap(), "has no objects");
        let two = "<Contents><Key>a</Key><Size>1024</Size></Contents><Contents><Size>2048</Size></Contents>";
        assert_eq!(counted(page(two, false)).unwrap(), "has 2 objects with 3 KiB");
        assert_eq!(counted(page(two, true)).unwrap(), "has more than 2 objects");
        counted("<html>".to_owned()).unwrap_err();
    }

    #[test]
    fn refusals_are_told_apart_and_keys_are_not_shown() {
        let now: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        let error = |code: &str| {
            format!("<Error><Code>{code}</Code><Message>AKIDEXAMPLE s3cretkey</Message></Error>")
        };
        let said = |status, code: &str, date| {
            let Failure { step, said } = refusal(&TARGET, &got(status, &error(code), date), now);
            format!("{step}: {said}")
        };
        assert_eq!(
            said(403, "SignatureDoesNotMatch", None),
            "login: refuses the secret key (SignatureDoesNotMatch)"
        );
        assert_eq!(said(404, "NoSuchBucket", None), "answer: there is no bucket mcp-storage (NoSuchBucket)");
        assert_eq!(said(403, "Odd", None), "login: answers 403 Forbidden: Odd *** ***");
        assert_eq!(said(503, "SlowDown", None), "answer: answers 503 Service Unavailable: SlowDown *** ***");
        let late = Some("Sun, 22 Nov 2026 00:20:00 GMT");
        let says = "login: refuses the request: its clock and the operator's are 20 min apart";
        assert_eq!(said(403, "RequestTimeTooSkewed", late), says);
        assert_eq!(said(403, "NoSuchBucket", late), "answer: there is no bucket mcp-storage (NoSuchBucket)");
        assert_eq!(refusal(&TARGET, &got(502, "", None), now).said, "answers 502 Bad Gateway");
    }

    proptest! {
        #[test]
        fn whatever_a_store_says_nothing_panics(body: String, status in 100_u16..600, date in "[ -~]*") {
            let got = got(status, &body, Some(&date));
            let _ = (counted(body.as_bytes()), refusal(&TARGET, &got, Timestamp::now()));
        }
    }
}
