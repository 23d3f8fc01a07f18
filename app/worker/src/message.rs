//! From an entry to a request.
//!
//! An entry is ours when it carries `rb-id` and its envelope names the same request: then its ids
//! are trusted. Everything else is a foreign producer's: it gets an id of our own, made from the
//! entry's time and a hash of stream and entry id, so that a redelivery makes the same one. A retry, a
//! replay and an import name an older entry, and are the message that came first under that; one that
//! is not older is passed over ([`Entry::first_entry`]).

use ratebox_intake::{Decoded, ITEMS_MAX, Malformed, Request, Shape, decode, foreign_request_id};
use ratebox_kit::DeadLetterClass;
use ratebox_stream::{Entry, Outcome, field};

use crate::Settings;

/// What an entry asks for.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) request: Request,
    /// Not ours: no row of it can exist before its verdict.
    pub(crate) is_foreign: bool,
}

impl Message {
    /// Reads an entry. The same entry is always read in the same way.
    pub(crate) fn read(entry: &Entry, settings: &Settings) -> Result<Self, Malformed> {
        let decoded = decode(&entry.fields, ITEMS_MAX)?;
        if is_ours(entry, &decoded) {
            return Ok(Self {
                request: decoded.into_own()?,
                is_foreign: false,
            });
        }
        let first = entry.first_entry();
        let id = foreign_request_id(first.ms, entry.first_stream(), &first.to_string());
        Ok(Self {
            request: decoded.into_foreign(id, settings.foreign_owner.as_str()),
            is_foreign: true,
        })
    }
}

fn is_ours(entry: &Entry, decoded: &Decoded) -> bool {
    let id = entry
        .field(field::ID)
        .and_then(|id| std::str::from_utf8(id).ok());
    decoded.shape == Shape::EnvelopeV1 && id.is_some() && id == decoded.request_id_given.as_deref()
}

/// What can never be understood is a dead letter at once.
pub(crate) fn undecodable(entry: Entry, malformed: &Malformed) -> Outcome {
    Outcome::Dead {
        entry,
        class: DeadLetterClass::Malformed,
        error: malformed.to_string(),
        code: malformed.slug().to_owned(),
    }
}
