//! Awaiting: asks again until the answer is there, and says what was seen last when it does not come.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Long enough for anything here on a busy machine; what takes longer has failed.
pub const DEADLINE: Duration = Duration::from_mins(2);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(150);

/// Asks until the answer is `Ok`. `Err` is what was seen instead.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(
                started.elapsed() < DEADLINE,
                "waited {} s for: {what}\nlast seen: {seen}",
                DEADLINE.as_secs()
            ),
        }
        sleep(PAUSE).await;
    }
}
