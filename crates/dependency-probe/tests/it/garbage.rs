//! Whatever a server sends, asking it ends with a failure, and nothing panics.

use dependency_probe::{Access, Trust, rabbitmq, redis, s3};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{ALL, SOON, serve};

/// Sends this to whoever comes, and reads what they send until they leave.
async fn sending(bytes: Vec<u8>) -> u16 {
    serve(None, move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
        }
    })
    .await
}

fn frame(kind: u8, size: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 0];
    frame.extend(size.to_be_bytes());
    frame.extend(payload);
    frame.push(0xce);
    frame
}

/// An AMQP `start` that offers this, then whatever.
fn start(mechanisms: &[u8], more: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 0];
    payload.extend(u32::try_from(mechanisms.len()).unwrap().to_be_bytes());
    payload.extend(mechanisms);
    payload.extend([0, 0, 0, 5]);
    payload.extend(b"en_US");
    let mut bytes = frame(1, u32::try_from(payload.len()).unwrap(), &payload);
    bytes.extend(more);
    bytes
}

async fn ask_redis(port: u16) {
    let access = Access::redis(&format!("redis://mcp:s3cret@127.0.0.1:{port}/1")).unwrap();
    let (asked, look) = redis::ask(&access, &Trust::own(), None, ALL, SOON).await.unwrap();
    assert!(look.is_none() && asked.result.is_err() && !format!("{asked:?}").contains("s3cret"), "{asked:?}");
}

async fn ask_rabbitmq(port: u16) -> String {
    let access = Access::amqp(&format!("amqp://mcp:s3cret@127.0.0.1:{port}")).unwrap();
    let management = format!("http://127.0.0.1:{port}");
    let target = rabbitmq::Target { access: &access, management: Some(&management), queues: &[] };
    let asked = rabbitmq::ask(&target, &Trust::own(), ALL, SOON).await.unwrap();
    assert!(!format!("{asked:?}").contains("s3cret"), "{asked:?}");
    asked.result.unwrap_err().to_string()
}

async fn ask_s3(port: u16) {
    let endpoint = format!("http://127.0.0.1:{port}");
    let target = s3::Target {
        endpoint: &endpoint,
        bucket: "mcp-storage",
        region: "us-east-1",
        virtual_hosts: false,
        access_key: "AKIDEXAMPLE",
        secret_key: "s3cret",
    };
    let asked = s3::ask(&target, &Trust::own(), ALL, SOON).await.unwrap();
    assert!(asked.result.is_err() && !format!("{asked:?}").contains("s3cret"), "{asked:?}");
}

#[tokio::test]
async fn what_a_broker_says_instead_of_a_welcome_is_told() {
    let close = {
        let mut payload = vec![0, 10, 0, 50, 1, 0x93, 10];
        payload.extend(b"no: s3cret and more");
        frame(1, u32::try_from(payload.len()).unwrap(), &payload)
    };
    for (bytes, says) in [
        (b"AMQP\x00\x01\x00\x00".to_vec(), "speaks another version of AMQP than 0-9-1 (handshake)"),
        (Vec::new(), "cuts the connection before its answer (handshake)"),
        (frame(1, 4, &[0, 10, 0, 20]), "asks for more than a user and a password (login)"),
        (frame(1, u32::MAX, b""), "does not speak AMQP (handshake)"),
        (start(b"EXTERNAL", b""), "takes no login by user and password (PLAIN) (login)"),
        (start(b"EXTERNAL PLAIN", b""), "cuts the connection on the login (login)"),
        (start(b"PLAIN", &close), "ends the connection: no: *** (login)"),
    ] {
        assert_eq!(ask_rabbitmq(sending(bytes).await).await, says);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_a_server_sends_is_a_failure(
        bytes: Vec<u8>,
        text in "[-+$*:_#,(%~>=|!][ -~]{0,30}\r\n[ -~]{0,30}\r\n",
        size in 0_u32..64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            ask_redis(sending(bytes.clone()).await).await;
            ask_redis(sending(format!("+OK\r\n+OK\r\n+PONG\r\n{text}").into_bytes()).await).await;
            ask_rabbitmq(sending(bytes.clone()).await).await;
            ask_rabbitmq(sending(start(b"PLAIN", &frame(1, size, &bytes))).await).await;
            ask_s3(sending(bytes.clone()).await).await;
            let mut page = b"HTTP/1.1 200 x\r\n\r\n<Error>".to_vec();
            page.extend(&bytes);
            ask_s3(sending(page).await).await;
        });
    }
}
