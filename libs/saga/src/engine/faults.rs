//! Where a test can break an engine on purpose. Costs one check of an `Option` when it does not.

#![cfg_attr(
    not(feature = "testing"),
    expect(dead_code, reason = "only the feature breaks anything")
)]

use crate::Record;

/// Something the engine is about to do.
#[derive(Clone, Debug)]
pub(crate) enum Point<'a> {
    /// An attempt begins.
    Attempt(&'a Work<'a>),
    /// The attempt's function returned `ok`, and nothing of that is written.
    Returned(&'a Work<'a>, bool),
    /// These records are on disk.
    Written(&'a [Record]),
}

/// Which attempt.
#[derive(Clone, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) step: &'a str,
    pub(crate) item: u32,
    pub(crate) undoing: bool,
    pub(crate) key: &'a str,
    /// For an undo: whether it was given a result.
    pub(crate) has_result: bool,
}

/// What happens instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    None,
    /// The attempt ends like this; at its beginning, without having run.
    Rejected,
    Retryable,
    Unknown,
    Panic,
    /// It never ends.
    Hang,
    /// It takes this many seconds longer.
    Slow(u64),
    /// The process is gone.
    Crash,
}

/// Decides where to break what.
pub(crate) trait Faults: Send + Sync {
    fn at(&self, point: Point<'_>) -> Fault;
}
