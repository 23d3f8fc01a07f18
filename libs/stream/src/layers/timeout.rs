//! A limit on the time that a handler takes for one message.

use std::time::Duration;

use super::{Middleware, Next};
use crate::handler::{Delivery, Failure, Handled};

/// Stops a handler that takes too long: it is dropped where it waits, and the message is tried
/// again with code `handler.timeout`. A handler that never awaits cannot be stopped.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    limit: Duration,
}

// === impl Timeout ===

impl Timeout {
    /// At most this long for each attempt.
    pub fn after(limit: Duration) -> Self {
        Self { limit }
    }
}

impl Middleware for Timeout {
    async fn handle(&self, delivery: Delivery, next: Next) -> Handled {
        let work = tokio::time::timeout(self.limit, next.run(delivery));
        work.await.unwrap_or_else(|_| {
            let ms = self.limit.as_millis();
            Err(Failure::retry(
                "handler.timeout",
                format_args!("the handler took more than {ms} ms"),
            ))
        })
    }
}
