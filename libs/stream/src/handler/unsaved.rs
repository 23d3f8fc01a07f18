//! Whether a handler dropped a transaction with work in it.

use std::cell::Cell;

use super::Failure;

tokio::task_local! {
    /// Set when a transaction with work in it is dropped while the handler runs.
    static UNSAVED: Cell<bool>;
}

/// Whether there is work in a transaction. Dropped while there is, it tells the handler's caller.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) is_open: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.is_open {
            // Outside a handler nobody asks.
            let _ = UNSAVED.try_with(|unsaved| unsaved.set(true));
        }
    }
}

/// Runs a handler; returns what it said, and whether it lost work.
pub(super) async fn watch<T>(handler: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let said = handler.await;
        (said, UNSAVED.with(Cell::get))
    };
    UNSAVED.scope(Cell::new(false), watched).await
}

/// What becomes of a message whose handler said that it is done and lost its work.
pub(super) fn not_committed() -> Failure {
    Failure::retry(
        "handler.not_committed",
        "the handler used its `Tx` and dropped it without a commit: return what `Tx::commit` \
         answers, or call `Tx::roll_back` first",
    )
}
