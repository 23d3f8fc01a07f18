//! A TCP stream whose bytes are followed by `framing.rs` and whose signs of life are kept.
//!
//! At a violation the offending byte is replaced by a NUL, which no part of a request may hold, and
//! what follows is withheld: hyper then answers 400 to a head, and fails the read of a body. What
//! hyper answers by itself goes out in our form.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::framing::{Framing, Phase};
use crate::pulse::Pulse;
use crate::{refusal, stats};

/// The stream of one connection.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Only `drop` takes it.
    stream: Option<TcpStream>,
    framing: Framing,
    pulse: Arc<Pulse>,
    broken: bool,
    ended: bool,
    /// What goes out in place of what hyper writes (see `refusal.rs`).
    refusal: Option<Vec<u8>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, head_max_bytes: usize, pulse: Arc<Pulse>) -> Self {
        Self {
            stream: Some(stream),
            framing: Framing::new(head_max_bytes),
            pulse,
            broken: false,
            ended: false,
            refusal: None,
        }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("only drop takes the stream"))
    }
}

// === impl AsyncRead for Socket ===

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken {
            // Not an end: hyper would take it for a client that has gone, and not answer.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(self.stream().poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        if fresh.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        if let Err(broken) = self.framing.follow(fresh) {
            tracing::debug!(why = ?broken.why, "refused a badly framed request");
            stats::connection_closed("framing");
            self.broken = true;
            buf.filled_mut()[before + broken.at] = 0;
            buf.set_filled(before + broken.at + 1);
        }
        self.pulse.read(self.framing.phase());
        Poll::Ready(Ok(()))
    }
}

// === impl AsyncWrite for Socket ===

impl Socket {
    fn note(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &outcome {
            Poll::Ready(_) => self.pulse.wrote(),
            Poll::Pending => self.pulse.stalled(),
        }
        outcome
    }
}

impl Socket {
    /// Writes all of it; what is left waits for the next call.
    fn refuse(&mut self, cx: &mut Context<'_>, mut left: Vec<u8>) -> Poll<io::Result<()>> {
        while !left.is_empty() {
            let Poll::Ready(written) = self.stream().poll_write(cx, &left) else {
                self.refusal = Some(left);
                return Poll::Pending;
            };
            left.drain(..written?);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() {
            self.refusal = refusal::in_place_of(bytes);
        }
        let outcome = match self.refusal.take() {
            None => self.stream().poll_write(cx, bytes),
            Some(refusal) => self.refuse(cx, refusal).map_ok(|()| bytes.len()),
        };
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.stream().poll_write_vectored(cx, parts);
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl Drop for Socket {
    /// A stream that is closed with input unread sends a reset, which may reach the client before
    /// our answer does; so such a stream is left to the connection, which reads it out.
    fn drop(&mut self) {
        let unread = self.broken || self.framing.phase() != Phase::Idle;
        if unread
            && !self.ended
            && let Some(stream) = self.stream.take()
        {
            self.pulse.leave(stream);
        }
    }
}
