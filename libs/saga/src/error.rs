//! Why a call to this crate failed.

use ratebox_kit::PortError;

use crate::{Flaw, SagaId, Status};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's database refused or could not be reached.
    #[error("the journal's database call failed")]
    Db(#[from] ratebox_db::Error),
    /// The store's Redis or Valkey refused or could not be reached.
    #[error("the journal's server did not do its work")]
    Valkey(#[from] ratebox_valkey::Error),
    /// Another kind of store failed.
    #[error("the journal's store failed")]
    Store(#[source] PortError),
    /// This process lost its membership: another one may own its sagas now.
    #[error("this process was fenced")]
    Fenced,
    /// The store has no transactions that a step or a caller could join.
    #[error("the store has no transactions to join")]
    NoTransactions,
    /// A stored row cannot be read: another program wrote it.
    #[error("a stored row cannot be read: {what}")]
    Row {
        /// What about it.
        what: &'static str,
    },
    /// A definition cannot be built.
    #[error("definition {saga} has flaws: {}", sentences(flaws))]
    Definition {
        /// The definition's name.
        saga: String,
        /// All that is wrong with it.
        flaws: Vec<Flaw>,
    },
    /// The engine does not know this definition; register it first.
    #[error("definition {name} is not registered")]
    NotRegistered {
        /// The definition's name.
        name: String,
    },
    /// Another definition of the same name and version is registered already.
    #[error("another definition {name} of version {version} is registered")]
    Registered {
        /// The definition's name.
        name: String,
        /// The version that both carry.
        version: u32,
    },
    /// There is no such saga.
    #[error("there is no saga {id}")]
    NoSuchSaga {
        /// The id that was asked for.
        id: SagaId,
    },
    /// The definition has no such step.
    #[error("there is no step {step}")]
    NoSuchStep {
        /// The name that was asked for.
        step: String,
    },
    /// What was asked for cannot be done with a saga, or a step, in this state.
    #[error("not possible: {why}")]
    Refused {
        /// Why not.
        why: String,
    },
    /// The saga ended without completing.
    #[error("saga {id} ended {status}: {error}")]
    Ended {
        /// Which saga.
        id: SagaId,
        /// How it ended.
        status: Status,
        /// Its first error.
        error: String,
    },
    /// An input, a result or an output cannot be written or read as JSON.
    #[error("a value cannot be written or read as JSON")]
    Json(#[source] serde_json::Error),
    /// As many sagas as are allowed are held in memory, for longer than a start waits.
    #[error("{live_max} sagas are under way, which is the limit")]
    Busy {
        /// The limit.
        live_max: usize,
    },
    /// This process could not join the journal for longer than a start waits: it is away, or its
    /// tables are not there.
    #[error("the journal could not be joined within {waited_ms} ms: {cause}")]
    NotJoined {
        /// How long we waited.
        waited_ms: u64,
        /// What became of the last try.
        cause: String,
    },
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
}

impl Error {
    /// Worth trying again, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Db(error) => error.is_retryable(),
            Self::Valkey(error) => error.is_retryable(),
            Self::Store(_) | Self::Busy { .. } | Self::NotJoined { .. } => true,
            Self::Fenced
            | Self::NoTransactions
            | Self::Row { .. }
            | Self::Definition { .. }
            | Self::NotRegistered { .. }
            | Self::Registered { .. }
            | Self::NoSuchSaga { .. }
            | Self::NoSuchStep { .. }
            | Self::Refused { .. }
            | Self::Ended { .. }
            | Self::Json(_)
            | Self::Stopping => false,
        }
    }
}

fn sentences(flaws: &[Flaw]) -> String {
    let sentences: Vec<String> = flaws.iter().map(ToString::to_string).collect();
    sentences.join("; ")
}
