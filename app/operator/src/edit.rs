//! A dead letter's payload is put right; the original stays.

use bytes::Bytes;
use ratebox_intake::{DATA_FIELD, Decoded, ITEMS_MAX, Shape, decode};
use ratebox_kit::fields::Fields;
use ratebox_store::{Edit, LetterState, StoredLetter};
use uuid::Uuid;

use crate::{By, Error, Letters, Result};

/// How a letter is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another text in the field `data`; all other fields stay.
    Data(Bytes),
    /// Other fields; those named `rb-…` stay and may not be among them.
    Fields(Fields),
    /// Back to the original.
    Original,
}

// === impl Letters ===

impl Letters {
    /// Changes what a replay sends. The result must be a message that a worker understands, and
    /// the same request as before: an edit repairs a message, it does not make another one.
    ///
    /// # Errors
    /// [`Error::UnknownLetter`], [`Error::OnItsWay`], [`Error::Resolved`], what is wrong with the payload, or when the
    /// store is away.
    pub async fn edit(&self, id: Uuid, change: Change, by: &By) -> Result<()> {
        let letter = self.store.whole_letter(id).await?;
        let letter = letter.ok_or(Error::UnknownLetter { id })?;
        match letter.head.state {
            LetterState::Waiting | LetterState::Stuck => {}
            LetterState::Replayed => return Err(Error::OnItsWay),
            LetterState::Resolved => return Err(Error::Resolved),
        }
        let fields = apply(&letter, change)?;
        if let Some(fields) = &fields {
            check(&letter, fields)?;
        }
        let edit = Edit {
            id,
            fields: fields.as_ref(),
            actor: by.actor(),
            reason: by.reason(),
        };
        if self.store.edit_letter(&edit).await? {
            Ok(())
        } else {
            Err(Error::OnItsWay)
        }
    }
}

/// The fields after the change; `None` for the original ones.
fn apply(letter: &StoredLetter, change: Change) -> Result<Option<Fields>> {
    match change {
        Change::Original => Ok(None),
        Change::Data(data) => {
            let mut fields = letter.to_send().clone();
            let place = fields.iter_mut().rev().find(|(name, _)| name == DATA_FIELD);
            let (_, value) = place.ok_or(Error::WrongEdit {
                what: "the letter has no field `data`; give its fields instead",
            })?;
            *value = data;
            Ok(Some(fields))
        }
        Change::Fields(fields) => {
            if fields.iter().any(|(name, _)| is_ours(name)) {
                return Err(Error::WrongEdit {
                    what: "fields named rb-… stay as they are and cannot be given",
                });
            }
            let ours = letter.fields.iter().filter(|(name, _)| is_ours(name));
            Ok(Some(fields.into_iter().chain(ours.cloned()).collect()))
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("rb-")
}

fn check(letter: &StoredLetter, fields: &Fields) -> Result<()> {
    let decoded = decode(fields, ITEMS_MAX).map_err(|malformed| Error::NotAMessage {
        what: malformed.to_string(),
    })?;
    let same = |same, what| {
        if same {
            Ok(())
        } else {
            Err(Error::NotTheSame { what })
        }
    };
    let Some(request_id) = letter.head.request_id else {
        return same(!claims_to_be_ours(letter, &decoded), "its producer");
    };
    if letter.head.message_id != request_id.to_string() {
        return Ok(());
    }
    let id = request_id.to_string();
    same(decoded.shape == Shape::EnvelopeV1, "the envelope")?;
    same(
        decoded.request_id_given.as_deref() == Some(id.as_str()),
        "the request_id",
    )?;
    same(decoded.owner_given == letter.head.owner, "the user_id")
}

/// A foreign message whose ids a worker would trust: somebody else's request could be answered
/// with it.
fn claims_to_be_ours(letter: &StoredLetter, decoded: &Decoded) -> bool {
    decoded.shape == Shape::EnvelopeV1
        && decoded.request_id_given.as_deref() == Some(letter.head.message_id.as_str())
}
