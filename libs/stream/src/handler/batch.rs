//! Several messages at once, and one decision for each.

use ratebox_kit::MessageId;

use super::{Failure, Handled, IntoFailure, Meta, Proof};

/// Messages that were gathered for one call of a handler.
///
/// Each [`Item`] moves into its decision, so a second one does not compile; an item without a
/// decision counts as failed with code `handler.no_outcome`.
#[derive(Debug)]
pub struct Batch<T> {
    items: Vec<Item<T>>,
}

/// One message of a batch.
#[derive(Debug)]
pub struct Item<T> {
    /// How it came.
    pub meta: Meta,
    /// What its extractor made of it.
    pub value: T,
    place: Place,
}

/// Which message a decision is about; not cloned, so it is decided once.
#[derive(Debug)]
struct Place(usize);

/// The decision about one message of a batch.
#[derive(Debug)]
#[must_use = "return it, or the message counts as failed"]
pub struct Decided {
    pub(crate) place: usize,
    pub(crate) handled: Handled,
}

// === impl Batch ===

impl<T> Batch<T> {
    pub(crate) fn new(items: Vec<(usize, Meta, T)>) -> Self {
        let item = |(place, meta, value)| Item {
            meta,
            value,
            place: Place(place),
        };
        Self {
            items: items.into_iter().map(item).collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none: all had their effect before, or were unreadable.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items in the order of their arrival.
    pub fn iter(&self) -> std::slice::Iter<'_, Item<T>> {
        self.items.iter()
    }

    /// The ids in the order of arrival, for an inbox.
    pub fn ids(&self) -> Vec<MessageId> {
        self.iter().map(|item| item.meta.message_id()).collect()
    }

    /// All of them done by one commit.
    pub fn done<P: Proof + Clone>(self, proof: &P) -> Vec<Decided> {
        self.into_iter().map(|item| item.done(proof)).collect()
    }

    /// All of them failed the same way.
    pub fn failed(self, failure: impl IntoFailure) -> Vec<Decided> {
        let failure = failure.into_failure();
        self.into_iter()
            .map(|item| item.failed(failure.clone()))
            .collect()
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = Item<T>;
    type IntoIter = std::vec::IntoIter<Item<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a Item<T>;
    type IntoIter = std::slice::Iter<'a, Item<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

// === impl Item ===

impl<T> Item<T> {
    /// It may be acknowledged.
    pub fn done<P: Proof + Clone>(self, proof: &P) -> Decided {
        self.decided(Ok(proof.clone().into_committed()))
    }

    /// It failed.
    pub fn failed(self, failure: impl IntoFailure) -> Decided {
        self.decided(Err(failure.into_failure()))
    }

    fn decided(self, handled: Handled) -> Decided {
        Decided {
            place: self.place.0,
            handled,
        }
    }
}

pub(crate) fn undecided() -> Failure {
    Failure::retry("handler.no_outcome", "the handler returned no outcome")
}
