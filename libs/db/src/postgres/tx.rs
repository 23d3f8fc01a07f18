//! A transaction on PostgreSQL. `BEGIN` travels with the first statements and `COMMIT` with the
//! last, so a batch costs two round trips.

use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::future::join_all;

use super::joined::Joined;
use super::{decode_row, params, send, timeout, within};
use crate::{Committed, Error, Result, Row, Statement};

/// Statements that `COMMIT` travels with at most. Of more, `join_all` may leave some for its next
/// turn, and `COMMIT` would overtake these.
const ALONG_MAX: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `BEGIN` has not been sent.
    Fresh,
    Open,
    /// A statement failed, or its fate is unknown.
    Failed,
    Ended,
}

#[derive(Debug)]
pub(crate) struct PostgresTx {
    client: Option<Object>,
    state: State,
    call_timeout: Duration,
}

impl PostgresTx {
    pub(super) fn new(client: Object, call_timeout: Duration) -> Self {
        Self {
            client: Some(client),
            state: State::Fresh,
            call_timeout,
        }
    }

    pub(crate) async fn query(&mut self, statement: Statement) -> Result<Vec<Row>> {
        let limit = self.call_timeout;
        let ask = statement.into_call()?;
        let (client, begin) = self.start()?;
        let call = async {
            let prepared = send::prepare_call(client, &ask).await?;
            let params = params(&ask);
            let (begun, rows) = tokio::join!(
                send_if(begin, client, "BEGIN"),
                client.query(&prepared, &params)
            );
            begun?;
            rows
        };
        let rows = within(limit, call).await?;
        self.state = State::Open;
        rows.iter().map(decode_row).collect()
    }

    pub(crate) async fn execute_all(&mut self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        let counts = self.send(&statements, false).await?;
        self.state = State::Open;
        Ok(counts)
    }

    pub(crate) async fn commit_after(
        mut self,
        statements: Vec<Statement>,
    ) -> Result<(Vec<u64>, Committed)> {
        // All statements are known to have succeeded when this returns; a COMMIT that follows a
        // failed statement is answered as a success but rolls back, hence the order of checks.
        let counts = self.send(&statements, true).await?;
        self.state = State::Ended;
        Ok((counts, Committed::of_run()))
    }

    pub(crate) async fn rollback(mut self) -> Result<()> {
        if self.state == State::Fresh {
            self.state = State::Ended;
            return Ok(());
        }
        let Some(client) = &self.client else {
            return Ok(());
        };
        within(self.call_timeout, client.batch_execute("ROLLBACK")).await?;
        self.state = State::Ended;
        Ok(())
    }

    /// Sends everything at once and waits for all answers. Until they are known the state is
    /// `Failed`, so that a cancelled call cannot be committed around.
    async fn send(&mut self, statements: &[Statement], commit: bool) -> Result<Vec<u64>> {
        let limit = self.call_timeout;
        let (client, begin) = self.start()?;
        let call = async {
            if begin
                && commit
                && let Some(joined) = Joined::new(statements)
            {
                return joined.run(client).await;
            }
            let mut ready = Vec::with_capacity(statements.len());
            for statement in statements {
                ready.push(send::prepare(client, statement).await?);
            }
            let is_long = ready.len() > ALONG_MAX;
            let calls = ready.into_iter().map(|it| send::execute(client, it));
            let (begun, counts, committed) = tokio::join!(
                biased;
                send_if(begin, client, "BEGIN"),
                join_all(calls),
                send_if(commit && !is_long, client, "COMMIT"),
            );
            begun?;
            let counts = counts.into_iter().collect::<Result<Vec<_>>>()?;
            committed?;
            send_if(commit && is_long, client, "COMMIT").await?;
            Ok(counts)
        };
        timeout(limit, call).await
    }

    fn start(&mut self) -> Result<(&Object, bool)> {
        let begin = match self.state {
            State::Fresh => true,
            State::Open => false,
            State::Failed | State::Ended => return Err(Error::Failed),
        };
        self.state = State::Failed;
        Ok((self.client.as_ref().ok_or(Error::Failed)?, begin))
    }
}

async fn send_if(
    wanted: bool,
    client: &Object,
    text: &str,
) -> std::result::Result<(), tokio_postgres::Error> {
    if wanted {
        client.batch_execute(text).await
    } else {
        Ok(())
    }
}

impl Drop for PostgresTx {
    fn drop(&mut self) {
        // A connection inside a transaction must never go back to the pool: it is closed, and the
        // server rolls back.
        if matches!(self.state, State::Open | State::Failed)
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}
