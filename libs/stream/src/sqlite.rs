//! The embedded log: streams and groups in a SQLite file, for one process without a server.
//!
//! Every change is on disk before it is answered. Readers of the same process are woken by an
//! append; other processes on the same file are seen by a look every 200 ms.

mod admin;
mod backlog;
mod codec;
mod delivery;
mod failed;
mod firings;
mod limits;
mod ownership;
mod rooms;
mod settle;
mod sql;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::{
    Column, Db, Leases, Migration, Row, Statement, Tx, Unknown, Value, migrate, unknown,
};
use ratebox_kit::Clock;
use tokio::sync::Notify;

use self::codec::{decode, encode, id, key};
use crate::entry::fields_to_append;
use crate::{
    Append, ClaimScope, Claimed, Entry, EntryId, Error, Keep, Lane, LaneQuota, Log, Settlement,
    StreamName, Subscription, Tail, Wait,
};

/// Whose tables there are, in the order in which they are made.
const OWNERS: [(&str, &[Migration]); 3] = [
    (Leases::OWNER, Leases::MIGRATIONS),
    (sql::OWNER, sql::MIGRATIONS),
    (delivery::sql::OWNER, delivery::sql::MIGRATIONS),
];

/// How often a waiting reader looks for what another process appended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// When a retry is due, its number among the waiting, its stream and its fields.
type Due = (i64, i64, String, Bytes);

/// A log in a SQLite file.
pub struct SqliteLog {
    db: Db,
    clock: Clock,
    appended: Notify,
}

// === impl SqliteLog ===

impl SqliteLog {
    /// Opens the log in `db`, a SQLite database, and makes its tables where they are missing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn open(db: Db, clock: Clock) -> Result<Self, Error> {
        for (owner, migrations) in OWNERS {
            migrate(&db, owner, migrations).await?;
        }
        Ok(Self {
            db,
            clock,
            appended: Notify::new(),
        })
    }

    /// Migrations of the file that this version does not know: a newer one has been here.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn newer(&self) -> Result<Vec<Unknown>, Error> {
        let mut newer = Vec::new();
        for (owner, migrations) in OWNERS {
            newer.extend(unknown(&self.db, owner, migrations).await?);
        }
        Ok(newer)
    }

    /// Removes a stream with its groups, as a server does that lost its data. For tests.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn lose_stream(&self, stream: &StreamName) -> Result<(), Error> {
        let lose = sql::LOSE_STREAM.map(|sql| sql.with(vec![text(stream)]));
        self.db.run(lose.into()).await?;
        Ok(())
    }

    /// Removes one entry, as someone does who trims without looking. For tests.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn lose_entry(&self, stream: &StreamName, id: EntryId) -> Result<(), Error> {
        self.db
            .execute(sql::LOSE_ENTRY.with(vec![text(stream), key(id).into()]))
            .await?;
        Ok(())
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms().max(0)
    }

    /// Draws ids and inserts entries, in the caller's transaction; returns of each its id and its
    /// number in its stream.
    async fn push(
        &self,
        tx: &mut Tx,
        streams: Vec<String>,
        fields: Vec<Bytes>,
    ) -> Result<Vec<(i64, u64)>, Error> {
        let now = EntryId::new(u64::try_from(self.now_ms()).unwrap_or(0), 0);
        let draw = sql::NEXT_ID.rows(vec![Column::Text(streams.clone())], vec![key(now).into()])?;
        let mut drawn = Vec::with_capacity(streams.len());
        for row in tx.query(draw).await? {
            drawn.push((row.get(0)?, row.get(1)?));
        }
        let ids = drawn.iter().map(|(id, _)| *id).collect();
        let columns = vec![
            Column::Text(streams),
            Column::Int(ids),
            Column::Bytes(fields),
        ];
        tx.execute(sql::INSERT.rows(columns, Vec::new())?).await?;
        Ok(drawn)
    }

    async fn try_append(&self, entries: &[Append]) -> Result<Vec<EntryId>, Error> {
        let mut tx = self.db.begin().await?;
        let streams = entries.iter().map(|it| it.stream.to_string()).collect();
        let fields = entries
            .iter()
            .map(|it| encode(fields_to_append(it)))
            .collect();
        let drawn = self.push(&mut tx, streams, fields).await?;
        let mut cuts: Vec<(&StreamName, u64)> = Vec::new();
        for (append, (_, number)) in entries.iter().zip(&drawn) {
            if let Keep::About(max_len) = append.keep
                && is_cut_due(*number, max_len)
                && !cuts.iter().any(|(stream, _)| *stream == &append.stream)
            {
                cuts.push((&append.stream, max_len));
            }
        }
        let cut = |(stream, max_len): (&StreamName, u64)| {
            sql::CUT.with(vec![text(stream), max_len.into()])
        };
        tx.commit_after(cuts.into_iter().map(cut).collect()).await?;
        self.appended.notify_waiters();
        Ok(drawn.into_iter().map(|(key, _)| id(key)).collect())
    }

    async fn read_lane(
        &self,
        sub: &Subscription,
        quota: LaneQuota,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let stream = sub.lanes.stream(quota.lane);
        let has_fresh = self
            .db
            .query(sql::HAS_FRESH.with(group_key(stream, sub)))
            .await?;
        if !first(&has_fresh, false)? {
            return Ok(Vec::new());
        }
        let mut tx = self.db.begin().await?;
        let last = self.group(&mut tx, stream, sub).await?;
        let range = vec![text(stream), (last + 1).into(), limit.into()];
        let rows = tx.query(sql::RANGE.with(range)).await?;
        let ids: Vec<i64> = rows
            .iter()
            .map(|row| row.get(0))
            .collect::<Result<_, _>>()?;
        let Some(newest) = ids.last().copied() else {
            tx.rollback().await?;
            return Ok(Vec::new());
        };
        let owner = sub.consumer.as_str().into();
        let mut pending = group_key(stream, sub);
        pending.extend([owner, self.now_ms().into()]);
        let mut advance = group_key(stream, sub);
        advance.push(newest.into());
        tx.commit_after(vec![
            sql::DELIVER.rows(vec![Column::Int(ids)], pending)?,
            sql::ADVANCE.with(advance),
            self.see(stream, sub),
        ])
        .await?;
        rows.iter()
            .map(|row| entry(stream, quota.lane, row.get(0)?, 1, row.get(1)?))
            .collect()
    }

    /// The group's place, or the error that it does not exist.
    async fn group(
        &self,
        tx: &mut Tx,
        stream: &StreamName,
        sub: &Subscription,
    ) -> Result<i64, Error> {
        let rows = tx.query(sql::GROUP.with(group_key(stream, sub))).await?;
        let missing = || Error::NoGroup {
            stream: stream.clone(),
            group: sub.group.clone(),
        };
        Ok(rows.first().ok_or_else(missing)?.get(0)?)
    }

    async fn promote_retries(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        let due = vec![text(sub.lanes.delayed()), self.now_ms().into()];
        if !first(&self.db.query(sql::HAS_DUE.with(due.clone())).await?, false)? {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let mut values = due;
        values.push(max.into());
        let mut due: Vec<Due> = Vec::new();
        for row in tx.query(sql::DUE.with(values)).await? {
            due.push((row.get(2)?, row.get(3)?, row.get(0)?, row.get(1)?));
        }
        due.sort_unstable_by_key(|(due_ms, no, ..)| (*due_ms, *no));
        let count = due.len();
        let (streams, fields) = due.into_iter().map(|(_, _, to, what)| (to, what)).unzip();
        self.push(&mut tx, streams, fields).await?;
        tx.commit().await?;
        self.appended.notify_waiters();
        Ok(count)
    }

    fn see(&self, stream: &StreamName, sub: &Subscription) -> Statement {
        let mut values = group_key(stream, sub);
        values.extend([sub.consumer.as_str().into(), self.now_ms().into()]);
        sql::SEE.with(values)
    }

    /// Tries until there is something or `wait` is over.
    async fn wait_for<T, F>(
        &self,
        wait: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<Option<T>, Error>>,
    {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let found = attempt().await?;
            let now = tokio::time::Instant::now();
            if found.is_some() || now >= end {
                return Ok(found);
            }
            let _ = tokio::time::timeout_at(end.min(now + LOOK_EVERY), appended).await;
        }
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        if entries.is_empty() {
            return Vec::new();
        }
        match self.try_append(entries).await {
            Ok(ids) => ids.into_iter().map(Ok).collect(),
            // One transaction: all or none.
            Err(error) => {
                let again = |_: &Append| Err(error.again());
                entries.iter().map(again).collect()
            }
        }
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        let make = |(_, stream): (Lane, &StreamName)| {
            [
                sql::MAKE_STREAM.with(vec![text(stream)]),
                sql::MAKE_GROUP.with(group_key(stream, sub)),
            ]
        };
        self.db
            .run(sub.lanes.iter().flat_map(make).collect())
            .await?;
        Ok(())
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        let smallest = quotas.iter().map(|quota| quota.max).min().unwrap_or(1);
        let read = || async {
            let mut entries = Vec::new();
            for quota in quotas {
                let limit = if wait.time().is_zero() {
                    quota.max
                } else {
                    smallest
                };
                entries.extend(self.read_lane(sub, *quota, limit).await?);
            }
            Ok((!entries.is_empty()).then_some(entries))
        };
        Ok(self.wait_for(wait.time(), read).await?.unwrap_or_default())
    }

    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        self.take_over(sub, lane, cursor, scope, max).await
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        self.beat(sub, held).await
    }

    async fn settle(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        self.settle_all(sub, settlements).await
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        let retries = self.promote_retries(sub, max).await?;
        let left = max.saturating_sub(retries);
        Ok(retries + self.promote_scheduled(&sub.lanes, left).await?)
    }

    async fn tail(
        &self,
        stream: &StreamName,
        after: Option<EntryId>,
        max: usize,
        wait: Duration,
    ) -> Result<Tail, Error> {
        let after = match after {
            Some(after) => after,
            None => id(first(
                &self.db.query(sql::LAST.with(vec![text(stream)])).await?,
                0,
            )?),
        };
        let look = || async {
            let entries = self.range(stream, after.next(), max).await?;
            Ok((!entries.is_empty()).then_some(entries))
        };
        let entries = self.wait_for(wait, look).await?.unwrap_or_default();
        let next = entries.last().map_or(after, |entry| entry.id);
        Ok(Tail { entries, next })
    }
}

impl SqliteLog {
    async fn range(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        let values = vec![text(stream), key(from).into(), max.into()];
        let rows = self.db.query(sql::RANGE.with(values)).await?;
        rows.iter()
            .map(|row| entry(stream, Lane::Normal, row.get(0)?, 0, row.get(1)?))
            .collect()
    }
}

/// A cut walks over all that is kept, so a long stream is cut once in a while: it may be longer
/// than it is told by a hundredth.
fn is_cut_due(number: u64, max_len: u64) -> bool {
    number.is_multiple_of((max_len / 100).clamp(1, 1000))
}

fn text(stream: &StreamName) -> Value {
    stream.as_str().into()
}

/// Stream and group, which many statements begin with.
fn group_key(stream: &StreamName, sub: &Subscription) -> Vec<Value> {
    vec![text(stream), sub.group.as_str().into()]
}

fn first<T: ratebox_db::FromValue>(rows: &[Row], otherwise: T) -> Result<T, Error> {
    Ok(rows.first().map_or(Ok(otherwise), |row| row.get(0))?)
}

fn entry(
    stream: &StreamName,
    lane: Lane,
    key: i64,
    deliveries: u32,
    fields: Bytes,
) -> Result<Entry, Error> {
    Ok(Entry {
        stream: stream.clone(),
        lane,
        id: id(key),
        deliveries,
        fields: decode(fields)?,
    })
}

impl From<ratebox_db::Error> for Error {
    fn from(error: ratebox_db::Error) -> Self {
        match error {
            ratebox_db::Error::Full { .. } => Self::Full(error.into()),
            ratebox_db::Error::Timeout { .. } => Self::Timeout(error.into()),
            _ if error.is_retryable() => Self::Connection(error.into()),
            _ => Self::Refused {
                what: "the file's database".to_owned(),
                source: Some(error.into()),
            },
        }
    }
}
