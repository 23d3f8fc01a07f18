//! Waiting for a condition with a deadline: the only place in the tests where time is slept away.

use std::time::Duration;

use ratebox_kit::Stopwatch;

/// Between two looks. Short, because what is waited for usually happens at once.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks every 10 ms until `condition` holds.
///
/// ```ignore
/// wait_until(Duration::from_secs(5), "the outbox is empty", || async { pending().await == 0 }).await;
/// ```
///
/// # Panics
/// When it does not hold within `deadline`; the message says what was waited for.
pub async fn wait_until<F>(deadline: Duration, what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    wait_for(deadline, what, || {
        let holds = condition();
        async { holds.await.then_some(()) }
    })
    .await;
}

/// Looks every 10 ms until `look` has something, and returns it.
///
/// # Panics
/// When there is nothing within `deadline`; the message says what was waited for.
pub async fn wait_for<T, F>(deadline: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let waited = Stopwatch::start();
    loop {
        // A look that hangs must not outlive the deadline.
        let left = deadline.saturating_sub(waited.elapsed()).max(LOOK_EVERY);
        if let Ok(Some(found)) = tokio::time::timeout(left, look()).await {
            return found;
        }
        assert!(
            waited.elapsed() < deadline,
            "waited {deadline:?} in vain until {what}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The same for code that starts and stops servers: blocks the thread.
pub(crate) fn block_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let waited = Stopwatch::start();
    while !condition() {
        if waited.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}
