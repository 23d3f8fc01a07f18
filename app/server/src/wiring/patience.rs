//! Waits at the start for servers that are away, as a running role does.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ratebox_kit::Stopwatch;

/// How often a server that is away is tried.
const EVERY: Duration = Duration::from_secs(1);

/// How often is said that it is still away.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// How long a start waits, for all servers together.
pub struct Patience {
    limit: Option<Duration>,
    every: Duration,
    since: Stopwatch,
}

// === impl Patience ===

impl Patience {
    /// Waits so many seconds from now; 0 = as long as it takes.
    pub fn of_seconds(limit: u64) -> Self {
        Self {
            limit: (limit > 0).then(|| Duration::from_secs(limit)),
            every: EVERY,
            since: Stopwatch::start(),
        }
    }

    /// Tries until it works.
    ///
    /// # Errors
    /// When it cannot work however long is waited, or not within the limit.
    pub async fn until<T>(
        &self,
        what: &str,
        mut reach: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let waited = Stopwatch::start();
        let mut said: Option<(String, Stopwatch)> = None;
        loop {
            let error = match Box::pin(reach()).await {
                Ok(reached) => {
                    if said.is_some() {
                        let waited_s = waited.elapsed().as_secs();
                        tracing::info!(waited_s, "{what} is there; the start goes on");
                    }
                    return Ok(reached);
                }
                Err(error) if !may_pass(&error) => return Err(error),
                Err(error) => error,
            };
            if let Some(limit) = self.limit.filter(|limit| self.since.elapsed() >= *limit) {
                let limit = limit.as_secs();
                return Err(error).with_context(|| {
                    format!("{what} stayed away for {limit} s (server.start_timeout_s)")
                });
            }
            let text = format!("{error:#}");
            let is_news = said
                .as_ref()
                .is_none_or(|(last, at)| *last != text || at.elapsed() >= SAY_EVERY);
            if is_news {
                tracing::warn!("waiting for {what}, which is not there: {text}");
                said = Some((text, Stopwatch::start()));
            }
            tokio::time::sleep(self.every).await;
        }
    }
}

/// A server is away, and nothing is wrong with what was asked of it.
fn may_pass(error: &anyhow::Error) -> bool {
    let mut databases = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<ratebox_db::Error>());
    if databases.any(ratebox_db::Error::is_refusal) {
        return false;
    }
    error.chain().any(|cause| {
        let db = cause.downcast_ref::<ratebox_db::Error>();
        let store = cause.downcast_ref::<ratebox_store::Error>();
        let bus = cause.downcast_ref::<ratebox_valkey::Error>();
        db.is_some_and(ratebox_db::Error::is_retryable)
            || store.is_some_and(ratebox_store::Error::is_retryable)
            || bus.is_some_and(ratebox_valkey::Error::is_retryable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> anyhow::Error {
        let what = "refused".to_owned();
        anyhow::Error::new(ratebox_valkey::Error::Connection { what }).context("the bus")
    }

    #[tokio::test]
    async fn what_is_away_is_waited_for_and_what_is_wrong_is_not() {
        let mut patience = Patience::of_seconds(0);
        patience.every = Duration::ZERO;
        let mut tries = 0;
        let reached = patience
            .until("the bus", async || {
                tries += 1;
                if tries < 5 { Err(away()) } else { Ok(tries) }
            })
            .await;
        assert_eq!(reached.unwrap(), 5);
        let denied = ratebox_valkey::Error::Denied {
            code: "WRONGPASS".to_owned(),
        };
        let wrong = async || Err::<(), _>(anyhow::Error::new(denied.clone()));
        let error = patience.until("the bus", wrong).await.unwrap_err();
        assert!(error.to_string().contains("WRONGPASS"), "{error:#}");
        let refused = || {
            ratebox_store::Error::from(ratebox_db::Error::Refused {
                code: "28P01".to_owned(),
                said: None,
            })
        };
        let wrong = async || Err::<(), _>(anyhow::Error::new(refused()));
        let error = patience.until("the store", wrong).await.unwrap_err();
        assert!(format!("{error:#}").contains("28P01"), "{error:#}");
    }

    #[tokio::test]
    async fn a_limit_of_the_settings_ends_the_wait_and_is_named() {
        let mut patience = Patience::of_seconds(7);
        patience.limit = Some(Duration::ZERO);
        let never = async || Err::<(), _>(away());
        let error = patience.until("the bus", never).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("the bus stayed away") && text.contains("refused"),
            "{text}"
        );
    }
}
