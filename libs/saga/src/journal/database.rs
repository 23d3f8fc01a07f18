//! Sagas in PostgreSQL or SQLite.
//!
//! A batch is one statement on PostgreSQL and one command to the writer on SQLite. What is written
//! under a membership is conditional on it in the same transaction; see `sql.rs` for how.

pub(crate) mod postgres;
pub(crate) mod predecessor;
pub(crate) mod schema;
pub(crate) mod sql;

mod bell;
mod code;
mod columns;
mod entry;
mod sqlite;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Column, Committed, Db, Dialect, Row, Sql, Tx};
use ratebox_kit::{FollowUps, Timestamp};
use uuid::Uuid;

use self::bell::Bell;
use self::columns::Batch;
use self::entry::Outbox;
use super::store::{
    Adopted, Count, Entry, Filter, Head, Letter, Owner, Posted, Store, Stored, Wake, Written,
    WrittenIn,
};
use crate::{Error, Outline, Result, SagaId, Status};

/// Keeps sagas in a database, in the tables of this crate's migrations. As safe as the database:
/// what was reported as kept survives a power cut. Cheap to clone.
#[derive(Clone)]
pub struct SqlStore {
    db: Db,
    outbox: Option<Outbox>,
    bell: Arc<Bell>,
}

/// What became of a batch as a whole.
enum Outcome {
    /// All of it is on disk.
    Kept,
    /// The process was fenced; nothing was written.
    Fenced,
    /// All of it but some starts, whose id or key exists.
    SomeExist,
    /// Something was there already, or is not the writer's. Entry by entry tells what.
    Unclear,
}

// === impl SqlStore ===

impl SqlStore {
    /// Over this database, which has the tables.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            outbox: None,
            bell: Arc::default(),
        }
    }

    /// With an outbox for the messages that steps send to others.
    #[must_use]
    pub fn with_outbox(self, outbox: impl FollowUps<Tx, Committed> + 'static) -> Self {
        let outbox: Option<Outbox> = Some(Arc::new(outbox));
        Self { outbox, ..self }
    }

    /// Reads once under a membership: the first row says that it is in order.
    async fn as_owner(&self, sql: Sql, values: Vec<ratebox_db::Value>) -> Result<Vec<Row>> {
        let rows = self.db.query(sql.with(values)).await?;
        if rows.is_empty() {
            return Err(Error::Fenced);
        }
        Ok(rows)
    }

    /// The short way for the entries that can go it, if the batch can.
    async fn write_batch(&self, owner: Owner, batch: Batch) -> Result<Outcome> {
        match self.db.dialect() {
            Dialect::Postgres => postgres::write(&self.db, owner, batch).await,
            Dialect::Sqlite => sqlite::write(&self.db, owner, batch).await,
        }
    }

    /// One answer an entry of a batch that is written but for starts whose id or key exists:
    /// one question for all of them. `None` when one is nowhere: it was deleted meanwhile, or the
    /// process was fenced.
    async fn which_exist(&self, batch: &[&Entry]) -> Result<Option<Vec<Written>>> {
        let rows = self.db.query(columns::owners_of_keys(batch)?).await?;
        let mut found: HashMap<SagaId, SagaId> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let (asked, there) = (code::id(row, 0)?, code::id(row, 1)?);
            // Its own id says that it is kept, whoever has the key.
            if asked == there || !found.contains_key(&asked) {
                found.insert(asked, there);
            }
        }
        let answer = |entry: &&Entry| match entry {
            Entry::Append(_) => Some(Written::Kept),
            Entry::Start(new) => found.get(&new.id).map(|there| match *there == new.id {
                true => Written::Kept,
                false => Written::Exists(*there),
            }),
        };
        Ok(batch.iter().map(answer).collect())
    }

    /// One saga with its letters, by a statement that says whether it may be.
    async fn make_own(&self, sql: Sql, owner: Owner, saga: SagaId) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        entry::confirm(&mut tx, owner).await?;
        tx.query(sql::HOLD.with(vec![saga.0.into()])).await?;
        let take = sql.with(vec![owner.epoch.into(), saga.0.into()]);
        let is_mine = !tx.query(take).await?.is_empty();
        if is_mine {
            let letters = vec![Column::Uuid(vec![saga.0])];
            tx.execute(sql::RENEW_LETTERS.rows(letters, Vec::new())?)
                .await?;
        }
        tx.commit().await?;
        Ok(is_mine)
    }

    async fn take(&self, owner: Owner, limit: usize) -> Result<Adopted> {
        let mut tx = self.db.begin().await?;
        entry::confirm(&mut tx, owner).await?;
        tx.execute(sql::FENCE.with(vec![owner.epoch.into()]))
            .await?;
        let take = sql::TAKE.with(vec![owner.epoch.into(), limit.into()]);
        let rows = tx.query(take).await?;
        let (mut live, mut all) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in &rows {
            let id = code::id(row, 0)?;
            all.push(id.0);
            if code::read_wake(row.get(1)?)? == Wake::Live {
                live.push(id);
            }
        }
        tx.execute(sql::TAKE_BACK).await?;
        let room = limit.saturating_sub(rows.len());
        let told = sql::TAKE_TOLD.with(vec![owner.epoch.into(), room.into()]);
        let told = tx.query(told).await?;
        let ids = told.iter().map(|row| code::id(row, 0));
        live.extend(ids.collect::<Result<Vec<_>>>()?);
        let mut rest = Vec::new();
        if tx.dialect() == Dialect::Sqlite {
            rest.push(sql::RENEW_LETTERS.rows(vec![Column::Uuid(all)], Vec::new())?);
        }
        if rows.len() < limit {
            rest.push(sql::FORGET.into());
        }
        tx.commit_after(rest).await?;
        let sagas = rows.len() + told.len();
        Ok(Adopted {
            live,
            sagas,
            more: sagas >= limit,
        })
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn join(&self, process: &str, lease: Duration) -> Result<Owner> {
        let mut tx = self.db.begin().await?;
        let join = sql::JOIN.with(vec![process.into(), millis(lease).into()]);
        let rows = tx.query(join).await?;
        tx.commit().await?;
        let epoch = code::first(&rows)?.ok_or(ratebox_db::Error::Shape)?;
        Ok(Owner { epoch })
    }

    async fn renew(&self, owner: Owner, lease: Duration) -> Result<()> {
        let renew = sql::RENEW.with(vec![owner.epoch.into(), millis(lease).into()]);
        match self.db.execute(renew).await? {
            0 => Err(Error::Fenced),
            _ => Ok(()),
        }
    }

    async fn leave(&self, owner: Owner) -> Result<()> {
        let leave = sql::LEAVE.with(vec![owner.epoch.into()]);
        self.db.execute(leave).await?;
        Ok(())
    }

    async fn write(&self, owner: Owner, batch: &[&Entry]) -> Result<Vec<Written>> {
        if let Some(plain) = plain(batch)? {
            match self.write_batch(owner, plain).await? {
                Outcome::Kept => return Ok(vec![Written::Kept; batch.len()]),
                Outcome::Fenced => return Err(Error::Fenced),
                Outcome::SomeExist => {
                    self.as_owner(sql::CONFIRM_ONLY, vec![owner.epoch.into()])
                        .await?;
                    if let Some(answers) = self.which_exist(batch).await? {
                        return Ok(answers);
                    }
                }
                Outcome::Unclear => {}
            }
        }
        entry::write_all(&self.db, self.outbox.as_ref(), owner, batch).await
    }

    async fn adopt(&self, owner: Owner, limit: usize) -> Result<Adopted> {
        let look = sql::LOOK.with(vec![owner.epoch.into()]);
        let rows = self.db.query(look).await?;
        let row = rows.first().ok_or(ratebox_db::Error::Shape)?;
        if row.get::<u64>(0)? == 0 {
            return Err(Error::Fenced);
        }
        if !row.get::<bool>(1)? {
            return Ok(Adopted::default());
        }
        self.take(owner, limit).await
    }

    async fn claim(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        self.make_own(sql::CLAIM, owner, saga).await
    }

    async fn take_parked(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        self.make_own(sql::TAKE_PARKED, owner, saga).await
    }

    async fn due(&self, owner: Owner, until: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        let values = vec![
            owner.epoch.into(),
            code::wake(Wake::At(until)).into(),
            limit.into(),
        ];
        let rows = self.as_owner(sql::DUE, values).await?;
        let ids = rows.iter().map(|row| row.get::<Option<Uuid>>(0));
        let ids = ids.filter_map(|id| id.transpose());
        Ok(ids.map(|id| id.map(SagaId)).collect::<Result<_, _>>()?)
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Stored>> {
        let ids: Vec<Uuid> = sagas.iter().map(|it| it.0).collect();
        let ask = |sql: Sql| sql.rows(vec![Column::Uuid(ids.clone())], Vec::new());
        // Letters first: whoever answers one deletes it together with writing the answer, and a
        // letter that is seen twice does less harm than one that is seen neither way.
        let letters = self.db.query(ask(sql::LETTERS)?).await?;
        let heads = self.db.query(ask(sql::LOAD)?).await?;
        let records = self.db.query(ask(sql::RECORDS)?).await?;
        let mut stored = HashMap::with_capacity(heads.len());
        for row in &heads {
            let head = code::head(row)?;
            let (records, letters) = (Vec::new(), Vec::new());
            stored.insert(
                head.id,
                Stored {
                    head,
                    records,
                    letters,
                },
            );
        }
        for row in &records {
            if let Some(it) = stored.get_mut(&code::id(row, 0)?) {
                it.records.push(code::record(row)?);
            }
        }
        for row in &letters {
            if let Some(it) = stored.get_mut(&code::id(row, 1)?) {
                it.letters.push(code::letter(row)?);
            }
        }
        Ok(stored.into_values().collect())
    }

    async fn post(&self, letter: &Letter) -> Result<Posted> {
        if self.db.execute(columns::post(letter)?).await? > 0 {
            return Ok(Posted::Kept);
        }
        let found = self.db.query(columns::addressee(letter)).await?;
        Ok(posted(&found))
    }

    async fn post_in(&self, tx: &mut Tx, letter: &Letter) -> Result<Posted> {
        if tx.execute(columns::post(letter)?).await? > 0 {
            return Ok(Posted::Kept);
        }
        let found = tx.query(columns::addressee(letter)).await?;
        Ok(posted(&found))
    }

    async fn ring(&self) {
        self.bell.ring(&self.db).await;
    }

    async fn rung(&self) {
        self.bell.heard(&self.db).await;
    }

    async fn describe(&self, outlines: &[Outline]) -> Result<()> {
        let one = |it: &Outline| {
            let text = serde_json::to_string(it).map_err(Error::Json)?;
            let values = vec![it.name().into(), it.hash().into(), text.into()];
            Ok(sql::DESCRIBE.with(values))
        };
        let statements = outlines.iter().map(one).collect::<Result<_>>()?;
        self.db.run(statements).await?;
        Ok(())
    }

    async fn outline(&self, name: &str, hash: &str) -> Result<Option<Outline>> {
        let outline = sql::OUTLINE.with(vec![name.into(), hash.into()]);
        let rows = self.db.query(outline).await?;
        rows.first().map(code::outline).transpose()
    }

    async fn outlines(&self, name: Option<&str>, limit: usize) -> Result<Vec<Outline>> {
        let outlines = sql::OUTLINES.with(vec![name.into(), limit.into()]);
        let rows = self.db.query(outlines).await?;
        rows.iter().map(code::outline).collect()
    }

    async fn mail(&self, owner: Owner, limit: usize) -> Result<Vec<Letter>> {
        let any = self
            .as_owner(sql::ANY_MAIL, vec![owner.epoch.into()])
            .await?;
        if code::first(&any)? != Some(true) {
            return Ok(Vec::new());
        }
        let mut tx = self.db.begin().await?;
        entry::confirm(&mut tx, owner).await?;
        let mail = sql::MAIL.with(vec![owner.epoch.into(), limit.into()]);
        let rows = tx.query(mail).await?;
        tx.commit().await?;
        let letters = rows.iter().map(code::letter);
        let mut letters = letters.collect::<Result<Vec<_>>>()?;
        letters.sort_by_key(|it| (it.at, it.id));
        Ok(letters)
    }

    async fn find(&self, definition: &str, key: &str) -> Result<Option<SagaId>> {
        let find = sql::FIND.with(vec![definition.into(), key.into()]);
        let rows = self.db.query(find).await?;
        Ok(code::first::<Uuid>(&rows)?.map(SagaId))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Head>> {
        let text = match filter {
            it if it.definition.is_some() && it.key.is_some() => sql::LIST_KEY,
            it if it.parent.is_some() => sql::LIST_CHILDREN,
            it if it.statuses == [Status::Parked] => sql::LIST_PARKED,
            it if fits_live_only(&it.statuses) => sql::LIST_LIVE,
            _ => sql::LIST,
        };
        let values = vec![
            filter.definition.clone().into(),
            words(&filter.statuses).into(),
            filter.key.clone().into(),
            filter.parent.map(|it| it.0).into(),
            filter.created_from.into(),
            filter.created_before.into(),
            filter.after.map_or(Uuid::nil(), |it| it.0).into(),
            filter.limit.into(),
        ];
        let rows = self.db.query(text.with(values)).await?;
        rows.iter().map(code::head).collect()
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        let rows = self.db.query(sql::COUNTS).await?;
        rows.iter().map(code::count).collect()
    }

    async fn parked(&self) -> Result<Vec<Count>> {
        let rows = self.db.query(sql::PARKED).await?;
        rows.iter().map(code::count).collect()
    }

    async fn ended(&self, before: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        let ended = sql::ENDED.with(vec![before.into(), limit.into()]);
        let rows = self.db.query(ended).await?;
        rows.iter().map(|row| code::id(row, 0)).collect()
    }

    async fn delete(&self, sagas: &[SagaId]) -> Result<u64> {
        let ids: Vec<Uuid> = sagas.iter().map(|it| it.0).collect();
        let mut tx = self.db.begin().await?;
        let hold = sql::HOLD_ENDED.rows(vec![Column::Uuid(ids)], Vec::new())?;
        let rows = tx.query(hold).await?;
        let ended = rows.iter().map(|row| row.get(0));
        let ended = ended.collect::<Result<Vec<Uuid>, _>>()?;
        let all = |sql: Sql| sql.rows(vec![Column::Uuid(ended.clone())], Vec::new());
        let statements = vec![
            all(sql::DELETE_RECORDS)?,
            all(sql::DELETE_LETTERS)?,
            all(sql::DELETE_SAGAS)?,
        ];
        let (counts, _) = tx.commit_after(statements).await?;
        Ok(counts.last().copied().unwrap_or(0))
    }

    fn database(&self) -> Option<&Db> {
        Some(&self.db)
    }

    fn has_outbox(&self) -> bool {
        self.outbox.is_some()
    }

    async fn write_in(
        &self,
        tx: &mut Tx,
        owner: Option<Owner>,
        entry: &Entry,
    ) -> Result<WrittenIn> {
        entry::write(tx, self.outbox.as_ref(), owner, entry).await
    }

    async fn ping(&self) -> Result<()> {
        Ok(self.db.ping().await?)
    }
}

/// The batch as columns, if it can go the short way: no saga twice, nothing that another statement
/// must see first, no messages to others.
fn plain(entries: &[&Entry]) -> Result<Option<Batch>> {
    let mut batch = Batch::default();
    let mut sagas = HashSet::with_capacity(entries.len());
    for entry in entries {
        let (saga, is_plain) = match entry {
            Entry::Start(new) => (new.id, new.records.is_empty()),
            Entry::Append(it) => {
                let says_something = !it.records.is_empty() || it.head.is_some();
                (it.saga, says_something && it.follow_ups.is_empty())
            }
        };
        if !is_plain || !sagas.insert(saga) {
            return Ok(None);
        }
        match entry {
            Entry::Start(new) => batch.start(new)?,
            Entry::Append(it) => batch.append(it)?,
        }
    }
    Ok(Some(batch))
}

/// A letter that was not inserted: it was before, or there is no such saga.
fn posted(addressee: &[Row]) -> Posted {
    if addressee.is_empty() {
        Posted::NoSuchSaga
    } else {
        Posted::Kept
    }
}

fn fits_live_only(statuses: &[Status]) -> bool {
    !statuses.is_empty() && statuses.iter().all(|it| !it.is_end())
}

/// The statuses between commas; `None` for all.
fn words(statuses: &[Status]) -> Option<String> {
    if statuses.is_empty() {
        return None;
    }
    let words = statuses.iter().map(|it| format!("{it},"));
    Some(std::iter::once(",".to_owned()).chain(words).collect())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
