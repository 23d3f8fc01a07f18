//! Dead letters: listed and inspected here; edited, replayed and purged in files of those names.

use ratebox_outbox::Outbox;
use ratebox_store::{DeadLetterFilter, Deed, LetterHead, NewDeed, Store, StoredLetter};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{By, Error, Payload, Result, view};

/// Deeds that are shown with a letter.
const DEEDS_MAX: u32 = 50;
/// Letters of one page of an export.
const PAGE: u32 = 100;
/// Bytes of letters that are in memory together, but for one that is larger.
pub(crate) const BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Letters that are in memory together.
pub(crate) const LETTERS_MAX: usize = 16;

/// What operators do with dead letters. Cheap to clone.
#[derive(Clone)]
pub struct Letters {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
}

/// A letter with what was done to it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The letter.
    pub letter: StoredLetter,
    /// Edits, replays and looks, newest first.
    pub deeds: Vec<Deed>,
}

// === impl Letters ===

impl Letters {
    /// The letters of a store; replays leave through the outbox.
    pub fn new(store: Store, outbox: Outbox) -> Self {
        Self { store, outbox }
    }

    /// Letters that match, newest first, at most `max`; pass the last one's id as
    /// [`DeadLetterFilter::before`] for the next page.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn list(&self, filter: &DeadLetterFilter, max: u32) -> Result<Vec<LetterHead>> {
        Ok(self.store.dead_letters(filter, max).await?)
    }

    /// One letter with its history.
    ///
    /// # Errors
    /// [`Error::UnknownLetter`], or when the store is away.
    pub async fn show(&self, id: Uuid) -> Result<Shown> {
        let letter = self.store.whole_letter(id).await?;
        let letter = letter.ok_or(Error::UnknownLetter { id })?;
        let subject = id.to_string();
        let deeds = self.store.deeds(Some(&subject), None, DEEDS_MAX).await?;
        Ok(Shown { letter, deeds })
    }

    /// Writes into the audit log that somebody sees the payload of `subject` (a letter, a filter,
    /// a stream) as it is. Call it before showing.
    ///
    /// # Errors
    /// When the store is away: then nothing may be shown.
    pub async fn note_unmasking(&self, subject: String, by: &By) -> Result<()> {
        let deed = NewDeed {
            actor: by.actor(),
            action: "payload.unmask",
            subject,
            reason: by.reason(),
            detail: None,
        };
        Ok(self.store.record_deed(deed).await?)
    }

    /// Hands every letter that matches to `take` as one line of JSON, newest first; returns how
    /// many there were. With [`Payload::Plain`], note the unmasking first.
    ///
    /// # Errors
    /// When the store is away, or `take` fails.
    pub async fn export(
        &self,
        filter: &DeadLetterFilter,
        payload: Payload,
        mut take: impl FnMut(String) -> std::io::Result<()> + Send,
    ) -> Result<u64> {
        let mut filter = filter.clone();
        let mut count = 0;
        loop {
            let heads = self.list(&filter, PAGE).await?;
            let Some(last) = heads.last() else {
                return Ok(count);
            };
            filter.before = Some(last.id);
            for chunk in chunks(&heads, LETTERS_MAX) {
                let ids = chunk.iter().map(|head| head.id).collect();
                for letter in self.store.whole_letters(ids).await? {
                    take(view::letter_line(&letter, payload).to_string())?;
                    count += 1;
                }
            }
        }
    }

    /// A page of whole letters as lines of JSON, and the cursor of the next page.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn page_of_lines(
        &self,
        filter: &DeadLetterFilter,
        max: u32,
        payload: Payload,
    ) -> Result<(String, Option<Uuid>)> {
        let heads = self.list(filter, max).await?;
        let mut lines = String::new();
        let mut next = None;
        for chunk in chunks(&heads, LETTERS_MAX) {
            let ids = chunk.iter().map(|head| head.id).collect();
            for letter in self.store.whole_letters(ids).await? {
                lines.push_str(&view::letter_line(&letter, payload).to_string());
                lines.push('\n');
            }
            next = chunk.last().map(|head| head.id);
            if lines.len() as u64 > BYTES_MAX {
                return Ok((lines, next));
            }
        }
        let is_full = u32::try_from(heads.len()).is_ok_and(|count| count == max);
        Ok((lines, next.filter(|_| is_full)))
    }

    /// What a bulk deed would touch: count, bytes, and the newest ten.
    pub(crate) async fn sample(&self, filter: &DeadLetterFilter) -> Result<(u64, u64, Vec<Value>)> {
        let (count, bytes) = self.store.count_dead_letters(filter).await?;
        let newest = self.list(filter, 10).await?;
        Ok((count, bytes, newest.iter().map(view::letter_head).collect()))
    }

    /// One row for a deed that touches many.
    pub(crate) async fn note_bulk(&self, action: &'static str, count: u64, by: &By) -> Result<()> {
        let deed = NewDeed {
            actor: by.actor(),
            action,
            subject: "dead_letters".to_owned(),
            reason: by.reason(),
            detail: Some(json!({ "count": count }).to_string()),
        };
        Ok(self.store.record_deed(deed).await?)
    }
}

/// Runs of letters that fit into memory together.
pub(crate) fn chunks(heads: &[LetterHead], max: usize) -> Vec<&[LetterHead]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, head) in heads.iter().enumerate() {
        if at > start && (at - start >= max || bytes + head.bytes > BYTES_MAX) {
            chunks.extend(heads.get(start..at));
            (start, bytes) = (at, 0);
        }
        bytes += head.bytes;
    }
    chunks.extend(heads.get(start..).filter(|rest| !rest.is_empty()));
    chunks
}
