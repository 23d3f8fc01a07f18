//! The primary that a connection was dialled to, as long as the Sentinels name it.
//!
//! A primary that froze, or that a network cut off, keeps its connections and says nothing: its
//! kernel acknowledges what is sent. Others are promoted meanwhile. So whoever waits for an answer
//! for long asks the Sentinels whether it still waits for the right server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::settings::Address;
use crate::source::Watched;

/// An answer that takes longer makes its caller ask the Sentinels; and so often it asks again.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(1);

/// The primary that a connection was dialled to.
pub(crate) struct Home {
    watched: Arc<Watched>,
    address: Address,
}

// === impl Home ===

impl Home {
    pub(crate) fn new(watched: &Arc<Watched>, address: Address) -> Self {
        Self {
            watched: Arc::clone(watched),
            address,
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Awaits what a server is to answer, which it may take `quiet` for; gives up when the
    /// Sentinels name another one meanwhile. Whether a write was done is unknown then.
    ///
    /// # Errors
    /// [`Error::Connection`] when it was given up.
    pub(crate) async fn while_kept<T>(
        home: Option<&Self>,
        quiet: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let Some(home) = home else {
            return Ok(answer.await);
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = home.left(quiet) => Err(Error::Connection {
                what: format!("the Sentinels name another primary than {}", home.address),
            }),
        }
    }

    /// Ends once the Sentinels name another one.
    async fn left(&self, quiet: Duration) {
        tokio::time::sleep(quiet).await;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let named = Box::pin(self.watched.named()).await;
            if named.is_some_and(|named| named != self.address) {
                return;
            }
        }
    }
}
