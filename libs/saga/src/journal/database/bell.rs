//! Waking other processes: PostgreSQL's notifications. On SQLite there is one process only.
//!
//! A notification is never sent in the transaction of a letter: a commit with one takes a lock on
//! the whole server. Who misses one finds the letter with its next look.

use std::future::pending;
use std::sync::Mutex;
use std::time::Duration;

use ratebox_db::{Db, Dialect, Listener};
use ratebox_kit::Stopwatch;

use super::sql;

/// What engines listen to.
const CHANNEL: &str = "ratebox_saga";
/// Between two notifications of one process.
const REST: Duration = Duration::from_millis(5);
/// After a listener that could not be opened.
const DEAF: Duration = Duration::from_secs(5);

/// Rings, and hears what others rang.
#[derive(Default)]
pub(super) struct Bell {
    rang: Mutex<Option<Stopwatch>>,
    ear: tokio::sync::Mutex<Option<Listener>>,
}

impl Bell {
    pub(super) async fn ring(&self, db: &Db) {
        if db.dialect() == Dialect::Sqlite || !self.is_rested() {
            return;
        }
        if let Err(error) = db.query(sql::NOTIFY).await {
            tracing::debug!(%error, "engines could not be woken; they look by themselves");
        }
    }

    fn is_rested(&self) -> bool {
        let mut rang = self.rang.lock().unwrap_or_else(|e| e.into_inner());
        if rang.as_ref().is_some_and(|it| it.elapsed() < REST) {
            return false;
        }
        *rang = Some(Stopwatch::start());
        true
    }

    /// Completes when somebody rang. Cancel-safe: the connection is kept.
    pub(super) async fn heard(&self, db: &Db) {
        let mut ear = self.ear.lock().await;
        loop {
            let Some(listener) = &mut *ear else {
                match db.listen(CHANNEL).await {
                    // What was rung before it listened is found by a look now.
                    Ok(Some(listener)) => {
                        *ear = Some(listener);
                        return;
                    }
                    Ok(None) => return pending().await,
                    Err(error) => {
                        tracing::debug!(%error, "cannot listen; the engine looks by itself");
                        tokio::time::sleep(DEAF).await;
                    }
                }
                continue;
            };
            match listener.next().await {
                Ok(()) => return,
                Err(_) => *ear = None,
            }
        }
    }
}
