//! The second port in the SQLite file: schedule, keys, figures.

pub(super) mod sql;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::{Tx, Value};
use ratebox_kit::{MessageId, Timestamp};

use super::codec::{encode, id};
use super::{SqliteLog, first};
use crate::control::TOO_MANY_ORDERS;
use crate::entry::fields_of;
use crate::policy::FIELDS_MAX;
use crate::{
    Bounds, Dispatch, Dispatcher, Error, Lane, Lanes, Load, ORDERS_MAX, Order, Place, Receipt,
    Scheduled, Sent, When,
};

/// Keys whose window is over that go with one call; more than a call may bring would need rounds.
const FORGET_MAX: usize = 1_000;

#[async_trait]
impl Dispatcher for SqliteLog {
    async fn send(&self, lanes: &Lanes, dispatches: &[Dispatch]) -> Vec<Result<Sent, Error>> {
        let sound = |dispatch: &Dispatch| dispatch.message.headers.len() + 2 <= FIELDS_MAX;
        let taken: Vec<&Dispatch> = dispatches.iter().filter(|it| sound(it)).collect();
        let mut sent = match self.try_send(lanes, &taken).await {
            Ok(sent) => sent.into_iter(),
            // One transaction: all or none.
            Err(error) => return dispatches.iter().map(|_| Err(error.again())).collect(),
        };
        let answer = |dispatch: &Dispatch| {
            if !sound(dispatch) {
                let (fields, max) = (dispatch.message.headers.len() + 2, FIELDS_MAX);
                return Err(Error::TooManyFields { fields, max });
            }
            let missing = || Error::refused("the log did not answer");
            sent.next().ok_or_else(missing)
        };
        dispatches.iter().map(answer).collect()
    }

    async fn scheduled(
        &self,
        lanes: &Lanes,
        skip: usize,
        max: usize,
    ) -> Result<Vec<Scheduled>, Error> {
        let values = vec![base(lanes), skip.into(), max.into()];
        let mut scheduled = Vec::new();
        for row in self.db.query(sql::SCHEDULED.with(values)).await? {
            let lane: String = row.get(1)?;
            scheduled.push(Scheduled {
                message_id: MessageId(row.get(0)?),
                lane: Lane::parse(&lane).unwrap_or(Lane::Normal),
                due: timestamp(row.get(2)?),
            });
        }
        Ok(scheduled)
    }

    async fn unschedule(&self, lanes: &Lanes, message_id: &str) -> Result<bool, Error> {
        let values = vec![base(lanes), message_id.into()];
        Ok(self.db.execute(sql::UNSCHEDULE.with(values)).await? > 0)
    }

    async fn load(&self, lanes: &Lanes, lane: Lane, limits: &Bounds) -> Result<Load, Error> {
        let stream = || Value::from(lanes.stream(lane).as_str());
        let enough = |limit: u64| limit.saturating_add(1).min(i64::MAX as u64).into();
        let mut load = Load::default();
        if let Some(limit) = limits.depth {
            let asked = sql::DEPTH.with(vec![stream(), enough(limit)]);
            load.depth = first(&self.db.query(asked).await?, 0)?;
        }
        if let Some(limit) = limits.bytes {
            let asked = sql::BYTES.with(vec![stream(), enough(limit)]);
            load.bytes = first(&self.db.query(asked).await?, 0)?;
        }
        if let Some(limit) = limits.scheduled {
            let asked = sql::SCHEDULED_COUNT.with(vec![base(lanes), enough(limit)]);
            load.scheduled = first(&self.db.query(asked).await?, 0)?;
        }
        Ok(load)
    }

    async fn order(&self, lanes: &Lanes, name: &str, time: Option<Duration>) -> Result<(), Error> {
        let now_ms = self.now_ms();
        let until_ms = time.map_or(Value::Null, |time| {
            now_ms.saturating_add(millis(time)).into()
        });
        let end = vec![base(lanes), now_ms.into()];
        let order = vec![
            base(lanes),
            name.into(),
            until_ms,
            ORDERS_MAX.into(),
            now_ms.into(),
        ];
        let both = vec![sql::END_ORDERS.with(end), sql::ORDER.with(order)];
        let (counts, _) = self.db.run(both).await?;
        if counts.last() == Some(&0) {
            return Err(Error::refused(TOO_MANY_ORDERS));
        }
        Ok(())
    }

    async fn withdraw(&self, lanes: &Lanes, name: &str) -> Result<bool, Error> {
        let values = vec![base(lanes), name.into(), self.now_ms().into()];
        Ok(self.db.execute(sql::WITHDRAW.with(values)).await? > 0)
    }

    async fn orders(&self, lanes: &Lanes) -> Result<Vec<Order>, Error> {
        let now_ms = self.now_ms();
        let values = vec![base(lanes), now_ms.into()];
        let mut orders = Vec::new();
        for row in self.db.query(sql::ORDERS.with(values)).await? {
            let until_ms: Option<i64> = row.get(1)?;
            let left_ms = until_ms.map(|until_ms| u64::try_from(until_ms - now_ms).unwrap_or(0));
            orders.push(Order {
                name: row.get(0)?,
                left: left_ms.map(Duration::from_millis),
            });
        }
        Ok(orders)
    }

    async fn note(
        &self,
        lanes: &Lanes,
        message_id: &str,
        value: &str,
        keep: Duration,
    ) -> Result<(), Error> {
        let now_ms = self.now_ms();
        let until_ms = now_ms.saturating_add(millis(keep).max(1));
        let end = vec![now_ms.into(), FORGET_MAX.into()];
        let note = vec![
            base(lanes),
            message_id.into(),
            until_ms.into(),
            value.into(),
        ];
        let both = vec![sql::END_NOTES.with(end), sql::NOTE.with(note)];
        self.db.run(both).await?;
        Ok(())
    }

    async fn noted(&self, lanes: &Lanes, message_id: &str) -> Result<Option<String>, Error> {
        let values = vec![base(lanes), message_id.into(), self.now_ms().into()];
        let rows = self.db.query(sql::NOTED.with(values)).await?;
        Ok(rows.first().map(|row| row.get(0)).transpose()?)
    }
}

// === impl SqliteLog ===

impl SqliteLog {
    async fn try_send(&self, lanes: &Lanes, dispatches: &[&Dispatch]) -> Result<Vec<Sent>, Error> {
        if dispatches.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.db.begin().await?;
        let forget = vec![self.now_ms().into(), FORGET_MAX.into()];
        tx.execute(sql::FORGET.with(forget)).await?;
        let mut sent = Vec::with_capacity(dispatches.len());
        for dispatch in dispatches {
            sent.push(self.send_one(&mut tx, lanes, dispatch).await?);
        }
        tx.commit().await?;
        self.appended.notify_waiters();
        Ok(sent)
    }

    async fn send_one(
        &self,
        tx: &mut Tx,
        lanes: &Lanes,
        dispatch: &Dispatch,
    ) -> Result<Sent, Error> {
        let now_ms = self.now_ms();
        if let Some(once) = &dispatch.dedupe {
            let values = vec![base(lanes), once.key.as_str().into(), now_ms.into()];
            let rows = tx.query(sql::FIRST.with(values)).await?;
            let receipt: String = first(&rows, String::new())?;
            if let Some(receipt) = Receipt::parse(&receipt) {
                return Ok(Sent::Duplicate(receipt));
            }
        }
        let due_ms = match dispatch.when {
            When::Now => 0,
            When::After(wait) => now_ms.saturating_add(millis(wait)),
            When::At(due) => due.as_millisecond(),
        };
        let place = if due_ms > now_ms {
            self.schedule(tx, lanes, dispatch, due_ms).await?;
            Place::Schedule(timestamp(due_ms))
        } else {
            let streams = vec![lanes.stream(dispatch.lane).to_string()];
            let fields = vec![encode(fields_of(&dispatch.message))];
            let drawn = self.push(tx, streams, fields).await?;
            Place::Stream(id(drawn.first().map_or(0, |(key, _)| *key)))
        };
        let message_id = dispatch.message.id.clone();
        let receipt = Receipt { message_id, place };
        if let Some(once) = &dispatch.dedupe {
            let until_ms = now_ms.saturating_add(millis(once.window).max(1));
            let values = vec![
                base(lanes),
                once.key.as_str().into(),
                until_ms.into(),
                receipt.to_string().into(),
            ];
            tx.execute(sql::REMEMBER.with(values)).await?;
        }
        Ok(Sent::Accepted(receipt))
    }

    async fn schedule(
        &self,
        tx: &mut Tx,
        lanes: &Lanes,
        dispatch: &Dispatch,
        due_ms: i64,
    ) -> Result<(), Error> {
        let values = vec![
            base(lanes),
            lanes.existing(dispatch.lane).as_str().into(),
            dispatch.message.id.0.as_str().into(),
            due_ms.into(),
            lanes.stream(dispatch.lane).as_str().into(),
            encode(fields_of(&dispatch.message)).into(),
        ];
        tx.execute(sql::SCHEDULE.with(values)).await?;
        Ok(())
    }

    /// Whether a message of the lane waits for its time.
    pub(super) async fn has_scheduled(&self, lanes: &Lanes, lane: Lane) -> Result<bool, Error> {
        let values = vec![lanes.base().as_str().into(), lane.as_str().into()];
        let rows = self.db.query(sql::IS_SCHEDULED.with(values)).await?;
        first(&rows, false)
    }

    /// Puts due messages onto their lanes; returns how many.
    pub(super) async fn promote_scheduled(
        &self,
        lanes: &Lanes,
        max: usize,
    ) -> Result<usize, Error> {
        let due = vec![base(lanes), self.now_ms().into()];
        let has_due = self.db.query(sql::HAS_DUE.with(due.clone())).await?;
        if max == 0 || !first(&has_due, false)? {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let mut values = due;
        values.push(max.into());
        let mut taken: Vec<(i64, String, Bytes)> = Vec::new();
        for row in tx.query(sql::DUE.with(values)).await? {
            taken.push((row.get(2)?, row.get(0)?, row.get(1)?));
        }
        taken.sort_by_key(|(due_ms, ..)| *due_ms);
        let count = taken.len();
        let (streams, fields) = taken.into_iter().map(|(_, to, what)| (to, what)).unzip();
        self.push(&mut tx, streams, fields).await?;
        tx.commit().await?;
        self.appended.notify_waiters();
        Ok(count)
    }
}

fn base(lanes: &Lanes) -> Value {
    lanes.base().as_str().into()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}
