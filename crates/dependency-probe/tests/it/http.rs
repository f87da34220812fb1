//! HTTP: five requests, and what comes instead of an answer. And the documents of an OpenID Connect issuer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dependency_probe::{Asked, Trust, http, oidc};
use mcp_health_core::signals::CheckStep;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{ALL, Authority, SOON, Stream, params, serve};

async fn ask(url: &str) -> Asked {
    http::ask(url, &Trust::own(), ALL, SOON).await.unwrap()
}

fn said(asked: &Asked) -> (CheckStep, &str) {
    let failure = asked.result.as_ref().unwrap_err();
    (failure.step, &failure.said)
}

/// The head of a request.
async fn head(stream: &mut (impl Stream + ?Sized)) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn page(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers every request with this.
async fn answering(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = Arc::new(answer.into());
    serve(None, move |mut stream| {
        let answer = answer.clone();
        async move {
            head(&mut *stream).await;
            let _ = stream.write_all(&answer).await;
            // The answer is read before the connection is closed with something unread.
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

#[tokio::test]
async fn five_requests_are_timed_and_a_redirect_is_an_answer_that_nobody_follows() {
    let asked = Arc::new(AtomicUsize::new(0));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let port = serve(None, {
        let (asked, heads) = (asked.clone(), heads.clone());
        move |mut stream| {
            let (asked, heads) = (asked.clone(), heads.clone());
            async move {
                let request = head(&mut *stream).await;
                heads.lock().unwrap().push(request);
                asked.fetch_add(1, Ordering::SeqCst);
                let elsewhere =
                    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(elsewhere.as_bytes()).await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        }
    })
    .await;
    let outcome = ask(&format!("http://me:s3cret@127.0.0.1:{port}/health?a=b")).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    assert!(
        outcome.remarks[0].starts_with("answers in ") && outcome.remarks[0].ends_with(", 5 requests)"),
        "{outcome:?}"
    );
    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("GET /health?a=b HTTP/1.1\r\n"), "{heads:?}");
    assert!(!heads[0].contains("s3cret") && !format!("{outcome:?}").contains("s3cret"));
}

#[tokio::test]
async fn what_comes_instead_of_an_answer_is_told_apart() {
    for (answer, step, says) in [
        (page("503 x", ""), CheckStep::Answer, "answers 503 Service Unavailable"),
        (page("401 x", ""), CheckStep::Login, "answers 401 Unauthorized"),
        (page("299 x", ""), CheckStep::Answer, ""),
        ("+OK Redis\r\n\r\n".to_owned(), CheckStep::Handshake, "does not speak HTTP"),
        (String::new(), CheckStep::Answer, "cuts the connection before its answer"),
    ] {
        let outcome = ask(&format!("http://127.0.0.1:{}", answering(answer).await)).await;
        match says {
            "" => assert_eq!(outcome.result, Ok(())),
            says => assert_eq!(said(&outcome), (step, says)),
        }
    }
    let silent = serve(None, |mut stream| async move {
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    });
    let url = format!("http://127.0.0.1:{}", silent.await);
    let outcome = http::ask(&url, &Trust::own(), ALL, Duration::from_millis(200)).await.unwrap();
    assert_eq!(said(&outcome).0, CheckStep::Answer);
    assert!(
        said(&outcome).1.starts_with("takes the connection, and does not answer within 0.2"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn https_is_asked_by_a_certificate_that_holds() {
    let authority = Authority::new("Test CA");
    let trust = Trust::pem(authority.pem.as_bytes()).unwrap();
    let port = serve(Some(authority.server(&params())), |mut stream| async move {
        head(&mut *stream).await;
        let _ = stream.write_all(page("204 x", "").as_bytes()).await;
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    let url = format!("https://localhost:{port}");
    let outcome = http::ask(&url, &trust, ALL, SOON).await.unwrap();
    assert_eq!((outcome.result, outcome.certificate.unwrap().issuer), (Ok(()), "Test CA".to_owned()));
    let outcome = ask(&url).await;
    assert_eq!(said(&outcome).0, CheckStep::Certificate);
    assert_eq!(outcome.certificate.unwrap().subject, "localhost");
}

#[tokio::test]
async fn what_is_no_url_or_not_permitted_is_not_asked() {
    for url in ["", "ftp://a", "http://"] {
        http::ask(url, &Trust::own(), ALL, SOON).await.unwrap_err();
    }
    let port = answering(page("200 x", "")).await;
    let why =
        http::ask(&format!("http://localhost:{port}"), &Trust::own(), &|_| false, SOON).await.unwrap_err();
    assert!(why.ends_with("not on the operator's allow-list"), "{why}");
}

/// An issuer whose documents are these; `{}` stands for where it is.
async fn issuer(discovery: &'static str, keys: &'static str) -> String {
    let place = Arc::new(Mutex::new(String::new()));
    let port = serve(None, {
        let place = place.clone();
        move |mut stream| {
            let place = place.lock().unwrap().clone();
            async move {
                let request = head(&mut *stream).await;
                let body = if request.starts_with("GET /realm/.well-known/openid-configuration ") {
                    discovery.replace("{}", &place)
                } else {
                    keys.to_owned()
                };
                let _ = stream.write_all(page("200 x", &body).as_bytes()).await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        }
    })
    .await;
    let url = format!("http://127.0.0.1:{port}/realm");
    place.lock().unwrap().clone_from(&url);
    url
}

#[tokio::test]
async fn an_issuer_is_what_it_calls_itself_and_has_keys() {
    let whole = r#"{"issuer": "{}", "jwks_uri": "{}/keys"}"#;
    let elsewhere = r#"{"issuer": "{}", "jwks_uri": "http://keys.invalid/keys"}"#;
    // Of its server, what is below the issuer.
    let below = &(|url: &str| url.starts_with("http://127.0.0.1:") && url.contains("/realm/"));
    let ask = async |discovery, keys| {
        let url = issuer(discovery, keys).await;
        oidc::ask(&url, below, &Trust::own(), ALL, SOON).await.unwrap()
    };
    let well = ask(whole, r#"{"keys": [{"kty": "RSA"}, {}]}"#).await;
    assert_eq!((well.result, &*well.remarks[0]), (Ok(()), "has 2 keys"));
    for (discovery, keys, says) in [
        (whole, r#"{"keys": []}"#, "has no keys: no token can be verified"),
        (whole, "<html>", "answers for its keys with something else"),
        ("[]", "", "answers for its discovery document with something else"),
        (
            r#"{"issuer": "https://other", "jwks_uri": "{}/keys"}"#,
            "",
            "calls itself https://other, which is not the issuer that is named",
        ),
    ] {
        assert_eq!(said(&ask(discovery, keys).await), (CheckStep::Answer, says));
    }
    let far = ask(elsewhere, "").await;
    assert_eq!(far.result, Ok(()));
    assert!(far.remarks[0].starts_with("its keys are at keys.invalid, "), "{far:?}");
    let beside = ask(r#"{"issuer": "{}", "jwks_uri": "{}/../keys"}"#, "<html>").await;
    assert_eq!(beside.result, Ok(()), "nobody looks there");
    assert!(beside.remarks[0].starts_with("its keys are at 127.0.0.1, "), "{beside:?}");
    let url = issuer(elsewhere, "").await;
    let far = oidc::ask(&url, &|_| true, &Trust::own(), ALL, SOON).await.unwrap();
    assert_eq!(said(&far).0, CheckStep::Name);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_a_server_sends_nothing_panics(bytes: Vec<u8>, is_head: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut answer = if is_head { b"HTTP/1.1 200 x\r\n\r\n".to_vec() } else { Vec::new() };
            answer.extend(bytes);
            let url = format!("http://127.0.0.1:{}", answering(answer).await);
            let _ = http::ask(&url, &Trust::own(), ALL, SOON).await;
            let asked = oidc::ask(&url, &|_| true, &Trust::own(), ALL, SOON).await.unwrap();
            assert!(asked.result.is_err());
        });
    }
}
