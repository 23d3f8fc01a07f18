//! The request as it travels on the bus. Version 1 is written and read; three older shapes are read as well.
//! A reader takes what it knows and ignores the rest; another major version is refused. Whether the ids in
//! a message are trusted is for the reader of the bus to decide: see `Decoded::into_own` and `into_foreign`.

mod decode;
mod encode;
mod legacy;
mod malformed;

use jiff::Timestamp;
use uuid::Uuid;

use crate::action::Action;
use crate::item::Item;
use crate::lane::Lane;
use crate::profile::Profile;
use crate::request::Request;

pub(crate) use decode::check_version;
pub use decode::decode;
pub use malformed::Malformed;

/// The version that is written.
pub const VERSION: u64 = 1;
/// The field that holds the message.
pub const DATA_FIELD: &str = "data";

/// What a producer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Our envelope, version 1.
    EnvelopeV1,
    /// The field `data` is one item; flat fields beside it say where it comes from.
    LegacyItem,
    /// There is no field `data`: the flat fields are the item.
    LegacyFlat,
    /// The browser extension's message: one item under `data`, inside JSON or beside flat fields.
    LegacyExtension,
}

impl Shape {
    /// The shape as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::EnvelopeV1 => "envelope_v1",
            Self::LegacyItem => "legacy_item",
            Self::LegacyFlat => "legacy_flat",
            Self::LegacyExtension => "legacy_extension",
        }
    }
}

/// A message as it was read. Nothing in it is trusted yet. `Debug` shows no item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Which of the shapes it had.
    pub shape: Shape,
    /// `request_id`, as the producer wrote it.
    pub request_id_given: Option<String>,
    /// `user_id`, as the producer wrote it.
    pub owner_given: Option<String>,
    /// `echo_id`, which only our own envelopes carry.
    pub echo_id: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `action`; the extension's `rate_check` is a check.
    pub action: Action,
    /// `priority`.
    pub lane: Lane,
    /// `profile`, which only our own envelopes carry.
    pub profile: Option<Profile>,
    /// `external_ref`.
    pub external_ref: Option<String>,
    /// `batch_id`.
    pub batch_id: Option<String>,
    /// `key`, from the message or from the field beside it.
    pub key: Option<String>,
    /// `traceparent`, from the message or from the field beside it.
    pub traceparent: Option<String>,
    /// `timestamp`: ours in our own envelopes, the producer's in others.
    pub timestamp: Option<Timestamp>,
    /// `client_timestamp`, which only our own envelopes carry.
    pub client_timestamp: Option<Timestamp>,
    /// The answer stream that is asked for.
    pub callback_stream: Option<String>,
    /// Where the answer is to be posted.
    pub webhook_url: Option<String>,
    /// The records, in order; at least one.
    pub items: Vec<Item>,
}

impl Decoded {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            request_id_given: None,
            owner_given: None,
            echo_id: None,
            source: None,
            action: Action::default(),
            lane: Lane::default(),
            profile: None,
            external_ref: None,
            batch_id: None,
            key: None,
            traceparent: None,
            timestamp: None,
            client_timestamp: None,
            callback_stream: None,
            webhook_url: None,
            items: Vec::new(),
        }
    }

    /// The request of a message that our own gateway wrote: its ids are taken as they are.
    ///
    /// # Errors
    /// [`Malformed::NotOurs`] when there is no UUID or no owner in it.
    pub fn into_own(self) -> Result<Request, Malformed> {
        let request_id = self
            .request_id_given
            .as_deref()
            .and_then(|id| Uuid::try_parse(id).ok());
        let (Some(request_id), Some(owner)) = (request_id, self.owner_given.clone()) else {
            return Err(Malformed::NotOurs);
        };
        Ok(self.into_request(request_id, owner))
    }

    /// The request of a message that someone else wrote. The producer's id becomes the external reference
    /// and is echoed in the answer; its time is a client's time.
    pub fn into_foreign(mut self, request_id: Uuid, owner: impl Into<String>) -> Request {
        self.echo_id = self.request_id_given.clone();
        self.external_ref = self.request_id_given.clone().or(self.external_ref);
        self.client_timestamp = self.timestamp.or(self.client_timestamp);
        self.into_request(request_id, owner.into())
    }

    fn into_request(self, request_id: Uuid, owner: String) -> Request {
        Request {
            request_id,
            echo_id: self.echo_id,
            owner,
            source: self.source.unwrap_or_else(|| "unknown".to_owned()),
            action: self.action,
            items: self.items,
            lane: self.lane,
            profile: self.profile,
            external_ref: self.external_ref,
            batch_id: self.batch_id,
            key: self.key,
            traceparent: self.traceparent,
            client_timestamp: self.client_timestamp,
            callback_stream: self.callback_stream,
            webhook_url: self.webhook_url,
        }
    }
}
