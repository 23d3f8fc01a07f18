//! Where the steps of the saga find what they need.

use std::sync::atomic::AtomicU32;

use ratebox_kit::Shutdown;
use ratebox_outbox::Inbox;
use ratebox_saga::StepError;
use ratebox_store::{Error, Store};
use tokio::sync::Semaphore;

use crate::Settings;

/// Imports whose responses are read at once: a response may have half a megabyte.
const COUNTED_AT_ONCE: usize = 4;

/// What the steps of the saga work with.
pub struct Desk {
    pub(crate) store: Store,
    /// The workers' inbox: a request that is marked there is judged no more.
    pub(crate) inbox: Inbox,
    pub(crate) settings: Settings,
    pub(crate) shutdown: Shutdown,
    pub(crate) counting: Semaphore,
    /// Imports that this process follows just now.
    pub(crate) followed: AtomicU32,
}

impl Desk {
    /// A desk over this store, whose database the sagas are in as well. `inbox` is that of the
    /// workers.
    pub fn new(store: Store, inbox: Inbox, settings: Settings, shutdown: Shutdown) -> Self {
        Self {
            store,
            inbox,
            settings,
            shutdown,
            counting: Semaphore::new(COUNTED_AT_ONCE),
            followed: AtomicU32::new(0),
        }
    }
}

/// What an error of the store means for a step that only reads, or whose transaction is rolled
/// back: data that it refuses once it refuses for ever; everything else passes, or is mended by
/// somebody. Nothing of the call is left either way.
#[expect(clippy::needless_pass_by_value, reason = "it is made for map_err")]
pub(crate) fn failed(error: Error) -> StepError {
    let what = ratebox_kit::Causes(&error).to_string();
    if error.is_data() {
        StepError::rejected(what)
    } else {
        StepError::retryable(what)
    }
}

/// The same where the call wrote by itself, and not in a step's transaction: an error that is not
/// about the data may have come after the commit.
pub(crate) fn in_doubt(error: Error) -> StepError {
    if error.is_data() {
        return failed(error);
    }
    StepError::unknown(ratebox_kit::Causes(&error))
}

/// The same for the inbox.
pub(crate) fn inbox_failed(error: ratebox_outbox::Error) -> StepError {
    match error {
        ratebox_outbox::Error::Db(error) => failed(error.into()),
        other => StepError::retryable(other),
    }
}

/// There is no such import, and never will be.
pub(crate) fn unknown() -> StepError {
    StepError::rejected("there is no such import")
}

#[cfg(test)]
mod tests {
    use ratebox_saga::Class;

    use super::*;

    /// Read or rolled back, and written outside a step's transaction.
    fn classes(error: impl Fn() -> Error) -> (Class, Class) {
        (failed(error()).class(), in_doubt(error()).class())
    }

    #[test]
    fn only_what_surely_had_no_effect_is_said_to_have_had_none() {
        let late = || Error::from(ratebox_db::Error::Timeout { waited_ms: 1 });
        assert_eq!(classes(late), (Class::Retryable, Class::Unknown));
        let code = || "42P01".to_owned();
        let lacks_a_table = || Error::from(ratebox_db::Error::Statement { code: code() });
        assert_eq!(classes(lacks_a_table), (Class::Retryable, Class::Unknown));
        let data = || Error::from(ratebox_db::Error::Value { code: code() });
        assert_eq!(classes(data), (Class::Rejected, Class::Rejected));
    }
}
