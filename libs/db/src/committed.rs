//! The proof that a commit happened.

/// Only a successful commit returns one, so whoever holds it may acknowledge. One commit covers a
/// whole batch, hence `Clone`.
#[derive(Clone, Debug)]
pub struct Committed {
    _only_a_commit_makes_one: (),
}

impl Committed {
    pub(crate) fn after_commit() -> Self {
        Self {
            _only_a_commit_makes_one: (),
        }
    }

    /// For handlers whose effect is not in a database of this crate (or who have none). The
    /// reason is for the reader of the code: it says why acknowledging now loses nothing.
    pub fn outside(_reason: &'static str) -> Self {
        Self {
            _only_a_commit_makes_one: (),
        }
    }
}
