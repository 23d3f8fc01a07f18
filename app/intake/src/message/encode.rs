//! Writes the envelope of version 1. The items are embedded as they came, byte by byte.

use super::VERSION;
use crate::json::Json;
use crate::profile::Profile;
use crate::request::Request;

/// What an envelope is likely to need beside its items, in bytes.
const FRAME_BYTES: usize = 640;

impl Request {
    /// The message for the field [`DATA_FIELD`](super::DATA_FIELD) of an entry.
    pub fn to_message(&self) -> Vec<u8> {
        let items = self.items.iter().map(|item| item.json().len() + 1);
        let mut json = Json::with_capacity(items.sum::<usize>() + FRAME_BYTES);
        json.raw(r#"{"v":"#)
            .value(&VERSION)
            .raw(r#","request_id":"#)
            .uuid(self.request_id)
            .raw(r#","source":"#)
            .text(&self.source)
            .raw(r#","user_id":"#)
            .text(&self.owner)
            .raw(r#","action":"#)
            .text(self.action.word())
            .raw(r#","data":{"items":"#)
            .list(&self.items, |json, item| {
                json.raw(item.json());
            })
            .raw(r#"},"priority":"#)
            .text(self.lane.word())
            .raw(r#","callback_config":{"stream":"#)
            .text_or_null(self.callback_stream.as_deref())
            .raw(r#","webhook_url":"#)
            .text_or_null(self.webhook_url.as_deref())
            .raw(r#"},"timestamp":"#)
            .value(&self.accepted_at());
        self.write_rest(&mut json);
        json.into_bytes()
    }

    /// The fields after `traceparent` are our additions to version 1, written only when they are set.
    fn write_rest(&self, json: &mut Json) {
        json.raw(r#","external_ref":"#)
            .text_or_null(self.external_ref.as_deref())
            .raw(r#","batch_id":"#)
            .text_or_null(self.batch_id.as_deref())
            .raw(r#","traceparent":"#)
            .text_or_null(self.traceparent.as_deref())
            .text_if_any(r#","profile":"#, self.profile.map(Profile::word))
            .text_if_any(r#","key":"#, self.key.as_deref());
        if let Some(moment) = self.client_timestamp {
            json.raw(r#","client_timestamp":"#).value(&moment);
        }
        json.text_if_any(r#","echo_id":"#, self.echo_id.as_deref())
            .raw("}");
    }
}
