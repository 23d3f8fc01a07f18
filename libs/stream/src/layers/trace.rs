//! A span for each attempt, in the trace of the message's sender.

use tracing::Instrument as _;

use super::{Middleware, Next};
use crate::handler::{Delivery, Handled, TraceContext};

/// Runs the handler in a span that belongs to the trace named by the message's `traceparent`, or
/// begins a trace. A retry keeps the header, so every attempt is a span of the same trace and has
/// the sender's span as its parent.
///
/// Meanwhile [`TraceContext::current`] is this attempt's span: what [`crate::handler::Tx`] sends
/// or answers carries it, and so does what is sent through [`TraceContext::stamp`].
#[derive(Clone, Copy, Debug)]
pub struct Trace;

impl Middleware for Trace {
    async fn handle(&self, delivery: Delivery, next: Next) -> Handled {
        let sender = delivery.meta.trace();
        let context = sender.map_or_else(TraceContext::new, TraceContext::child);
        let meta = &delivery.meta;
        let span = tracing::info_span!(
            "message",
            otel.kind = "consumer",
            trace_id = context.trace_id(),
            span_id = context.span_id(),
            parent_span_id = sender.map(|sender| sender.span_id()),
            // Not the id that the sender chose: it may be somebody's number or address.
            entry.id = %meta.entry_id(),
            message.r#type = delivery.route,
            messaging.destination = %meta.stream(),
            attempt = meta.attempt(),
            deliveries = meta.deliveries(),
        );
        context.scope(next.run(delivery).instrument(span)).await
    }
}
