//! Whether something answers `GET` with 2xx or 3xx, and how fast: five timed requests (guide 001).

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Asked, Barred, Permit, Trust,
    web::{self, Web},
};

/// So often it is asked.
const REQUESTS: usize = 5;

/// Asks it. `patience` is for one request; where they take longer together, fewer are made. `Err` where it
/// may not be asked, with the reason for people.
pub async fn ask(url: &str, trust: &Trust, permit: Permit<'_>, patience: Duration) -> Result<Asked, String> {
    let url = web::parse(url)?;
    let mut web = Web::new(trust, permit);
    let mut times = Vec::with_capacity(REQUESTS);
    let began = Instant::now();
    let result = loop {
        let asked = Instant::now();
        match web.get(&url, None, 0, asked + patience).await {
            Ok(got) if got.status.is_success() || got.status.is_redirection() => times.push(asked.elapsed()),
            Ok(got) => break Err(Barred::from(web::refusal(got.status))),
            Err(barred) => break Err(barred),
        }
        if times.len() == REQUESTS || began.elapsed() >= patience {
            break Ok(());
        }
    };
    let remarks = told(&mut times).into_iter().collect();
    Asked { certificate: web.certificate, remarks, ..Asked::default() }.ended(result)
}

/// `answers in 12 ms (10 to 31 ms, 5 requests)`: median, least and most.
fn told(times: &mut [Duration]) -> Option<String> {
    times.sort_unstable();
    let (least, most) = (times.first()?.as_millis(), times.last()?.as_millis());
    let median = times[times.len() / 2].as_millis();
    Some(match times.len() {
        1 => format!("answers in {median} ms"),
        count => format!("answers in {median} ms ({least} to {most} ms, {count} requests)"),
    })
}
