//! The fields of a message as operators see them, and as files carry them.
//!
//! A field is `{"name", "text"}`, or `{"name", "base64"}` where its bytes are no text. Masked, its
//! structure is left and its values are not; `rb-…` fields and the trace context are ours and
//! stay readable.

use bytes::Bytes;
use ratebox_intake::mask_json;
use serde_json::{Value, json};

use crate::base64;

/// How much of a payload is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Not at all.
    Hidden,
    /// Its structure, with every value masked.
    Masked,
    /// As it is: for administrators, and written into the audit log.
    Plain,
}

/// The fields as JSON; `null` when they are hidden.
pub(crate) fn fields_json<N: AsRef<str>>(fields: &[(N, Bytes)], payload: Payload) -> Value {
    let one = |(name, value): &(N, Bytes)| match payload {
        Payload::Hidden => Value::Null,
        Payload::Masked => masked(name.as_ref(), value),
        Payload::Plain => plain(name.as_ref(), value),
    };
    match payload {
        Payload::Hidden => Value::Null,
        Payload::Masked | Payload::Plain => fields.iter().map(one).collect(),
    }
}

fn plain(name: &str, value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => json!({ "name": name, "text": text }),
        Err(_) => json!({ "name": name, "base64": base64::encode(value) }),
    }
}

fn masked(name: &str, value: &[u8]) -> Value {
    let hidden =
        |what: &str| json!({ "name": name, "text": format!("*** ({} bytes{what})", value.len()) });
    let Ok(text) = std::str::from_utf8(value) else {
        return hidden(", not UTF-8");
    };
    if name.starts_with("rb-") || name == "traceparent" {
        return json!({ "name": name, "text": text });
    }
    if name != "data" {
        // A flat field is masked by its own name, as a field of an item is.
        let item = mask_json(&json!({ name: text }).to_string());
        let value = serde_json::from_str::<Value>(&item).ok();
        let value = value.and_then(|item| item.as_object()?.values().next().cloned());
        return json!({ "name": name, "text": value });
    }
    // Free text may hold names, which no pattern finds.
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return hidden(", not JSON");
    }
    json!({ "name": name, "text": mask_json(text) })
}

/// Reads what [`Payload::Plain`] wrote.
pub(crate) fn fields_of_json(fields: &Value) -> Option<Vec<(String, Bytes)>> {
    let one = |field: &Value| {
        let name = field["name"].as_str()?.to_owned();
        let value = match (&field["text"], &field["base64"]) {
            (Value::String(text), Value::Null) => text.clone().into_bytes(),
            (Value::Null, Value::String(coded)) => base64::decode(coded)?,
            _ => return None,
        };
        Some((name, Bytes::from(value)))
    };
    fields.as_array()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<(String, Bytes)> {
        [
            ("data", &b"{\"phone\":\"0909123456\"}"[..]),
            ("phone", b"0909123456"),
            ("note", b"call Nguyen Van An"),
            ("raw", b"\x00\xff"),
            ("rb-id", b"0190"),
        ]
        .map(|(name, value)| (name.to_owned(), Bytes::from_static(value)))
        .to_vec()
    }

    #[test]
    fn plain_fields_come_back_byte_by_byte() {
        let shown = fields_json(&fields(), Payload::Plain);
        assert_eq!(fields_of_json(&shown), Some(fields()));
        assert_eq!(fields_json(&fields(), Payload::Hidden), Value::Null);
    }

    #[test]
    fn masked_fields_show_no_value() {
        let shown = fields_json(&fields(), Payload::Masked).to_string();
        for secret in ["0909123456", "Nguyen", "An"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(
            shown.contains("0190") && shown.contains("not UTF-8"),
            "{shown}"
        );
        let free = [(
            "data".to_owned(),
            Bytes::from_static(b"{name: Nguyen Van An"),
        )];
        let shown = fields_json(&free, Payload::Masked).to_string();
        assert!(
            !shown.contains("Nguyen") && shown.contains("20 bytes, not JSON"),
            "{shown}"
        );
    }
}
