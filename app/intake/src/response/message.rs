//! Writes an answer: the JSON that its `Serialize` describes, by hand, since every verdict passes here.

use super::{Details, ItemError, ItemResult, ItemWarning, Response};
use crate::json::Json;
use crate::verdict::Normalized;

/// What an answer is likely to need beside its results, and each of these, in bytes.
const FRAME_BYTES: usize = 512;
const RESULT_BYTES: usize = 512;

impl Response {
    /// The answer as JSON.
    pub fn to_message(&self) -> Vec<u8> {
        let bytes = FRAME_BYTES + self.results.len() * RESULT_BYTES;
        self.write_message(Vec::with_capacity(bytes))
    }

    /// The same, behind what a buffer has: for who writes many.
    pub fn write_message(&self, buffer: Vec<u8>) -> Vec<u8> {
        let mut json = Json::behind(buffer);
        json.raw(r#"{"v":"#)
            .value(&self.v)
            .raw(r#","request_id":"#)
            .text(&self.request_id)
            .raw(r#","id":"#)
            .uuid(self.id)
            .raw(r#","owner":"#)
            .text(&self.owner)
            .raw(r#","external_ref":"#)
            .text_or_null(self.external_ref.as_deref())
            .raw(r#","profile":"#)
            .text(self.profile.word())
            .raw(r#","ruleset":"#)
            .text(&self.ruleset)
            .raw(r#","status":"#)
            .text(self.status.word())
            .raw(r#","results":"#)
            .list(&self.results, |json, result| result.write(json))
            .raw(r#","processing_time_ms":"#)
            .value(&self.processing_time_ms)
            .raw(r#","timestamp":"#)
            .value(&self.timestamp)
            .raw(r#","batch_id":"#)
            .text_or_null(self.batch_id.as_deref())
            .raw("}");
        json.into_bytes()
    }
}

impl ItemResult {
    fn write(&self, json: &mut Json) {
        json.raw(r#"{"item_id":"#)
            .uuid(self.item_id)
            .raw(r#","item_no":"#)
            .value(&self.item_no)
            .raw(r#","verdict":"#)
            .text(self.verdict.word())
            .raw(r#","error_code":"#)
            .value(&self.error_code)
            .raw(r#","errors":"#)
            .list(&self.errors, |json, error| error.write(json))
            .raw(r#","confidence":"#)
            .value(&self.confidence)
            .raw(r#","normalized":"#);
        self.normalized.write(json);
        json.raw(r#","details":"#);
        self.details.write(json);
        json.raw("}");
    }
}

impl ItemError {
    fn write(&self, json: &mut Json) {
        json.raw(r#"{"code":"#)
            .value(&self.code)
            .raw(r#","field":"#)
            .text(&self.field)
            .raw(r#","message":"#)
            .text(&self.message)
            .raw("}");
    }
}

impl Normalized {
    fn write(&self, json: &mut Json) {
        let members = [
            (r#""phone":"#, self.phone.as_deref()),
            (r#""phone_type":"#, self.phone_type.as_deref()),
            (r#""bank_account":"#, self.bank_account.as_deref()),
            (r#""bank_bin":"#, self.bank_bin.as_deref()),
            (r#""bank_name":"#, self.bank_name.as_deref()),
            (r#""email":"#, self.email.as_deref()),
            (r#""name":"#, self.name.as_deref()),
        ];
        let there = members
            .iter()
            .filter_map(|(key, text)| text.map(|text| (key, text)));
        json.raw("{");
        for (number, (key, text)) in there.enumerate() {
            json.raw(if number > 0 { "," } else { "" })
                .raw(key)
                .text(text);
        }
        json.raw("}");
    }
}

impl Details {
    fn write(&self, json: &mut Json) {
        json.raw("{");
        if !self.warnings.is_empty() {
            json.raw(r#""warnings":"#)
                .list(&self.warnings, |json, warning| warning.write(json));
        }
        json.raw("}");
    }
}

impl ItemWarning {
    fn write(&self, json: &mut Json) {
        json.raw(r#"{"code":"#)
            .value(&self.code)
            .raw(r#","slug":"#)
            .text(&self.slug)
            .raw(r#","severity":"#)
            .text(self.severity.word())
            .raw(r#","field":"#)
            .text(&self.field)
            .raw(r#","params":"#);
        if self.params.is_empty() {
            json.raw("{}}");
        } else {
            json.value(&self.params).raw("}");
        }
    }
}
