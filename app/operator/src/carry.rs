//! A stream as a file of JSON lines, and back: names and bytes of every field as they were.

use bytes::Bytes;
use ratebox_stream::{Append, Entry, EntryId, StreamName, field};
use serde_json::{Value, json};

use crate::payload::{fields_json, fields_of_json};
use crate::{By, Error, Lookout, Payload, Result, Streams};

/// Entries that are read in one go.
const PAGE: usize = 200;
/// Entries that are appended in one go.
const APPEND_MAX: usize = 200;

/// How an import treats what it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An imported entry is the message that it was: it says which entry of which stream came first,
    /// by which a foreign message is known. Imported twice, or to another lane, it is judged once.
    Kept,
    /// Fields as they stand in the file, so a foreign message is a new one.
    AsWritten,
}

// === impl Lookout ===

impl Lookout {
    /// Hands entries from `from` on and before `until` to `take`, one a line, oldest first;
    /// returns how many. Entries that come meanwhile may or may not be among them.
    ///
    /// # Errors
    /// When the bus is away, or `take` fails.
    pub async fn export(
        &self,
        name: &StreamName,
        (from, until): (EntryId, EntryId),
        payload: Payload,
        mut take: impl FnMut(String) -> std::io::Result<()> + Send,
    ) -> Result<u64> {
        let (mut from, mut count) = (from, 0);
        loop {
            let page = self.peek(name, from, PAGE).await?;
            let Some(last) = page.last().map(|entry| entry.id) else {
                return Ok(count);
            };
            for entry in page.iter().take_while(|entry| entry.id < until) {
                take(entry_json(entry, payload).to_string())?;
                count += 1;
            }
            if last >= until {
                return Ok(count);
            }
            from = last.next();
        }
    }
}

// === impl Streams ===

impl Streams {
    /// Appends what lines of an export say, in their order; blank lines are passed over. Returns
    /// how many entries there are now; a line that cannot be read ends it, and says which.
    ///
    /// # Errors
    /// When the store is away, before anything is appended. [`Error::NotALine`], or when the bus is
    /// away; what was appended before stays, and `progress` was told of it.
    pub async fn import(
        &self,
        to: &StreamName,
        lines: impl Iterator<Item = std::io::Result<String>> + Send,
        identity: Identity,
        by: &By,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<u64> {
        self.can_note().await?;
        let mut count = 0;
        let outcome = self
            .append_lines(to, lines, identity, &mut count, &mut progress)
            .await;
        // What was appended before an error is told as well.
        let detail = json!({ "count": count, "complete": outcome.is_ok() });
        let noted = self.note("stream.import", to.as_str(), by, detail).await;
        outcome.and(noted).map(|()| count)
    }

    async fn append_lines(
        &self,
        to: &StreamName,
        lines: impl Iterator<Item = std::io::Result<String>> + Send,
        identity: Identity,
        count: &mut u64,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<()> {
        let mut waiting = Vec::with_capacity(APPEND_MAX);
        for (number, line) in (1..).zip(lines) {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let fields = fields_of_line(&line, to, identity).ok_or(Error::NotALine { number })?;
            waiting.push(Append::verbatim(to.clone(), fields));
            if waiting.len() == APPEND_MAX {
                self.append_all(&mut waiting, count).await?;
                progress(*count);
            }
        }
        self.append_all(&mut waiting, count).await?;
        progress(*count);
        Ok(())
    }

    async fn append_all(&self, waiting: &mut Vec<Append>, count: &mut u64) -> Result<()> {
        for answer in self.log.append(waiting).await {
            answer?;
            *count += 1;
        }
        waiting.clear();
        Ok(())
    }
}

/// An entry as JSON.
pub fn entry_json(entry: &Entry, payload: Payload) -> Value {
    json!({
        "id": entry.id.to_string(),
        "stream": entry.stream.as_str(),
        "message_id": entry.message_id(),
        "bytes": entry.bytes(),
        "masked": payload != Payload::Plain,
        "fields": fields_json(&entry.fields, payload),
    })
}

fn fields_of_line(line: &str, to: &StreamName, identity: Identity) -> Option<Vec<(String, Bytes)>> {
    let line: Value = serde_json::from_str(line).ok()?;
    let mut fields = fields_of_json(&line["fields"])?;
    // A dead letter has an id of its own, and names its entry beside it.
    let letter_of = line["entry_id"].as_str();
    // What was masked is no message any more. A letter of an older export does not say whether it was.
    let is_masked = line["masked"] == true || (letter_of.is_some() && line["masked"] != false);
    if fields.is_empty() || is_masked {
        return None;
    }
    if identity == Identity::AsWritten {
        return Some(fields);
    }
    // An id of its own does not do: a worker does not believe that of a foreign message.
    let has = |name: &str, fields: &[(String, Bytes)]| fields.iter().any(|it| it.0 == name);
    let first = letter_of.or(line["id"].as_str());
    let first: Option<EntryId> = first.and_then(|id| id.parse().ok());
    match first.filter(|_| !has(field::FIRST_ENTRY, &fields)) {
        Some(id) => fields.push((field::FIRST_ENTRY.to_owned(), id.to_string().into())),
        // Somebody wrote it who gives his messages ids.
        None if has(field::FIRST_ENTRY, &fields) || has(field::ID, &fields) => {}
        None => return None,
    }
    let from = line["stream"].as_str().filter(|it| *it != to.as_str());
    if let Some(from) = from
        && !has(field::FIRST_STREAM, &fields)
    {
        let from = Bytes::copy_from_slice(from.as_bytes());
        fields.push((field::FIRST_STREAM.to_owned(), from));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that it is known as the letter that it was, should it die again.
    #[test]
    fn an_imported_letter_keeps_the_identity_of_its_first_entry() {
        let letter = r#"{"id":"01930000-0000-7000-8000-000000000001","entry_id":"7-1","masked":false,
            "stream":"others","fields":[{"name":"rb-id","text":"x"}]}"#;
        let to = StreamName::new("requests");
        let fields = fields_of_line(letter, &to, Identity::Kept).unwrap();
        let field = |name: &str, value: &str| (name.to_owned(), Bytes::from(value.to_owned()));
        let expected = [
            field("rb-id", "x"),
            field("rb-first-entry", "7-1"),
            field("rb-first-stream", "others"),
        ];
        assert_eq!(fields, expected);
        for masked in ["\"masked\":true", "\"x\":0"] {
            let line = letter.replace("\"masked\":false", masked);
            assert_eq!(fields_of_line(&line, &to, Identity::Kept), None, "{masked}");
        }
    }

    #[test]
    fn an_imported_line_keeps_the_identity_of_its_entry() {
        let to = StreamName::new("requests");
        let fields_of = |line: &str, identity| fields_of_line(line, &to, identity);
        let line =
            r#"{"id":"7-1","fields":[{"name":"a","text":"x"},{"name":"b","base64":"AP8="}]}"#;
        let fields = fields_of(line, Identity::Kept).unwrap();
        assert_eq!(fields[1].1, Bytes::from_static(b"\x00\xff"));
        let first = |id: &str| ("rb-first-entry".to_owned(), Bytes::from(id.to_owned()));
        assert_eq!(fields[2..], [first("7-1")]);
        assert_eq!(fields_of(line, Identity::AsWritten).unwrap().len(), 2);
        // A foreign message is known by its first entry and that one's stream, whatever id it has.
        let line = r#"{"id":"7-1","stream":"others","fields":[{"name":"rb-id","text":"x"}]}"#;
        let from = ("rb-first-stream".to_owned(), Bytes::from("others"));
        let fields = fields_of(line, Identity::Kept).unwrap();
        assert_eq!(fields[1..], [first("7-1"), from]);
        let again = line
            .replace("rb-id", "rb-first-entry")
            .replace("\"x\"", "\"3-0\"");
        assert_eq!(fields_of(&again, Identity::Kept).unwrap()[0], first("3-0"));
        let there = line.replace("others", "requests");
        assert_eq!(fields_of(&there, Identity::Kept).unwrap().len(), 2);
        let written = r#"{"fields":[{"name":"rb-id","text":"x"}]}"#;
        assert_eq!(fields_of(written, Identity::Kept).unwrap().len(), 1);
        for bad in [
            "{",
            "{}",
            r#"{"id":"7-1","fields":[]}"#,
            r#"{"id":"7","fields":[{"name":"a","text":"x"}]}"#,
            r#"{"id":"7-1","masked":true,"fields":[{"name":"a","text":"***"}]}"#,
        ] {
            assert_eq!(fields_of(bad, Identity::Kept), None, "{bad}");
        }
    }
}
