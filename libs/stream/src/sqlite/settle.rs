//! Leases and outcomes: what happens to delivered entries.

use std::time::Duration;

use bytes::Bytes;
use ratebox_db::{Column, Row, Statement, Tx};

use super::codec::{encode, id, key};
use super::{SqliteLog, entry, first, group_key, sql, text};
use crate::entry::fields_to_append;
use crate::policy::FIELDS_MAX;
use crate::retry::{retry_fields, snooze_fields};
use crate::{
    ClaimScope, Claimed, Entry, EntryId, Error, FieldName, Lane, Settlement, StreamName,
    Subscription,
};

impl SqliteLog {
    pub(super) async fn take_over(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        let stream = sub.lanes.stream(lane);
        let mut tx = self.db.begin().await?;
        self.group(&mut tx, stream, sub).await?;
        let (rows, next) = match scope {
            ClaimScope::Idle(idle) => {
                let since = self.now_ms() - i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
                let mut values = group_key(stream, sub);
                values.extend([key(cursor).into(), since.into(), (max + 1).into()]);
                let mut rows = tx.query(sql::IDLE.with(values)).await?;
                let next = rows.get(max).map_or(Ok(0), |row| row.get(0))?;
                rows.truncate(max);
                (rows, id(next))
            }
            ClaimScope::Own { .. } | ClaimScope::These(_) => {
                let mut values = group_key(stream, sub);
                values.push(sub.consumer.as_str().into());
                let mut rows = tx.query(sql::OWN.with(values)).await?;
                let wanted = |it: EntryId| match scope {
                    ClaimScope::These(ids) => ids.contains(&it),
                    ClaimScope::Own { except } => !except.contains(&it),
                    ClaimScope::Idle(_) => false,
                };
                rows.retain(|row| row.get(0).is_ok_and(|it| wanted(id(it))));
                rows.truncate(max);
                (rows, EntryId::MIN)
            }
        };
        if rows.is_empty() {
            tx.rollback().await?;
            return Ok(Claimed {
                next,
                ..Claimed::default()
            });
        }
        let counts = matches!(scope, ClaimScope::Idle(_));
        let claimed = self.own(tx, sub, lane, rows, counts).await?;
        Ok(Claimed { next, ..claimed })
    }

    /// Makes rows this consumer's; those without data stay pending until they are acknowledged.
    async fn own(
        &self,
        tx: Tx,
        sub: &Subscription,
        lane: Lane,
        rows: Vec<Row>,
        counts: bool,
    ) -> Result<Claimed, Error> {
        let stream = sub.lanes.stream(lane);
        let mut claimed = Claimed::default();
        let mut taken = Vec::new();
        for row in &rows {
            let key: i64 = row.get(0)?;
            match row.get::<Option<Bytes>>(2)? {
                Some(fields) => {
                    let deliveries = row.get::<u32>(1)? + u32::from(counts);
                    claimed
                        .entries
                        .push(entry(stream, lane, key, deliveries, fields)?);
                    taken.push(key);
                }
                None => claimed.vanished.push(id(key)),
            }
        }
        let mut take = group_key(stream, sub);
        take.extend([
            sub.consumer.as_str().into(),
            self.now_ms().into(),
            i64::from(counts).into(),
        ]);
        tx.commit_after(vec![
            sql::TAKE_OVER.rows(vec![Column::Int(taken)], take)?,
            self.see(stream, sub),
        ])
        .await?;
        Ok(claimed)
    }

    pub(super) async fn beat(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        let mut tx = self.db.begin().await?;
        let mut lost = Vec::new();
        for (lane, stream) in sub.lanes.iter() {
            let ids = held
                .iter()
                .filter(|(one, _)| *one == lane)
                .map(|(_, id)| key(*id));
            let ids: Vec<i64> = ids.collect();
            let mut values = group_key(stream, sub);
            values.extend([sub.consumer.as_str().into(), self.now_ms().into()]);
            let touch = sql::TOUCH.rows(vec![Column::Int(ids.clone())], values)?;
            let ours: Vec<i64> = tx
                .query(touch)
                .await?
                .iter()
                .map(|row| row.get(0))
                .collect::<Result<_, _>>()?;
            for missing in ids.into_iter().filter(|it| !ours.contains(it)) {
                // One that is nowhere any more is not lost to others: its holder has the last copy.
                if !self.is_gone(&mut tx, stream, sub, missing).await? {
                    lost.push((lane, id(missing)));
                }
            }
        }
        tx.commit().await?;
        Ok(lost)
    }

    pub(super) async fn settle_all(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        for settlement in settlements {
            if let Settlement::Delay { entry, .. } | Settlement::Snooze { entry, .. } = settlement
                && entry.fields.len() > FIELDS_MAX
            {
                return Err(Error::TooManyFields {
                    fields: entry.fields.len(),
                    max: FIELDS_MAX,
                });
            }
        }
        let mut tx = self.db.begin().await?;
        for settlement in settlements {
            match settlement {
                Settlement::Ack { .. } => {}
                Settlement::Delay {
                    entry,
                    wait,
                    failed_at,
                } => {
                    let copy = retry_fields(entry, &sub.group, *failed_at);
                    self.delay(&mut tx, sub, entry, *wait, &copy).await?;
                }
                Settlement::Snooze { entry, wait } => {
                    let copy = snooze_fields(entry, &sub.group);
                    self.delay(&mut tx, sub, entry, *wait, &copy).await?;
                }
                Settlement::Bury { entry, view } => {
                    if self.take_own(&mut tx, sub, entry).await?
                        && let Some(view) = view
                    {
                        let streams = vec![view.stream.to_string()];
                        let fields = vec![encode(fields_to_append(view))];
                        self.push(&mut tx, streams, fields).await?;
                    }
                }
                Settlement::Release {
                    lane,
                    id,
                    deliveries,
                    to: _,
                } => {
                    let mut values = vec![key(*id).into()];
                    values.extend(group_key(sub.lanes.stream(*lane), sub));
                    values.push(sub.consumer.as_str().into());
                    values.push(deliveries.saturating_sub(1).into());
                    tx.execute(sql::RELEASE.with(values)).await?;
                }
            }
        }
        tx.commit_after(acks(sub, settlements)?).await?;
        Ok(())
    }

    async fn delay(
        &self,
        tx: &mut Tx,
        sub: &Subscription,
        entry: &Entry,
        wait: Duration,
        copy: &[(FieldName, Bytes)],
    ) -> Result<(), Error> {
        let stream = sub.lanes.stream(entry.lane);
        let ours = self.take_own(tx, sub, entry).await?
            || self.is_gone(tx, stream, sub, key(entry.id)).await?;
        if !ours {
            return Ok(());
        }
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let fields = encode(copy.iter().map(|(name, value)| (name.as_str(), &value[..])));
        let values = vec![
            text(sub.lanes.delayed()),
            self.now_ms().saturating_add(wait_ms).into(),
            text(stream),
            sub.group.as_str().into(),
            key(entry.first_entry()).into(),
            fields.into(),
        ];
        tx.execute(sql::DELAY.with(values)).await?;
        Ok(())
    }

    async fn take_own(
        &self,
        tx: &mut Tx,
        sub: &Subscription,
        entry: &Entry,
    ) -> Result<bool, Error> {
        let mut values = vec![key(entry.id).into()];
        values.extend(group_key(sub.lanes.stream(entry.lane), sub));
        values.push(sub.consumer.as_str().into());
        Ok(tx.execute(sql::TAKE_OWN.with(values)).await? > 0)
    }

    async fn is_gone(
        &self,
        tx: &mut Tx,
        stream: &StreamName,
        sub: &Subscription,
        key: i64,
    ) -> Result<bool, Error> {
        let mut values = vec![key.into()];
        values.extend(group_key(stream, sub));
        first(&tx.query(sql::IS_GONE.with(values)).await?, false)
    }
}

/// Acknowledgements, one statement a lane.
fn acks(sub: &Subscription, settlements: &[Settlement<'_>]) -> Result<Vec<Statement>, Error> {
    let mut statements = Vec::new();
    for (lane, stream) in sub.lanes.iter() {
        let acked = settlements
            .iter()
            .filter_map(|settlement| match settlement {
                Settlement::Ack { lane: one, id } if *one == lane => Some(key(*id)),
                Settlement::Ack { .. }
                | Settlement::Delay { .. }
                | Settlement::Snooze { .. }
                | Settlement::Bury { .. }
                | Settlement::Release { .. } => None,
            });
        let ids: Vec<i64> = acked.collect();
        if !ids.is_empty() {
            statements.push(sql::ACK.rows(vec![Column::Int(ids)], group_key(stream, sub))?);
        }
    }
    Ok(statements)
}
