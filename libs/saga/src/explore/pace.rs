//! Virtual time beside a database, which answers in real time: while it works, no time may pass, or
//! every wait would be over at once. So the time stands still by itself, and is moved on whenever
//! nobody has anything to do.

use std::time::Duration;

use ratebox_db::Db;

use super::script::Script;
use crate::journal::database::sql::NOTHING;

/// The first step of the time after something happened, and the longest one.
const STEP_FIRST: Duration = Duration::from_millis(5);
const STEP_MAX: Duration = Duration::from_secs(2);

/// How long the database may take for nothing: it may be held by a step that hangs.
const PATIENCE: Duration = Duration::from_millis(2);

/// Lets time pass, for ever.
pub(super) async fn pass(db: &Db, script: &Script) {
    let (_held, hold) = std::sync::mpsc::channel::<()>();
    // A blocking task that is there keeps the runtime from moving the time by itself. It ends with
    // this future.
    let _still = tokio::task::spawn_blocking(move || hold.recv().is_ok());
    let (mut step, mut seen) = (STEP_FIRST, 0);
    loop {
        settle(db).await;
        let count = script.count();
        step = match count == seen {
            true => (step * 2).min(STEP_MAX),
            false => STEP_FIRST,
        };
        seen = count;
        tokio::time::advance(step).await;
    }
}

/// Waits until nobody has anything to do, as far as can be seen.
async fn settle(db: &Db) {
    for _ in 0..3 {
        let patience = tokio::task::spawn_blocking(|| std::thread::sleep(PATIENCE));
        tokio::select! {
            // It waits behind everything that was asked before.
            _ = db.execute(NOTHING) => {}
            _ = patience => {}
        }
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
    }
}
