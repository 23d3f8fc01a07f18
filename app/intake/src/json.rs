//! Writes JSON whose keys stand in the code: they are copied, and so is every text without anything to escape.
//! Half the bytes of an answer are keys, and hardly a text has something to escape; looking at each byte
//! of them was a twentieth of a verdict's time.

use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// JSON that is being written.
pub(crate) struct Json(Vec<u8>);

impl Json {
    /// Nothing yet, with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// What is written comes behind this.
    pub(crate) fn behind(buffer: Vec<u8>) -> Self {
        Self(buffer)
    }

    /// What is JSON already: keys, brackets, commas, words without anything to escape.
    pub(crate) fn raw(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    /// A string.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        if needs_escapes(text) {
            return self.value(&text);
        }
        self.raw("\"").raw(text).raw("\"")
    }

    /// A string, or `null`.
    pub(crate) fn text_or_null(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.raw("null"),
        }
    }

    /// A key with its comma and colon, such as `,"key":`, and a string; nothing when there is none.
    pub(crate) fn text_if_any(&mut self, key: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.raw(key).text(text),
            None => self,
        }
    }

    /// An id.
    pub(crate) fn uuid(&mut self, id: Uuid) -> &mut Self {
        let mut buffer = [0; Hyphenated::LENGTH];
        let text: &str = id.hyphenated().encode_lower(&mut buffer);
        self.raw("\"").raw(text).raw("\"")
    }

    /// Anything else.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> &mut Self {
        serde_json::to_writer(&mut self.0, value).expect("values are always written to memory");
        self
    }

    /// An array.
    pub(crate) fn list<T>(
        &mut self,
        elements: &[T],
        mut write: impl FnMut(&mut Self, &T),
    ) -> &mut Self {
        self.raw("[");
        for (number, element) in elements.iter().enumerate() {
            if number > 0 {
                self.raw(",");
            }
            write(self, element);
        }
        self.raw("]")
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Whether a string has something that JSON writes otherwise (RFC 8259, section 7). Looks at all bytes, as that
/// is quicker than to stop at the first.
fn needs_escapes(text: &str) -> bool {
    let is_special = |byte| byte < 0x20 || byte == b'"' || byte == b'\\';
    text.bytes()
        .fold(false, |found, byte| found | is_special(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_is_written_as_serde_json_writes_it() {
        for c in (0..=0x2FF).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            let mut json = Json::with_capacity(0);
            json.text(&text);
            assert_eq!(json.into_bytes(), serde_json::to_vec(&text).unwrap());
        }
    }
}
