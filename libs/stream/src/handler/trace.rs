//! W3C trace context: which trace a message belongs to, carried over enqueue, retry and follow-up.
//!
//! A retry keeps its headers, so all attempts of a message belong to the trace of its sender. What
//! a handler sends while it runs under [`crate::layers::Trace`] gets a header of its own span.

use std::fmt;

use ratebox_kit::{Message, id};

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// A place in a trace: the header `traceparent` of W3C Trace Context, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

// === impl TraceContext ===

impl TraceContext {
    /// The header's name.
    pub const HEADER: &str = "traceparent";

    /// The first span of a new, sampled trace.
    pub fn new() -> Self {
        Self {
            trace: id::random_bytes(),
            span: id::random_bytes(),
            flags: 1,
        }
    }

    /// Reads a header; `None` for what is no context. Of a later version it reads what version 00
    /// has, as the standard asks.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace, span) = (bytes::<16>(parts.next()?)?, bytes::<8>(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        let too_long = version == 0 && parts.next().is_some();
        let is_void = trace == [0; 16] || span == [0; 8];
        (version != 0xff && !too_long && !is_void).then_some(Self { trace, span, flags })
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span: id::random_bytes(),
            ..self
        }
    }

    /// The trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        id::hex(&self.trace)
    }

    /// The span, 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        id::hex(&self.span)
    }

    /// The span of the handler that runs in this task, under [`crate::layers::Trace`].
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|current| *current).ok()
    }

    /// Adds the header to a message that has none: for what a handler sends itself.
    #[must_use]
    pub fn stamp(self, message: Message) -> Message {
        if message.header(Self::HEADER).is_some() {
            return message;
        }
        message.with_header(Self::HEADER, self.to_string())
    }

    /// Runs `work` as this span.
    pub(crate) async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (self.trace_id(), self.span_id());
        write!(f, "00-{trace}-{span}-{:02x}", self.flags)
    }
}

/// Exactly `N` bytes in lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if text.len() != N * 2 || !text.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_and_written_and_a_child_stays_in_its_trace() {
        let context = TraceContext::parse(HEADER).unwrap();
        assert_eq!(context.to_string(), HEADER);
        let child = context.child();
        assert_eq!(child.trace_id(), context.trace_id());
        assert_ne!(child.span_id(), context.span_id());
    }

    #[test]
    fn what_is_no_context_is_none() {
        for header in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
        ] {
            assert_eq!(TraceContext::parse(header), None, "{header}");
        }
        let later = HEADER.replacen("00", "01", 1) + "-extra";
        assert!(TraceContext::parse(&later).is_some());
    }
}
