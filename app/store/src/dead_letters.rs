//! Dead letters: the truth about messages that were given up, with their original bytes.

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use ratebox_db::{Column, Row, Sql};
use ratebox_kit::{DeadLetter, DeadLetterClass, DeadLetters, PortError, Timestamp, id};
use uuid::Uuid;

use crate::{Error, Result, Store};

/// A kept letter.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Its number in the store.
    pub id: Uuid,
    /// The letter.
    pub letter: DeadLetter,
    /// How often it was replayed.
    pub replay_count: u32,
    /// Its request, where one is known.
    pub request_id: Option<Uuid>,
    /// Its owner, where one is known.
    pub owner: Option<String>,
}

/// Which letters to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Only this class.
    pub class: Option<DeadLetterClass>,
    /// Only this error code.
    pub code: Option<String>,
    /// Only older than this letter: the cursor of the next page.
    pub before: Option<Uuid>,
}

const KEEP: Sql = Sql {
    postgres: "INSERT INTO dead_letters (id, message_id, stream, entry_id, lane, fields, class,
            error, code, fail_count, first_failed_at, last_failed_at, consumer, request_id, owner)
        SELECT u.*, q.id, q.owner FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
            $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[], $10::int[],
            $11::timestamptz[], $12::timestamptz[], $13::text[]) AS u (id, message_id)
        LEFT JOIN validation_requests q ON q.id::text = u.message_id
        ON CONFLICT (stream, entry_id) DO UPDATE SET class = excluded.class,
            error = excluded.error, code = excluded.code, fail_count = excluded.fail_count,
            last_failed_at = excluded.last_failed_at, consumer = excluded.consumer",
    sqlite: "INSERT INTO dead_letters (id, message_id, stream, entry_id, lane, fields, class,
            error, code, fail_count, first_failed_at, last_failed_at, consumer, request_id, owner)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
            (SELECT id FROM validation_requests WHERE id = unhex(replace(?2, '-', ''))),
            (SELECT owner FROM validation_requests WHERE id = unhex(replace(?2, '-', ''))))
        ON CONFLICT (stream, entry_id) DO UPDATE SET class = excluded.class,
            error = excluded.error, code = excluded.code, fail_count = excluded.fail_count,
            last_failed_at = excluded.last_failed_at, consumer = excluded.consumer",
};

const MARK_DEAD: Sql = Sql {
    postgres: "UPDATE validation_requests SET state = 'dead', body = NULL, finished_at = $2
        WHERE id = ANY($1::uuid[]) AND state IN ('queued', 'processing')",
    sqlite: "UPDATE validation_requests SET state = 'dead', body = NULL, finished_at = ?2
        WHERE id = ?1 AND state IN ('queued', 'processing')",
};

const LIST: Sql = Sql {
    postgres: "SELECT id, message_id, stream, entry_id, lane, fields, class, error, code,
            fail_count, first_failed_at, last_failed_at, consumer, replay_count, request_id, owner
        FROM dead_letters
        WHERE ($1::text IS NULL OR class = $1) AND ($2::text IS NULL OR code = $2)
          AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4",
    sqlite: "SELECT id, message_id, stream, entry_id, lane, fields, class, error, code,
            fail_count, first_failed_at, last_failed_at, consumer, replay_count, request_id, owner
        FROM dead_letters
        WHERE (?1 IS NULL OR class = ?1) AND (?2 IS NULL OR code = ?2)
          AND (?3 IS NULL OR id < ?3)
        ORDER BY id DESC LIMIT ?4",
};

const COUNT: Sql = Sql::both("SELECT count(*) FROM dead_letters");

pub(crate) const STATEMENTS: &[Sql] = &[KEEP, MARK_DEAD, LIST, COUNT];

#[async_trait]
impl DeadLetters for Store {
    async fn keep(&self, letters: &[DeadLetter]) -> std::result::Result<(), PortError> {
        let kept = self.keep_letters(letters).await;
        kept.map_err(|error| PortError::new("the store did not keep a dead letter", error))
    }
}

impl Store {
    async fn keep_letters(&self, letters: &[DeadLetter]) -> Result<()> {
        let texts = |of: fn(&DeadLetter) -> &str| {
            Column::Text(letters.iter().map(|letter| of(letter).to_owned()).collect())
        };
        let columns = vec![
            Column::Uuid(letters.iter().map(|_| id::new()).collect()),
            texts(|it| &it.message_id),
            texts(|it| &it.stream),
            texts(|it| &it.entry_id),
            texts(|it| &it.lane),
            Column::Bytes(letters.iter().map(|it| encode(&it.fields)).collect()),
            texts(|it| it.class.as_str()),
            texts(|it| &it.error),
            texts(|it| &it.code),
            Column::Int(letters.iter().map(|it| it.fail_count.into()).collect()),
            Column::Time(letters.iter().map(|it| it.first_failed_at).collect()),
            Column::Time(letters.iter().map(|it| it.last_failed_at).collect()),
            texts(|it| &it.consumer),
        ];
        let requests = letters
            .iter()
            .filter_map(|it| it.message_id.parse().ok())
            .collect();
        let now = self.clock().now();
        let dead = MARK_DEAD.rows(vec![Column::Uuid(requests)], vec![now.into()])?;
        self.db()
            .run(vec![KEEP.rows(columns, Vec::new())?, dead])
            .await?;
        Ok(())
    }

    /// Letters that match, newest first, at most `max`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        max: u32,
    ) -> Result<Vec<StoredLetter>> {
        let values = vec![
            filter.class.map(DeadLetterClass::as_str).into(),
            filter.code.clone().into(),
            filter.before.into(),
            max.into(),
        ];
        self.db()
            .query(LIST.with(values))
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// How many letters there are.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_letter_count(&self) -> Result<u64> {
        let rows = self.db().query(COUNT).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.get(0))?)
    }
}

fn read(row: &Row) -> Result<StoredLetter> {
    let class: String = row.get(6)?;
    let letter = DeadLetter {
        message_id: row.get(1)?,
        stream: row.get(2)?,
        entry_id: row.get(3)?,
        lane: row.get(4)?,
        fields: decode(row.get(5)?)?,
        class: DeadLetterClass::parse(&class).ok_or(Error::Unreadable {
            what: "letter class",
        })?,
        error: row.get(7)?,
        code: row.get(8)?,
        fail_count: row.get(9)?,
        first_failed_at: row.get::<Timestamp>(10)?,
        last_failed_at: row.get::<Timestamp>(11)?,
        consumer: row.get(12)?,
    };
    Ok(StoredLetter {
        id: row.get(0)?,
        letter,
        replay_count: row.get(13)?,
        request_id: row.get(14)?,
        owner: row.get(15)?,
    })
}

/// Fields as they were: for each its name and its value, both with a 32-bit length before them,
/// most significant byte first.
fn encode(fields: &[(String, Bytes)]) -> Bytes {
    let mut out = BytesMut::new();
    for (name, value) in fields {
        for part in [name.as_bytes(), value] {
            out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            out.put_slice(part);
        }
    }
    out.freeze()
}

fn decode(mut bytes: Bytes) -> Result<Vec<(String, Bytes)>> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let name = part(&mut bytes)?;
        let value = part(&mut bytes)?;
        fields.push((String::from_utf8_lossy(&name).into_owned(), value));
    }
    Ok(fields)
}

fn part(bytes: &mut Bytes) -> Result<Bytes> {
    const UNREADABLE: Error = Error::Unreadable {
        what: "dead letter",
    };
    let length = bytes.try_get_u32().map_err(|_| UNREADABLE)?;
    let length = usize::try_from(length).map_err(|_| UNREADABLE)?;
    if bytes.remaining() < length {
        return Err(UNREADABLE);
    }
    Ok(bytes.split_to(length))
}
