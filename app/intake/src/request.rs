//! One accepted submission: its id, its owner, what is asked, and its items. The message that travels is in `message`.

use jiff::Timestamp;
use uuid::Uuid;

use crate::action::Action;
use crate::item::Item;
use crate::lane::Lane;
use crate::profile::Profile;

/// Items of one request, unless a setting says otherwise.
pub const ITEMS_MAX: usize = 1000;
/// Longest `source`, in characters.
pub const SOURCE_CHARS_MAX: usize = 100;
/// Longest `external_ref`, `batch_id` or `key`, in characters.
pub const REFERENCE_CHARS_MAX: usize = 255;
/// Longest `webhook_url`, in characters.
pub const URL_CHARS_MAX: usize = 2048;

/// One accepted submission. `Debug` shows no item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Our id, a UUIDv7; its time is when the server accepted the request.
    pub request_id: Uuid,
    /// The id by which a foreign producer knows the request, echoed as `request_id` in the answer.
    pub echo_id: Option<String>,
    /// The account that the request belongs to.
    pub owner: String,
    /// Where the items come from: `extension`, `importer`, `api`, or a word of the client's.
    pub source: String,
    /// What is asked.
    pub action: Action,
    /// The records, in order; item numbers count from 0.
    pub items: Vec<Item>,
    /// Priority class.
    pub lane: Lane,
    /// Profile that was asked for; the token's or the configured one otherwise.
    pub profile: Option<Profile>,
    /// The client's own reference.
    pub external_ref: Option<String>,
    /// The client's id of the batch or dataset that this request is a part of.
    pub batch_id: Option<String>,
    /// Requests with the same key are processed in order.
    pub key: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The time that the client gave; never used as the time of anything.
    pub client_timestamp: Option<Timestamp>,
    /// The answer stream that was asked for; the worker checks it against its list.
    pub callback_stream: Option<String>,
    /// Where the answer is posted.
    pub webhook_url: Option<String>,
}

impl Request {
    /// An empty request, to be filled.
    pub fn new(request_id: Uuid, owner: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            request_id,
            echo_id: None,
            owner: owner.into(),
            source: source.into(),
            action: Action::default(),
            items: Vec::new(),
            lane: Lane::default(),
            profile: None,
            external_ref: None,
            batch_id: None,
            key: None,
            traceparent: None,
            client_timestamp: None,
            callback_stream: None,
            webhook_url: None,
        }
    }

    /// When the server accepted the request: the time in its id.
    pub fn accepted_at(&self) -> Timestamp {
        let millis = i64::try_from(crate::ids::millis(self.request_id)).unwrap_or_default();
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The id in the answer: the foreign producer's, if there is one, else ours.
    pub fn answer_id(&self) -> String {
        self.echo_id
            .clone()
            .unwrap_or_else(|| self.request_id.to_string())
    }
}
