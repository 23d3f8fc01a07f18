//! Connections of their own for reads and acknowledgements, with what they keep from call to call.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ratebox_valkey::{Blocking, Error, Reply, Requests, Valkey};

use super::entries::{self, Names};
use crate::{Entry, Lane, StreamName};

/// Idle connections that are kept.
const READERS_MAX: usize = 16;

/// A connection of its own, and its buffers.
pub(super) struct Reader {
    link: Blocking,
    pub(super) requests: Requests,
    names: Names,
}

/// Those that nobody uses now.
#[derive(Default)]
pub(super) struct Readers(Mutex<Vec<Reader>>);

// === impl Reader ===

impl Reader {
    /// Sends the requests that were written; they may block up to `block`.
    pub(super) async fn exchange(
        &mut self,
        block: Duration,
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        self.link.exchange(&self.requests, block).await
    }

    /// Sends requests that were written elsewhere.
    pub(super) async fn send(
        &mut self,
        requests: &Requests,
        block: Duration,
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        self.link.exchange(requests, block).await
    }

    /// The entries of a read.
    pub(super) fn entries<'a>(
        &mut self,
        reply: &Reply,
        deliveries: u32,
        place: impl Fn(&[u8]) -> (&'a StreamName, Lane),
    ) -> Result<Vec<Entry>, Error> {
        entries::by_stream(reply, &mut self.names, deliveries, place)
    }
}

// === impl Readers ===

impl Readers {
    /// Works on a connection that nobody else uses. It goes back only when the work came to its
    /// end in time.
    pub(super) async fn with<T>(
        &self,
        valkey: &Valkey,
        work: impl AsyncFnOnce(&mut Reader) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let idle = self.idle().pop();
        let mut reader = idle.unwrap_or_else(|| Reader {
            link: valkey.blocking(),
            requests: Requests::new(),
            names: Names::default(),
        });
        reader.requests.clear();
        let done = work(&mut reader).await;
        let broken = matches!(&done, Err(Error::Timeout { .. }));
        let mut idle = self.idle();
        if !broken && idle.len() < READERS_MAX {
            idle.push(reader);
        }
        done
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
