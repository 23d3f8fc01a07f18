//! Deletes the rows of events that were sent, many at a time.
//!
//! A row that stays because its deletion failed is sent once more by the relay; receivers know
//! the message by its id.

use std::time::Duration;

use ratebox_db::{Column, Db, Dialect, Statement};
use ratebox_kit::{Causes, Shutdown, Tasks};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{Result, sql};

/// Groups of sent rows that wait for their deletion; beyond it senders wait.
const QUEUE_MAX: usize = 1024;
/// Rows of one statement.
const BATCH_MAX: usize = 4096;

/// How long a deletion waits for company; far below the pre-lease.
const LINGER: Duration = Duration::from_millis(20);

/// What is left of a sent row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trail {
    /// It moves to the archive.
    Archived,
    /// Nothing.
    None,
}

impl Trail {
    /// Of events for `topic`, unless it is one of those that leave nothing.
    pub(crate) fn of(archive: bool, unarchived: &[String], topic: &str) -> Self {
        if archive && !unarchived.iter().any(|it| it == topic) {
            Self::Archived
        } else {
            Self::None
        }
    }
}

/// Partition and id of a row.
pub(crate) type RowKey = (i64, Uuid);

/// A row whose events were sent, and what is left of it.
pub(crate) type SentRow = (RowKey, Trail);

/// Rows to delete, and whether somebody waits for it.
type Sent = (Vec<SentRow>, bool);

#[derive(Clone, Debug)]
pub(crate) struct Sweeper {
    queue: mpsc::Sender<Sent>,
}

impl Sweeper {
    pub(crate) fn start(db: Db, tasks: &Tasks) -> Self {
        let (queue, sent) = mpsc::channel(QUEUE_MAX);
        let running = run(db, sent, tasks.shutdown());
        tasks.spawn("outbox-sweeper", running);
        Self { queue }
    }

    pub(crate) async fn sweep(&self, rows: Vec<SentRow>, is_urgent: bool) {
        if !rows.is_empty() {
            // A closed queue means that the process stops; the relay then finds the rows.
            let _ = self.queue.send((rows, is_urgent)).await;
        }
    }
}

/// How long a stopping process may be silent before the sweeper ends with it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Ends when the last sender is gone, so that nothing sent is left undeleted on a calm stop; or,
/// while someone still holds a sender, after a silence.
async fn run(db: Db, mut sent: mpsc::Receiver<Sent>, shutdown: Shutdown) {
    loop {
        let received = match shutdown.unless(sent.recv()).await {
            Some(received) => received,
            None => tokio::time::timeout(LAST_WORDS, sent.recv())
                .await
                .unwrap_or_default(),
        };
        let Some((mut rows, is_urgent)) = received else {
            return;
        };
        gather(&mut rows, &mut sent, is_urgent || shutdown.is_stopping()).await;
        if let Err(error) = delete(&db, &rows).await {
            tracing::warn!(
                error = %Causes(&error),
                rows = rows.len(),
                "sent events could not be deleted and will be sent again"
            );
        }
    }
}

/// Adds what comes while one waits a moment: at a low rate every deletion would else be a
/// transaction of its own, as dear as the one that it cleans up after.
async fn gather(rows: &mut Vec<SentRow>, sent: &mut mpsc::Receiver<Sent>, is_urgent: bool) {
    let linger = if is_urgent { Duration::ZERO } else { LINGER };
    let mut over = std::pin::pin!(tokio::time::sleep(linger));
    while rows.len() < BATCH_MAX {
        tokio::select! {
            biased;
            more = sent.recv() => match more {
                Some((more, is_urgent)) => {
                    rows.extend(more);
                    if is_urgent {
                        return;
                    }
                }
                None => return,
            },
            () = &mut over => return,
        }
    }
}

/// Deletes sent rows.
pub(crate) async fn delete(db: &Db, rows: &[SentRow]) -> Result<()> {
    let of = |trail| rows.iter().filter(move |row| row.1 == trail);
    let moved: Vec<RowKey> = of(Trail::Archived).map(|row| row.0).collect();
    let mut gone: Vec<RowKey> = of(Trail::None).map(|row| row.0).collect();
    let mut statements = Vec::new();
    if !moved.is_empty() {
        statements.push(sql::MOVE.rows(columns(&moved), Vec::new())?.planned_anew());
        if db.dialect() == Dialect::Sqlite {
            gone.extend(moved);
        }
    }
    if !gone.is_empty() {
        statements.push(statement(&gone)?);
    }
    if !statements.is_empty() {
        db.run(statements).await?;
    }
    Ok(())
}

/// The statement that deletes rows.
pub(crate) fn statement(rows: &[RowKey]) -> Result<Statement> {
    Ok(sql::DELETE.rows(columns(rows), Vec::new())?.planned_anew())
}

fn columns(rows: &[RowKey]) -> Vec<Column> {
    let (partitions, ids) = rows.iter().copied().unzip();
    vec![Column::Int(partitions), Column::Uuid(ids)]
}
