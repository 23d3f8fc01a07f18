//! What a client may say about its request beside the items. Anything else in the body is ignored:
//! ids, owners, states and times of ours are not the client's to set.

use jiff::Timestamp;

use crate::action::Action;
use crate::lane::Lane;
use crate::moment;
use crate::object::{self, Object};
use crate::profile::Profile;
use crate::request::{REFERENCE_CHARS_MAX, SOURCE_CHARS_MAX, URL_CHARS_MAX};
use crate::shape::{Repeats, ShapeError};

/// What a client may say about its request; `None` where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// `source`: where the items come from.
    pub source: Option<String>,
    /// `action`.
    pub action: Option<Action>,
    /// `priority`.
    pub lane: Option<Lane>,
    /// `profile`.
    pub profile: Option<Profile>,
    /// `external_ref`, the client's own reference.
    pub external_ref: Option<String>,
    /// `batch_id`, or the `id` of a batch or dataset.
    pub batch_id: Option<String>,
    /// `key`: requests with the same key are processed in order.
    pub key: Option<String>,
    /// `webhook_url`.
    pub webhook_url: Option<String>,
    /// `timestamp`, when it can be read as one.
    pub client_timestamp: Option<Timestamp>,
}

impl Terms {
    /// What an importer leaves open: source `importer`, action `import`, the low lane, and the
    /// profile of its token.
    pub fn of_importer(profile: Option<Profile>) -> Self {
        Self {
            profile,
            source: Some("importer".to_owned()),
            action: Some(Action::Import),
            lane: Some(Lane::Low),
            ..Self::default()
        }
    }

    /// The same terms, with what is left open taken from others.
    pub fn or(self, others: &Self) -> Self {
        Self {
            source: self.source.or_else(|| others.source.clone()),
            action: self.action.or(others.action),
            lane: self.lane.or(others.lane),
            profile: self.profile.or(others.profile),
            external_ref: self.external_ref.or_else(|| others.external_ref.clone()),
            batch_id: self.batch_id.or_else(|| others.batch_id.clone()),
            key: self.key.or_else(|| others.key.clone()),
            webhook_url: self.webhook_url.or_else(|| others.webhook_url.clone()),
            client_timestamp: self.client_timestamp.or(others.client_timestamp),
        }
    }

    /// Reads the terms from a body, a batch, a dataset, or `defaults`.
    pub(super) fn read(object: &Object<'_>) -> Result<Self, ShapeError> {
        let timestamp = object.get(&["timestamp"]);
        Ok(Self {
            source: text(object, "source", &["source"], SOURCE_CHARS_MAX)?,
            action: word(object, "action", Action::WORDS, Action::from_word)?,
            lane: word(object, "priority", Lane::WORDS, Lane::from_word)?,
            profile: word(object, "profile", Profile::WORDS, Profile::from_word)?,
            external_ref: text(
                object,
                "external_ref",
                &["external_ref", "externalRef"],
                REFERENCE_CHARS_MAX,
            )?,
            batch_id: text(
                object,
                "batch_id",
                &["batch_id", "batchId", "dataset_id", "datasetId"],
                REFERENCE_CHARS_MAX,
            )?,
            key: text(object, "key", &["key"], REFERENCE_CHARS_MAX)?,
            webhook_url: text(
                object,
                "webhook_url",
                &["webhook_url", "webhookUrl"],
                URL_CHARS_MAX,
            )?,
            client_timestamp: timestamp
                .and_then(|value| moment::read(value.get().trim_matches('"'))),
        })
    }
}

/// What bodies, batches, datasets and `defaults` say of themselves, in all spellings.
const FIELDS: [&str; 19] = [
    "items",
    "batches",
    "datasets",
    "defaults",
    "id",
    "source",
    "action",
    "priority",
    "profile",
    "external_ref",
    "externalRef",
    "batch_id",
    "batchId",
    "dataset_id",
    "datasetId",
    "key",
    "webhook_url",
    "webhookUrl",
    "timestamp",
];

/// Looks for a field of ours that is given twice. What else a body holds is nobody's.
pub(super) fn check_repeats(object: &Object<'_>, repeats: Repeats) -> Result<(), ShapeError> {
    match (repeats, object.repeated(&FIELDS)) {
        (Repeats::Refused, Some(field)) => Err(ShapeError::FieldRepeated(field)),
        (Repeats::Refused, None) | (Repeats::LastCounts, _) => Ok(()),
    }
}

/// The id of a batch or dataset; a number is taken as its text.
pub(super) fn part_id(object: &Object<'_>) -> Result<Option<String>, ShapeError> {
    match object.get(&["id"]) {
        Some(value) if value.get().bytes().all(|byte| byte.is_ascii_digit()) => {
            short(value.get().to_owned(), "id", REFERENCE_CHARS_MAX).map(Some)
        }
        _ => text(object, "id", &["id"], REFERENCE_CHARS_MAX),
    }
}

/// A string of limited length. An empty one says nothing.
fn text(
    object: &Object<'_>,
    field: &'static str,
    names: &[&str],
    max: usize,
) -> Result<Option<String>, ShapeError> {
    let Some(value) = object.get(names) else {
        return Ok(None);
    };
    let text = object::string(value, object.whole())?.ok_or(ShapeError::FieldNotText(field))?;
    Ok(Some(short(text, field, max)?).filter(|text| !text.is_empty()))
}

/// A text of at most `max` characters.
fn short(text: String, field: &'static str, max: usize) -> Result<String, ShapeError> {
    if text.chars().count() > max {
        return Err(ShapeError::FieldTooLong { field, max });
    }
    Ok(text)
}

fn word<T>(
    object: &Object<'_>,
    field: &'static str,
    allowed: &'static str,
    from_word: fn(&str) -> Option<T>,
) -> Result<Option<T>, ShapeError> {
    let Some(word) = text(object, field, &[field], REFERENCE_CHARS_MAX)? else {
        return Ok(None);
    };
    from_word(&word)
        .map(Some)
        .ok_or(ShapeError::UnknownWord { field, allowed })
}
