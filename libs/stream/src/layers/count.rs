//! Counts messages by type and outcome, and how long they took.

use ratebox_kit::Stopwatch;

use super::{Middleware, Next};
use crate::handler::{Delivery, FailureKind, Handled};
use crate::stats;

/// Counts into `ratebox_stream_handled_total` and `ratebox_stream_handler_seconds`. The type is
/// the declared one, or `other`, so a sender cannot make new series.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl Middleware for Count {
    async fn handle(&self, delivery: Delivery, next: Next) -> Handled {
        let message_type = delivery.route.unwrap_or("other");
        let watch = Stopwatch::start();
        let handled = next.run(delivery).await;
        let outcome = outcome(&handled);
        metrics::counter!(stats::HANDLED, "type" => message_type, "outcome" => outcome)
            .increment(1);
        metrics::histogram!(stats::HANDLER_SECONDS, "type" => message_type)
            .record(watch.elapsed().as_secs_f64());
        handled
    }
}

fn outcome(handled: &Handled) -> &'static str {
    let Err(failure) = handled else { return "done" };
    match failure.kind() {
        FailureKind::Retry => "retry",
        FailureKind::Dead(_) => "dead",
        FailureKind::Pause => "pause",
        FailureKind::Snooze(_) => "snooze",
        FailureKind::Release => "release",
    }
}
