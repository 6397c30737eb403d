//! Waiting for what is truly asynchronous.

use std::time::{Duration, Instant};

/// Asks again and again until the answer is `Ok`; after `within`, panics with the last `Err`.
pub(crate) async fn eventually<T, F>(within: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) if Instant::now() >= deadline => panic!("not within {within:?}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
