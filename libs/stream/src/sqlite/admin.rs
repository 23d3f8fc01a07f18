//! The operator's side of the embedded log.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Row, Tx};

use super::codec::{id, key};
use super::{SqliteLog, first, group_key, sql, text};
use crate::{
    Admin, ConsumerInfo, ConsumerName, Delayed, Entry, EntryId, Error, FLOOR_SCAN_MAX, GroupInfo,
    GroupName, LaneFloor, Retention, StreamInfo, StreamName, Subscription, Trimmed,
};

#[async_trait]
impl Admin for SqliteLog {
    async fn info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, Error> {
        let rows = self
            .db
            .query(sql::STREAM_INFO.with(vec![text(stream)]))
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let consumers = self
            .db
            .query(sql::CONSUMERS_INFO.with(vec![text(stream)]))
            .await?;
        let groups = self
            .db
            .query(sql::GROUPS_INFO.with(vec![text(stream)]))
            .await?;
        let groups = groups.iter().map(|row| self.group_info(row, &consumers));
        Ok(Some(StreamInfo {
            last: id(row.get(0)?),
            appended: row.get(1)?,
            length: row.get(2)?,
            first: row.get::<Option<i64>>(3)?.map(id),
            groups: groups.collect::<Result<_, _>>()?,
        }))
    }

    async fn floor(&self, sub: &Subscription) -> Result<Vec<LaneFloor>, Error> {
        let mut floors = Vec::new();
        for (lane, stream) in sub.lanes.iter() {
            // First the schedule and the rooms: what leaves them afterwards is on its lane when the
            // floor is read.
            let is_scheduled = self.has_scheduled(&sub.lanes, lane).await?;
            let waiting = self.db.query(sql::TURNS.with(vec![text(stream)])).await?;
            let is_crowded = !waiting.is_empty();
            let owed = self.db.query(sql::OWED.with(vec![text(stream)])).await?;
            let mut owed = owed_by(&owed)?.into_iter();
            let owed = owed.find(|(group, _)| *group == sub.group);
            let values = vec![
                text(sub.lanes.delayed()),
                text(stream),
                sub.group.as_str().into(),
            ];
            let rows = self.db.query(sql::DELAYED_FIRST.with(values)).await?;
            let waiting: u64 = first(&rows, 0)?;
            let delayed = rows
                .first()
                .map_or(Ok(None), |row| row.get::<Option<i64>>(1))?;
            let exact = owed
                .map(|(_, id)| id)
                .into_iter()
                .chain(delayed.map(id))
                .min();
            let too_many = usize::try_from(waiting).is_ok_and(|count| count > FLOOR_SCAN_MAX);
            let owed_from = if too_many || is_crowded || is_scheduled {
                Some(EntryId::MIN)
            } else {
                exact
            };
            floors.push(LaneFloor {
                lane,
                stream: stream.clone(),
                owed_from,
            });
        }
        Ok(floors)
    }

    /// One transaction: between the look at what is owed and the removal, a new group could come
    /// to owe what goes.
    async fn trim_but(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<Trimmed, Error> {
        let mut tx = self.db.begin().await?;
        let Some(wanted) = self.wanted_floor(&mut tx, stream, retention).await? else {
            tx.rollback().await?;
            return Ok(Trimmed::default());
        };
        let owed = tx.query(sql::OWED.with(vec![text(stream)])).await?;
        let waited_for = owed_by(&owed)?.into_iter();
        let waited_for = waited_for.filter(|(group, _)| !ignored.contains(group));
        let holder = waited_for.min_by_key(|(_, id)| *id);
        let (below, held_by) = match holder {
            Some((group, owed_from)) if key(owed_from) < wanted => (key(owed_from), Some(group)),
            _ => (wanted, None),
        };
        let removed = tx
            .execute(sql::TRIM.with(vec![text(stream), below.into()]))
            .await?;
        // The group holds entries only where there are some between its floor and what is wanted.
        let rest = vec![text(stream), wanted.into()];
        let holds = first(&tx.query(sql::HAS_BELOW.with(rest)).await?, false)?;
        tx.commit().await?;
        let held_by = held_by.filter(|_| holds);
        Ok(Trimmed { removed, held_by })
    }

    async fn bytes(&self, stream: &StreamName) -> Result<u64, Error> {
        let rows = self.db.query(sql::BYTES.with(vec![text(stream)])).await?;
        Ok(first(&rows, 0)?)
    }

    async fn make_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: EntryId,
    ) -> Result<bool, Error> {
        let after = key(from.before());
        let values = vec![text(stream), group.as_str().into(), after.into()];
        let statements = vec![
            sql::MAKE_STREAM.with(vec![text(stream)]),
            sql::MAKE_GROUP_AT.with(values),
        ];
        let (counts, _) = self.db.run(statements).await?;
        Ok(counts.last().is_some_and(|made| *made > 0))
    }

    async fn peek(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.range(stream, from, max).await
    }

    async fn delayed(&self, sub: &Subscription) -> Result<Delayed, Error> {
        let values = vec![text(sub.lanes.delayed())];
        let rows = self.db.query(sql::DELAYED_COUNT.with(values)).await?;
        let next_ms = rows
            .first()
            .map_or(Ok(None), |row| row.get::<Option<i64>>(1))?;
        let in_ms = |due_ms: i64| u64::try_from(due_ms - self.now_ms()).unwrap_or(0);
        Ok(Delayed {
            count: first(&rows, 0)?,
            next_in: next_ms.map(|due_ms| Duration::from_millis(in_ms(due_ms))),
        })
    }

    async fn remove_dead_consumers(
        &self,
        sub: &Subscription,
        idle: Duration,
    ) -> Result<Vec<ConsumerName>, Error> {
        let since = self.now_ms() - i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
        let mut tx = self.db.begin().await?;
        let mut removed: Vec<ConsumerName> = Vec::new();
        for (_, stream) in sub.lanes.iter() {
            let mut values = group_key(stream, sub);
            values.extend([sub.consumer.as_str().into(), since.into()]);
            for row in tx.query(sql::REMOVE_DEAD.with(values)).await? {
                let name = ConsumerName::new(row.get::<String>(0)?);
                if !removed.contains(&name) {
                    removed.push(name);
                }
            }
        }
        tx.commit().await?;
        Ok(removed)
    }

    async fn loss_window(&self) -> Result<Option<Duration>, Error> {
        // The database below commits with synchronous=FULL.
        Ok(Some(Duration::ZERO))
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(self.db.ping().await?)
    }
}

impl SqliteLog {
    /// Below which id the retention wants nothing; `None` when it keeps everything.
    async fn wanted_floor(
        &self,
        tx: &mut Tx,
        stream: &StreamName,
        retention: Retention,
    ) -> Result<Option<i64>, Error> {
        let by_age = retention.max_age.map(|age| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let ms = self.now_ms().saturating_sub(age_ms).max(0);
            key(EntryId::new(u64::try_from(ms).unwrap_or(0), 0))
        });
        let by_length = match retention.max_len {
            Some(max) => {
                let values = vec![text(stream), max.into()];
                let rows = tx.query(sql::NTH_NEWEST.with(values)).await?;
                first::<Option<i64>>(&rows, None)?.map(|newest_beyond| newest_beyond + 1)
            }
            None => None,
        };
        Ok(by_age.into_iter().chain(by_length).max())
    }

    fn group_info(&self, row: &Row, consumers: &[Row]) -> Result<GroupInfo, Error> {
        let name: String = row.get(0)?;
        let mut members = Vec::new();
        for consumer in consumers {
            if consumer.get::<String>(0)? == name {
                let idle_ms = self.now_ms() - consumer.get::<i64>(2)?;
                members.push(ConsumerInfo {
                    name: ConsumerName::new(consumer.get::<String>(1)?),
                    pending: consumer.get(3)?,
                    idle: Duration::from_millis(u64::try_from(idle_ms).unwrap_or(0)),
                });
            }
        }
        Ok(GroupInfo {
            name: GroupName::new(&name),
            last_delivered: id(row.get(1)?),
            pending: row.get(2)?,
            oldest_pending: row.get::<Option<i64>>(3)?.map(id),
            lag: Some(row.get(4)?),
            consumers: members,
        })
    }
}

/// The oldest entry that each group still needs; groups that need none are left out.
fn owed_by(rows: &[Row]) -> Result<Vec<(GroupName, EntryId)>, Error> {
    let mut owed = Vec::new();
    for row in rows {
        let from: i64 = row.get(1)?;
        if from < i64::MAX {
            owed.push((GroupName::new(row.get::<String>(0)?), id(from)));
        }
    }
    Ok(owed)
}
