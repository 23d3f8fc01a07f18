//! Waking relays of other processes: PostgreSQL's notifications.
//!
//! A notification is never sent in the transaction of an event: a commit with one takes a lock on
//! the whole server (measured: 8 to 11 times fewer commits a second). A sender notifies afterwards,
//! on a connection of its own, at most once in 5 ms; a relay that misses one finds the events by
//! its poll.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, Dialect, Listener};
use ratebox_kit::{Shutdown, Stopwatch, Tasks};
use tokio::sync::Notify;

use crate::sql;

/// What relays listen to.
const CHANNEL: &str = "ratebox_outbox";
/// Rest after a notification.
const REST: Duration = Duration::from_millis(5);
/// Rest after a listener that could not be opened.
const DEAF: Duration = Duration::from_secs(5);

/// Tells the relays of other processes that there is work.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Option<Arc<Notify>>);

impl Bell {
    /// A bell for this database; one of SQLite has relays in its own process only.
    pub(crate) fn start(db: Db, tasks: &Tasks) -> Self {
        if db.dialect() == Dialect::Sqlite {
            return Self(None);
        }
        let notify = Arc::new(Notify::new());
        tasks.spawn(
            "outbox-bell",
            ring(db, Arc::clone(&notify), tasks.shutdown()),
        );
        Self(Some(notify))
    }

    pub(crate) fn ring(&self) {
        if let Some(notify) = &self.0 {
            notify.notify_one();
        }
    }
}

async fn ring(db: Db, notify: Arc<Notify>, shutdown: Shutdown) {
    while shutdown.unless(notify.notified()).await.is_some() {
        if let Err(error) = db.query(sql::NOTIFY).await {
            tracing::debug!(%error, "relays could not be woken; they look by themselves");
        }
        if !shutdown.sleep(REST).await {
            return;
        }
    }
}

/// Hears the bells.
pub(super) struct Ear {
    db: Db,
    listener: Option<Listener>,
    tried: Option<Stopwatch>,
}

impl Ear {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            listener: None,
            tried: None,
        }
    }

    /// Listens, if it does not; a database that cannot be listened to is tried again later.
    pub(super) async fn open(&mut self) {
        let rests = self.tried.as_ref().is_some_and(|at| at.elapsed() < DEAF);
        if self.listener.is_some() || rests {
            return;
        }
        self.tried = Some(Stopwatch::start());
        match self.db.listen(CHANNEL).await {
            Ok(listener) => self.listener = listener,
            Err(error) => tracing::debug!(%error, "cannot listen; the relay looks by itself"),
        }
    }

    /// Waits for a bell. Cancel-safe.
    pub(super) async fn heard(&mut self) {
        let Some(listener) = &mut self.listener else {
            return std::future::pending().await;
        };
        if listener.next().await.is_err() {
            self.listener = None;
        }
    }
}
