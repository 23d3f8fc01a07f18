//! Takes over the predecessor's tables: items with `validation_state`, their errors, and the
//! consumers' figures. They are copied in pages, which may be repeated: what is there stays.
//!
//! Nobody polls a table here, so an item that waits for its verdict would wait for ever: it becomes
//! a request of one item, which no stream carries yet, and the relay publishes it as it does all
//! that vanished from the bus. From then on the verdict is ours, whatever the predecessor makes of
//! the item. (One whose JSON no worker takes is copied as it is.)
//!
//! An item's id is made from its old one: the month of its creation, so that it lands in the right
//! partition, and a hash, so that a second run makes the same. The old tables are only read,
//! through views that hide what varies between their versions; no view outlives the run.
//!
//! PostgreSQL only: the predecessor knew nothing else. The statements need the views, so they are
//! not in the list of statements that tests prepare.

mod views;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use jiff::civil::Date;
use ratebox_db::{Column, Dialect, Row, Sql, Statement, Turn};
use ratebox_intake::{Confidence, Item, Lane, Normalized, Request, Rules, SOURCE_CHARS_MAX};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::partitions::month_of;
use crate::requests::{INSERT_MISSING, inserted};
use crate::{Error, NewRequest, Result, Store};

/// Where the predecessor's tables are, if nobody says otherwise.
pub const PREDECESSOR_SCHEMA: &str = "public";

/// Items copied in one transaction.
const PAGE: usize = 2_000;

/// Before this nobody made items; times below it are mistakes and get no partition.
const FIRST_MONTH: Date = jiff::civil::date(2000, 1, 1);

/// The number of their turn: adoptions go one after another, as their views have the same names.
const ADOPTION: i64 = 7_261_746_566;

/// How often somebody who waits for that turn asks for it.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What is taken over, for whom.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The schema of the predecessor's tables.
    pub schema: String,
    /// The owner that the items get.
    pub owner: String,
    /// Rules that make the look-up values. They change no verdict; what has none is judged by
    /// their profile.
    pub rules: Rules,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Items done in this pass: first all are copied, then all are compared.
    pub done: u64,
    /// Items in all.
    pub total: u64,
    /// Whether this is the second pass.
    pub comparing: bool,
}

/// What the comparison found of one kind of row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which rows.
    pub what: &'static str,
    /// In the predecessor's tables.
    pub there: u64,
    /// Of these, in ours.
    pub here: u64,
}

const MONTHS: Sql = Sql::both(
    "SELECT date_trunc('month', created_at, 'UTC'), count(*) FROM adopt_items GROUP BY 1",
);

const ITEMS: Sql = Sql::both(
    "SELECT old_id, id, status, payload::text, source FROM adopt_items
     WHERE old_id > $1 ORDER BY old_id LIMIT $2",
);

const HANDED_OVER: Sql = Sql::both("SELECT id FROM validation_requests WHERE id = ANY($1::uuid[])");

/// Earlier releases copied what waited then; it is handed over now, or has its verdict by now.
const UNCOPY: Sql =
    Sql::both("DELETE FROM raw_items WHERE id = ANY($1::uuid[]) AND status = 'pending'");

const COPY_ITEMS: Sql = Sql::both(
    "INSERT INTO raw_items (id, request_id, item_no, payload, source, status, result, error,
        phone, bank_account, email, profile, ruleset, confidence, owner, stream_id,
        consumer_group, consumer_name, retry_count, processing_started_at,
        processing_completed_at, created_at, updated_at)
     SELECT o.id, o.id, 0, o.payload, o.source, o.status,
        CASE o.status WHEN 'success' THEN '{\"verdict\":\"DONE\"}'::jsonb
            WHEN 'error' THEN '{\"verdict\":\"ERROR\"}'::jsonb END,
        coalesce(
            (SELECT jsonb_agg(jsonb_build_object('code', e.error_code, 'field', e.field,
                'message', e.message) ORDER BY e.occurred_at, e.error_id)
             FROM adopt_errors e WHERE e.old_id = o.old_id),
            CASE WHEN o.last_error IS NOT NULL THEN jsonb_build_array(jsonb_build_object(
                'code', 910, 'field', 'system', 'message', o.last_error)) END),
        k.phone, k.bank_account, k.email, 'classic', 'predecessor', k.confidence, $6::text,
        o.stream_id, o.consumer_group, o.consumer_name, o.retry_count, o.started_at,
        o.completed_at, o.created_at, o.updated_at
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::real[])
        AS k (old_id, phone, bank_account, email, confidence)
     JOIN adopt_items o ON o.old_id = k.old_id
     ON CONFLICT (id) DO NOTHING",
);

const COPY_ERRORS: Sql = Sql::both(
    "INSERT INTO raw_item_errors (item_id, error_no, error_code, field, message, occurred_at)
     SELECT o.id, row_number() OVER (PARTITION BY o.id ORDER BY e.occurred_at, e.error_id) - 1,
        e.error_code, e.field, e.message, coalesce(e.occurred_at, o.created_at)
     FROM unnest($1::uuid[]) AS k (old_id)
     JOIN adopt_items o ON o.old_id = k.old_id
     JOIN adopt_errors e ON e.old_id = k.old_id
     ON CONFLICT (item_id, error_no) DO NOTHING",
);

const COPY_CONSUMERS: Sql = Sql::both(
    "INSERT INTO stream_consumer_stats (consumer_group, consumer_name, stream_name,
        messages_processed, messages_with_errors, last_message_id, last_processed_at,
        created_at, updated_at)
     SELECT * FROM adopt_consumers
     ON CONFLICT (consumer_group, consumer_name, stream_name, slot) DO NOTHING",
);

const ITEMS_HERE: Sql = Sql::both(
    "SELECT k.status, count(n.id) FROM unnest($1::uuid[], $2::text[]) AS k (id, status)
     LEFT JOIN raw_items n ON n.id = k.id AND n.status = k.status GROUP BY k.status",
);

const ERRORS_BOTH: Sql = Sql::both(
    "SELECT (SELECT count(*) FROM unnest($1::uuid[]) AS k (old_id)
            JOIN adopt_errors e ON e.old_id = k.old_id),
        (SELECT count(*) FROM unnest($2::uuid[]) AS k (id)
            JOIN raw_item_errors n ON n.item_id = k.id)",
);

const CONSUMERS_BOTH: Sql = Sql::both(
    "SELECT count(*), count(n.consumer_group) FROM adopt_consumers o
     LEFT JOIN v_consumer_performance n USING (consumer_group, consumer_name, stream_name)",
);

/// An item of a page.
struct Old {
    old_id: Uuid,
    id: Uuid,
    status: String,
    payload: String,
    source: String,
}

impl Store {
    /// Waits until nobody else takes anything over; others wait until the value is dropped.
    /// `waits` is called once when there is somebody to wait for.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn adopting(&self, waits: impl FnOnce()) -> Result<Turn> {
        if let Some(turn) = Turn::take(self.db(), ADOPTION).await? {
            return Ok(turn);
        }
        waits();
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            if let Some(turn) = Turn::take(self.db(), ADOPTION).await? {
                return Ok(turn);
            }
        }
    }

    /// Copies the predecessor's tables into ours and compares; items without a verdict become
    /// requests. Running it again adds what came since, and nothing twice. One at a time: see
    /// [`Store::adopting`].
    ///
    /// # Errors
    /// [`Error::Adoption`] when there are no such tables or the database is not PostgreSQL; what
    /// was copied before stays.
    pub async fn adopt(
        &self,
        adoption: &Adoption,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<Compared>> {
        if self.db().dialect() == Dialect::Sqlite {
            let what = "the predecessor's tables can only be taken over in PostgreSQL, in the \
                        same database; give --database-url";
            return Err(Error::Adoption {
                what: what.to_owned(),
            });
        }
        self.make_views(&adoption.schema).await?;
        let done = self.copy_and_compare(adoption, &mut progress).await;
        self.drop_views().await?;
        done
    }

    async fn copy_and_compare(
        &self,
        adoption: &Adoption,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Vec<Compared>> {
        let total = self.make_partitions().await?;
        let mut done = 0;
        let mut after = Uuid::nil();
        while let Some(page) = self.page(&mut after).await? {
            self.copy(&page, adoption).await?;
            done += page.len() as u64;
            progress(Progress {
                done,
                total,
                comparing: false,
            });
        }
        self.db().execute(COPY_CONSUMERS).await?;
        self.compare(total, progress).await
    }

    /// Makes the partitions of the items' months; returns how many items there are.
    async fn make_partitions(&self) -> Result<u64> {
        let last = month_of(self.clock().now());
        let mut months = Vec::new();
        let mut total = 0;
        for row in self.db().query(MONTHS).await? {
            let month = month_of(row.get::<Timestamp>(0)?);
            total += row.get::<u64>(1)?;
            if (FIRST_MONTH..=last).contains(&month) {
                months.push(month);
            }
        }
        self.ensure_months(months.into_iter()).await?;
        Ok(total)
    }

    /// The items after `after`, which moves to the last of them; `None` at the end.
    async fn page(&self, after: &mut Uuid) -> Result<Option<Vec<Old>>> {
        let rows = self
            .db()
            .query(ITEMS.with(vec![(*after).into(), PAGE.into()]))
            .await?;
        let page = rows.iter().map(old).collect::<Result<Vec<_>>>()?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        *after = last.old_id;
        Ok(Some(page))
    }

    async fn copy(&self, page: &[Old], adoption: &Adoption) -> Result<()> {
        let handed = self.handed_over(page).await?;
        let (mut ids, mut requests, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        for old in page.iter().filter(|it| !handed.contains(&it.id)) {
            ids.push(old.id);
            match self.request(old, adoption) {
                Some(request) => requests.push(request),
                None => judged.push(old),
            }
        }
        let mut statements = vec![UNCOPY.rows(vec![Column::Uuid(ids)], Vec::new())?];
        statements.extend(copies(&judged, adoption)?);
        statements.push(inserted(&INSERT_MISSING, &requests)?);
        self.db().run(statements).await?;
        Ok(())
    }

    /// Those items of a page that are requests of ours.
    async fn handed_over(&self, page: &[Old]) -> Result<HashSet<Uuid>> {
        let ids = Column::Uuid(page.iter().map(|it| it.id).collect());
        let rows = self.db().query(HANDED_OVER.rows(vec![ids], Vec::new())?);
        let ids = rows.await?;
        let ids = ids.iter().map(|row| row.get(0));
        Ok(ids.collect::<ratebox_db::Result<_>>()?)
    }

    /// The request that an item becomes; `None` when it has its verdict, or never can have one. It
    /// is known by its old id, and waits behind what comes in now.
    fn request(&self, old: &Old, adoption: &Adoption) -> Option<NewRequest> {
        if old.status != "pending" {
            return None;
        }
        let item = Item::parse(old.payload.as_bytes()).ok()?;
        let source: String = old.source.chars().take(SOURCE_CHARS_MAX).collect();
        let mut request = Request::new(old.id, adoption.owner.as_str(), source);
        request.external_ref = Some(old.old_id.to_string());
        request.lane = Lane::Low;
        request.profile = Some(adoption.rules.profile());
        request.items = vec![item];
        let body = Bytes::from(request.to_message());
        let mut new = NewRequest::of(&request, body);
        // A time that is yet to come would keep it from being published until then.
        new.accepted_at = new.accepted_at.min(self.clock().now());
        Some(new)
    }

    async fn compare(
        &self,
        total: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Vec<Compared>> {
        let states = ["success", "error", "pending", "dlq"];
        let names = ["items DONE", "items ERROR", "items PENDING", "items DLQ"];
        let mut found = names.map(nothing);
        let mut errors = nothing("errors");
        let (mut done, mut after) = (0, Uuid::nil());
        while let Some(page) = self.page(&mut after).await? {
            let handed = self.handed_over(&page).await?;
            let mut add = |status: &str, there: u64, here: u64| {
                if let Some(state) = states.iter().position(|it| *it == status) {
                    found[state].there += there;
                    found[state].here += here;
                }
            };
            for old in &page {
                add(&old.status, 1, u64::from(handed.contains(&old.id)));
            }
            let copied = page.iter().filter(|it| !handed.contains(&it.id));
            let copied: Vec<&Old> = copied.collect();
            for row in self.db().query(items_here(&copied)?).await? {
                add(&row.get::<String>(0)?, 0, row.get(1)?);
            }
            self.count(errors_both(&copied)?, &mut errors).await?;
            done += page.len() as u64;
            progress(Progress {
                done,
                total,
                comparing: true,
            });
        }
        let mut consumers = nothing("consumers");
        self.count(CONSUMERS_BOTH.into(), &mut consumers).await?;
        Ok(found.into_iter().chain([errors, consumers]).collect())
    }

    async fn count(&self, statement: Statement, found: &mut Compared) -> Result<()> {
        for row in self.db().query(statement).await? {
            found.there += row.get::<u64>(0)?;
            found.here += row.get::<u64>(1)?;
        }
        Ok(())
    }
}

fn old(row: &Row) -> Result<Old> {
    Ok(Old {
        old_id: row.get(0)?,
        id: row.get(1)?,
        status: row.get(2)?,
        payload: row.get(3)?,
        source: row.get(4)?,
    })
}

fn nothing(what: &'static str) -> Compared {
    Compared {
        what,
        there: 0,
        here: 0,
    }
}

/// The statements that copy items and their errors.
fn copies(items: &[&Old], adoption: &Adoption) -> Result<Vec<Statement>> {
    let old_ids: Vec<Uuid> = items.iter().map(|it| it.old_id).collect();
    let keys: Vec<_> = items
        .iter()
        .map(|it| keys(&it.payload, &adoption.rules))
        .collect();
    let text = |of: fn(&Normalized) -> &Option<String>| {
        Column::MaybeText(keys.iter().map(|(key, _)| of(key).clone()).collect())
    };
    let columns = vec![
        Column::Uuid(old_ids.clone()),
        text(|key| &key.phone),
        text(|key| &key.bank_account),
        text(|key| &key.email),
        Column::Float(
            keys.iter()
                .map(|(_, confidence)| confidence.value())
                .collect(),
        ),
    ];
    let items = COPY_ITEMS.rows(columns, vec![adoption.owner.as_str().into()])?;
    let errors = COPY_ERRORS.rows(vec![Column::Uuid(old_ids)], Vec::new())?;
    Ok(vec![items, errors])
}

fn items_here(items: &[&Old]) -> Result<Statement> {
    let ids = Column::Uuid(items.iter().map(|it| it.id).collect());
    let states = Column::Text(items.iter().map(|it| it.status.clone()).collect());
    Ok(ITEMS_HERE.rows(vec![ids, states], Vec::new())?)
}

fn errors_both(items: &[&Old]) -> Result<Statement> {
    let old_ids = Column::Uuid(items.iter().map(|it| it.old_id).collect());
    let ids = Column::Uuid(items.iter().map(|it| it.id).collect());
    Ok(ERRORS_BOTH.rows(vec![old_ids, ids], Vec::new())?)
}

/// The look-up values of an item, and how clean it is by our own rules.
fn keys(payload: &str, rules: &Rules) -> (Normalized, Confidence) {
    match Item::parse(payload.as_bytes()) {
        Ok(item) => {
            let verdict = rules.judge(&item);
            (verdict.normalized, verdict.confidence)
        }
        Err(_) => (Normalized::default(), Confidence::LEAST),
    }
}
