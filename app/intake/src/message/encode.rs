//! Writes the envelope of version 1. The items are embedded as they came, byte by byte.

use jiff::Timestamp;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::VERSION;
use crate::item::Item;
use crate::request::Request;

impl Request {
    /// The message for the field [`DATA_FIELD`](super::DATA_FIELD) of an entry.
    pub fn to_message(&self) -> Vec<u8> {
        let size = self
            .items
            .iter()
            .map(|item| item.json().len() + 1)
            .sum::<usize>();
        let mut bytes = Vec::with_capacity(size + 640);
        let envelope = Envelope {
            v: VERSION,
            request_id: self.request_id,
            source: &self.source,
            user_id: &self.owner,
            action: self.action.word(),
            data: Data {
                items: Items(&self.items),
            },
            priority: self.lane.word(),
            callback_config: Callback {
                stream: self.callback_stream.as_deref(),
                webhook_url: self.webhook_url.as_deref(),
            },
            timestamp: self.accepted_at(),
            external_ref: self.external_ref.as_deref(),
            batch_id: self.batch_id.as_deref(),
            traceparent: self.traceparent.as_deref(),
            profile: self.profile.map(crate::profile::Profile::word),
            key: self.key.as_deref(),
            client_timestamp: self.client_timestamp,
            echo_id: self.echo_id.as_deref(),
        };
        serde_json::to_writer(&mut bytes, &envelope)
            .expect("strings and raw JSON are always written to memory");
        bytes
    }
}

/// Version 1. The fields after `traceparent` are our additions, written only when they are set.
#[derive(Serialize)]
struct Envelope<'a> {
    v: u64,
    request_id: Uuid,
    source: &'a str,
    user_id: &'a str,
    action: &'static str,
    data: Data<'a>,
    priority: &'static str,
    callback_config: Callback<'a>,
    timestamp: Timestamp,
    external_ref: Option<&'a str>,
    batch_id: Option<&'a str>,
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Data<'a> {
    items: Items<'a>,
}

#[derive(Serialize)]
struct Callback<'a> {
    stream: Option<&'a str>,
    webhook_url: Option<&'a str>,
}

struct Items<'a>(&'a [Item]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            seq.serialize_element(item.raw())?;
        }
        seq.end()
    }
}
