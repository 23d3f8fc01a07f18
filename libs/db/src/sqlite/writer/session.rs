//! A transaction whose statements come one after another, while the writer waits for it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Answer;
use crate::sqlite::bind;
use crate::{Committed, Error, Result, Row, Statement};

/// A transaction that is silent for this long is given up: it holds the only writer.
const SILENCE_MAX: Duration = Duration::from_secs(5);

enum Call {
    Query(Statement, oneshot::Sender<Result<Vec<Row>>>),
    Execute(Vec<Statement>, oneshot::Sender<Result<Vec<u64>>>),
    Commit(Vec<Statement>, oneshot::Sender<Answer>),
    Rollback(oneshot::Sender<()>),
}

/// How a session ended.
pub(super) enum Ended {
    /// Its work stands in the physical transaction; answer when that is on disk.
    Committed(Vec<u64>, oneshot::Sender<Answer>),
    /// Nothing of it is left.
    GivenUp,
}

/// The writer's end of a transaction.
pub(super) struct Session {
    calls: Receiver<Call>,
}

impl Session {
    /// Serves calls until the transaction ends. A failed call takes everything back and refuses
    /// what follows.
    pub(super) fn serve(self, connection: &Connection) -> Ended {
        if let Err(error) = connection.execute_batch("SAVEPOINT tx") {
            self.refuse(error.into());
            return Ended::GivenUp;
        }
        let mut failed = false;
        loop {
            match self.calls.recv_timeout(SILENCE_MAX) {
                Ok(Call::Query(statement, answer)) => {
                    let done = guard(failed, || bind::query(connection, statement));
                    failed |= done.is_err();
                    let _ = answer.send(done);
                }
                Ok(Call::Execute(statements, answer)) => {
                    let done = guard(failed, || execute_all(connection, statements));
                    failed |= done.is_err();
                    let _ = answer.send(done);
                }
                Ok(Call::Commit(statements, answer)) => {
                    return commit(connection, failed, statements, answer);
                }
                Ok(Call::Rollback(answer)) => {
                    take_back(connection);
                    let _ = answer.send(());
                    return Ended::GivenUp;
                }
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("a silent transaction was rolled back to free the writer");
                    take_back(connection);
                    return Ended::GivenUp;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    take_back(connection);
                    return Ended::GivenUp;
                }
            }
        }
    }

    /// The physical transaction could not begin.
    pub(super) fn refuse(self, error: Error) {
        match self.calls.recv_timeout(SILENCE_MAX) {
            Ok(Call::Query(_, answer)) => drop(answer.send(Err(error))),
            Ok(Call::Execute(_, answer)) => drop(answer.send(Err(error))),
            Ok(Call::Commit(_, answer)) => drop(answer.send(Err(error))),
            Ok(Call::Rollback(answer)) => drop(answer.send(())),
            Err(_) => {}
        }
    }
}

fn commit(
    connection: &Connection,
    failed: bool,
    statements: Vec<Statement>,
    answer: oneshot::Sender<Answer>,
) -> Ended {
    let done = guard(failed, || {
        let counts = execute_all(connection, statements)?;
        connection.execute_batch("RELEASE tx")?;
        Ok(counts)
    });
    match done {
        Ok(counts) => Ended::Committed(counts, answer),
        Err(error) => {
            take_back(connection);
            let _ = answer.send(Err(error));
            Ended::GivenUp
        }
    }
}

fn guard<T>(failed: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if failed { Err(Error::Failed) } else { work() }
}

fn execute_all(connection: &Connection, statements: Vec<Statement>) -> Result<Vec<u64>> {
    statements
        .into_iter()
        .map(|statement| bind::execute(connection, &statement))
        .collect()
}

/// Undoes a savepoint. When SQLite has already given the whole transaction up there is none left,
/// and that is what we want. What cannot be undone alone must not be committed with the work of
/// others: then the whole group is given up, which its members are told.
pub(super) fn take_back(connection: &Connection) {
    let undone = connection.execute_batch("ROLLBACK TO tx; RELEASE tx");
    if let Err(error) = undone
        && !connection.is_autocommit()
    {
        tracing::error!(%error, "a SQLite transaction could not be undone alone; its group is given up");
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// The caller's end of a transaction.
#[derive(Debug)]
pub(crate) struct SqliteTx {
    calls: SyncSender<Call>,
}

impl SqliteTx {
    pub(super) fn new() -> (Self, Session) {
        // One call is under way at a time: `&mut self` sees to it.
        let (calls, queue) = sync_channel(1);
        (Self { calls }, Session { calls: queue })
    }

    pub(crate) async fn query(&mut self, statement: Statement) -> Result<Vec<Row>> {
        self.call(|answer| Call::Query(statement, answer)).await?
    }

    pub(crate) async fn execute_all(&mut self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        self.call(|answer| Call::Execute(statements, answer))
            .await?
    }

    pub(crate) async fn commit_after(
        self,
        statements: Vec<Statement>,
    ) -> Result<(Vec<u64>, Committed)> {
        self.call(|answer| Call::Commit(statements, answer)).await?
    }

    pub(crate) async fn rollback(self) -> Result<()> {
        self.call(Call::Rollback).await
    }

    async fn call<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        // The queue has room unless a call was cancelled half-way, which ends the transaction.
        self.calls.try_send(make(answer)).map_err(|_| given_up())?;
        answered.await.map_err(|_| given_up())
    }
}

fn given_up() -> Error {
    Error::Contention {
        code: "the transaction was given up".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_undone_alone_is_not_committed_with_others() {
        let connection = Connection::open_in_memory().unwrap();
        let begin = "CREATE TABLE numbers (n INT); BEGIN IMMEDIATE; INSERT INTO numbers VALUES (1)";
        connection.execute_batch(begin).unwrap();
        // There is no savepoint to go back to.
        take_back(&connection);
        assert!(connection.is_autocommit());
        let count = connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0));
        assert_eq!(count, Ok(0_i64));
    }
}
