//! From a submission to the promise of its 202.
//!
//! Submissions of all connections wait in one bounded queue. A few batches are under way at once;
//! each takes everything that waits and keeps it with one commit (`durable.rs`) or one pipelined
//! append (`stream.rs`), then answers everybody in it. The work runs in tasks of its own, so a
//! client that goes away cancels nothing.

mod durable;
mod entry_ref;
mod publisher;
mod queue;
mod stream;

use bytes::Bytes;
use ratebox_intake::{Action, Lane, Profile};
use ratebox_kit::Timestamp;
use ratebox_store::NewImport;
use uuid::Uuid;

pub(crate) use self::durable::Durable;
pub(crate) use self::entry_ref::EntryRef;
pub(crate) use self::publisher::Publisher;
pub(crate) use self::queue::{Backend, Queue};
pub(crate) use self::stream::Streamed;
use crate::idempotency::Key;
use crate::problem::ApiError;

/// One request on its way to the bus.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) id: Uuid,
    pub(crate) accepted_at: Timestamp,
    pub(crate) lane: Lane,
    pub(crate) action: Action,
    pub(crate) profile: Option<Profile>,
    pub(crate) item_count: u32,
    pub(crate) owner: String,
    pub(crate) source: String,
    pub(crate) external_ref: Option<String>,
    pub(crate) batch_id: Option<String>,
    /// Requests with the same key keep their order.
    pub(crate) key: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// The envelope as it travels.
    pub(crate) body: Bytes,
}

impl Parcel {
    /// Names and values beside the envelope.
    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, value) in [("key", &self.key), ("traceparent", &self.traceparent)] {
            if let Some(value) = value {
                headers.push((name.to_owned(), value.clone()));
            }
        }
        headers
    }

    /// Gives it another id, in its envelope as well. The id stands near the beginning of an
    /// envelope, and nothing else in it looks like that id.
    fn rename(&mut self, id: Uuid) {
        let (old, new) = (self.id.to_string(), id.to_string());
        let found = self
            .body
            .windows(old.len())
            .position(|part| part == old.as_bytes());
        if let Some(at) = found {
            let mut body = Vec::from(std::mem::take(&mut self.body));
            body[at..at + new.len()].copy_from_slice(new.as_bytes());
            self.body = Bytes::from(body);
        }
        self.id = id;
    }

    fn lane(&self) -> ratebox_stream::Lane {
        match self.lane {
            Lane::High => ratebox_stream::Lane::High,
            Lane::Normal => ratebox_stream::Lane::Normal,
            Lane::Low => ratebox_stream::Lane::Low,
        }
    }
}

/// What is taken whole or not at all: the requests of one call.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    /// At least one, unless it is an import that is cut into requests later.
    pub(crate) parcels: Vec<Parcel>,
    /// What the requests belong to; durable mode only.
    pub(crate) import: Option<Box<NewImport>>,
    pub(crate) key: Option<Key>,
    /// The body of the 202.
    pub(crate) answer: String,
}

impl Submission {
    /// Memory that it takes, roughly.
    fn bytes(&self) -> usize {
        let parcels = self.parcels.iter().map(|parcel| parcel.body.len() + 512);
        let import = self.import.as_deref().map_or(0, |import| {
            import.body.as_ref().map_or(0, Bytes::len) + import.parts.len() * 256
        });
        parcels.sum::<usize>() + import
    }

    /// Requests in it.
    fn requests(&self) -> usize {
        let import = self.import.as_deref().map(|import| import.parts.len());
        import.unwrap_or(self.parcels.len())
    }

    fn source(&self) -> &str {
        let import = self
            .import
            .as_deref()
            .and_then(|import| import.parts.first());
        let parcel = self.parcels.first().map(|parcel| &parcel.source);
        import
            .map(|part| &part.source)
            .or(parcel)
            .map_or("api", |it| it)
    }

    /// The import or the first request, which stands for the submission where one id must.
    pub(crate) fn id(&self) -> Uuid {
        let import = self.import.as_deref().map(|import| import.id);
        let first = self.parcels.first().map(|parcel| parcel.id);
        import.or(first).unwrap_or_default()
    }
}

/// What stands behind a 202.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The import or the first request.
    pub(crate) id: Uuid,
    /// The body of the 202.
    pub(crate) answer: String,
    /// Where the first request is on the bus; known in stream mode.
    pub(crate) entry: Option<EntryRef>,
    /// An earlier submission with the same key and body was taken, and this is its answer.
    pub(crate) replayed: bool,
}

/// Why a submission was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many submissions wait already.
    Busy,
    /// The store cannot commit now.
    StoreDown,
    /// The bus cannot take it now.
    BusDown,
    /// The key was used for another body.
    KeyMismatch,
    /// The submission with this key has no outcome yet.
    KeyInProgress,
    /// The store can never keep it.
    NotStorable,
    /// A bug, or a process that ends.
    Failed,
}

impl Refusal {
    /// Those that count as refused. A key that is used twice is its sender's affair.
    const COUNTED: [Self; 5] = [
        Self::Busy,
        Self::StoreDown,
        Self::BusDown,
        Self::NotStorable,
        Self::Failed,
    ];

    /// For metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::StoreDown => "store_down",
            Self::BusDown => "bus_down",
            Self::KeyMismatch => "key_mismatch",
            Self::KeyInProgress => "key_in_progress",
            Self::NotStorable => "not_storable",
            Self::Failed => "failed",
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::unavailable(
                "accept.busy",
                "too many submissions wait; nothing was taken",
            ),
            Refusal::StoreDown => Self::unavailable(
                "accept.store_unavailable",
                "the store cannot promise to keep this just now",
            ),
            Refusal::BusDown => Self::unavailable(
                "accept.bus_unavailable",
                "the bus cannot take this just now",
            ),
            Refusal::KeyMismatch => Self::unprocessable(
                "idempotency.mismatch",
                "this idempotency key was used for another request",
            ),
            Refusal::KeyInProgress => Self::new(
                axum::http::StatusCode::CONFLICT,
                "idempotency.in_progress",
                "a request with this idempotency key is under way",
            )
            .retry_after(std::time::Duration::from_secs(1)),
            Refusal::NotStorable => {
                Self::unprocessable("request.not_storable", "the store cannot keep this request")
            }
            Refusal::Failed => Self::internal(),
        }
    }
}

/// What becomes of a submission.
pub(crate) type Outcome = Result<Accepted, Refusal>;
