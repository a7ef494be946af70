//! Waiting for a condition on real time, and not for ever.

use std::time::Duration;

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(20);
    let done = tokio::time::timeout(limit, future).await;
    done.expect("done in time")
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
