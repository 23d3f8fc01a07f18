//! The proof that a commit happened.

use crate::tx::TxId;

/// Only a successful commit returns one, so whoever holds it may acknowledge. One commit covers a
/// whole batch, hence `Clone`.
#[derive(Clone, Debug)]
pub struct Committed {
    of: Of,
}

/// What was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Tx(TxId),
    /// Statements that were run as a transaction at once.
    Run,
    Outside,
}

impl Committed {
    pub(crate) fn of_run() -> Self {
        Self { of: Of::Run }
    }

    pub(crate) fn of_tx(tx: TxId) -> Self {
        Self { of: Of::Tx(tx) }
    }

    /// Whether something else than `tx` was committed: what was written in `tx` may yet be given up.
    /// Of what is [`Committed::outside`] nothing is known.
    pub fn is_of_another(&self, tx: TxId) -> bool {
        match self.of {
            Of::Tx(committed) => committed != tx,
            Of::Run => true,
            Of::Outside => false,
        }
    }

    /// For handlers whose effect is not in a database of this crate (or who have none). The
    /// reason is for the reader of the code: it says why acknowledging now loses nothing.
    pub fn outside(_reason: &'static str) -> Self {
        Self { of: Of::Outside }
    }
}
