//! Dead letters: the truth about messages that were given up, with their original bytes.
//!
//! A letter is kept once for each first entry. It stays when it is replayed, so that its history
//! and its counts are there when it dies again; see `replay.rs`. One whose request is over already
//! waits for nobody. Looking is in `look.rs`, editing and purging in `change.rs`.

mod change;
mod look;
mod replay;

use std::collections::HashMap;

use async_trait::async_trait;
use ratebox_db::{Column, Sql};
use ratebox_kit::{Attempt, Causes, DeadLetter, DeadLetters, PortError, Timestamp, fields, id};
use uuid::Uuid;

pub use self::change::Edit;
pub use self::look::{DeadLetterFilter, LetterHead, LetterState, LetterStates, StoredLetter};
pub use self::replay::{CACHE_WRITERS, Refusal, ReplayOrder, Replaying};
use crate::{Result, Store};

pub(crate) use self::change::STATEMENTS as CHANGES;
pub(crate) use self::look::STATEMENTS as LOOKS;
pub(crate) use self::replay::STATEMENTS as REPLAYS;

/// Replays of one letter before more of them must be forced.
pub const REPLAYS_MAX: u32 = 3;
/// Replays in a row that end in the same class and code before more of them must be forced; an
/// edit begins anew.
pub const SAME_REASON_MAX: u32 = 2;

/// Characters of a message's id that a letter keeps: it is there to be found by, and whoever may
/// append writes what they like. The fields have all of it.
const MESSAGE_ID_CHARS_MAX: usize = 500;

/// The code of a letter that the database would not take as it was.
const NOT_AS_IT_WAS: &str = "dead_letter.not_as_it_was";

/// A letter that comes again (a crash after it was kept, or a replay in vain) is the same letter:
/// its attempts are added, the newest 16,000 characters of them are kept, and its bytes stay those
/// of its first death.
///
/// A message that the bus gave up without asking the worker, and whose request is over already, is no
/// dead one: whoever judged it died before its entry was acknowledged. Its letter is resolved from
/// the start, and changes none that is there. Whether a request is over is asked of the id that the
/// message has, and of the one that the worker makes of its entry.
const KEEP: Sql = Sql {
    postgres: "INSERT INTO dead_letters (id, message_id, stream, entry_id, lane, fields, class,
            error, code, fail_count, first_failed_at, last_failed_at, consumer, consumer_group,
            attempts, request_id, owner, state, replayed_at)
        SELECT u.id, u.message_id, u.stream, u.entry_id, u.lane, u.fields, u.class, u.error,
            u.code, u.fail_count, u.first_failed_at, u.last_failed_at, u.consumer,
            u.consumer_group, u.attempts, coalesce(f.id, q.id), coalesce(f.owner, q.owner),
            CASE WHEN u.class IN ('poison', 'expired', 'cancelled')
                AND coalesce(f.state, q.state) IN ('success', 'partial', 'error', 'cancelled')
                THEN 'replayed' ELSE 'dead' END,
            CASE WHEN u.class IN ('poison', 'expired', 'cancelled')
                AND coalesce(f.state, q.state) IN ('success', 'partial', 'error', 'cancelled')
                THEN u.last_failed_at END
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
            $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[], $10::int[],
            $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[], $15::text[],
            $16::uuid[])
            AS u (id, message_id, stream, entry_id, lane, fields, class, error, code, fail_count,
                first_failed_at, last_failed_at, consumer, consumer_group, attempts, made)
        LEFT JOIN validation_requests q ON q.id = CASE WHEN u.message_id
            ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN u.message_id::uuid END
        LEFT JOIN validation_requests f ON f.id = u.made
            AND f.state IN ('success', 'partial', 'error', 'cancelled')
        ON CONFLICT (stream, entry_id) DO UPDATE SET
            same_reason = CASE WHEN dead_letters.state <> 'replayed' THEN dead_letters.same_reason
                WHEN dead_letters.class = excluded.class AND dead_letters.code = excluded.code
                THEN dead_letters.same_reason + 1 ELSE 0 END,
            attempts = right(dead_letters.attempts || excluded.attempts, 16000), state = 'dead',
            class = excluded.class, error = excluded.error, code = excluded.code,
            fail_count = excluded.fail_count, last_failed_at = excluded.last_failed_at,
            consumer = excluded.consumer, consumer_group = excluded.consumer_group
            WHERE excluded.state = 'dead'",
    sqlite: "INSERT INTO dead_letters (id, message_id, stream, entry_id, lane, fields, class,
            error, code, fail_count, first_failed_at, last_failed_at, consumer, consumer_group,
            attempts, request_id, owner, state, replayed_at)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
            coalesce(f.id, q.id), coalesce(f.owner, q.owner),
            CASE WHEN ?7 IN ('poison', 'expired', 'cancelled')
                AND coalesce(f.state, q.state) IN ('success', 'partial', 'error', 'cancelled')
                THEN 'replayed' ELSE 'dead' END,
            CASE WHEN ?7 IN ('poison', 'expired', 'cancelled')
                AND coalesce(f.state, q.state) IN ('success', 'partial', 'error', 'cancelled')
                THEN ?12 END
        FROM (SELECT 1)
        LEFT JOIN validation_requests q ON q.id = unhex(replace(?2, '-', ''))
        LEFT JOIN validation_requests f ON f.id = ?16
            AND f.state IN ('success', 'partial', 'error', 'cancelled')
        WHERE true
        ON CONFLICT (stream, entry_id) DO UPDATE SET
            same_reason = CASE WHEN dead_letters.state <> 'replayed' THEN dead_letters.same_reason
                WHEN dead_letters.class = excluded.class AND dead_letters.code = excluded.code
                THEN dead_letters.same_reason + 1 ELSE 0 END,
            attempts = substr(dead_letters.attempts || excluded.attempts, -16000), state = 'dead',
            class = excluded.class, error = excluded.error, code = excluded.code,
            fail_count = excluded.fail_count, last_failed_at = excluded.last_failed_at,
            consumer = excluded.consumer, consumer_group = excluded.consumer_group
            WHERE excluded.state = 'dead'",
};

const MARK_DEAD: Sql = Sql {
    postgres: "UPDATE validation_requests SET state = 'dead', body = NULL, finished_at = $2
        WHERE id = ANY($1::uuid[]) AND state IN ('queued', 'processing')",
    sqlite: "UPDATE validation_requests SET state = 'dead', body = NULL, finished_at = ?2
        WHERE id = ?1 AND state IN ('queued', 'processing')",
};

pub(crate) const STATEMENTS: &[Sql] = &[KEEP, MARK_DEAD];

#[async_trait]
impl DeadLetters for Store {
    async fn keep(&self, letters: &[DeadLetter]) -> std::result::Result<(), PortError> {
        let kept = self.keep_letters(letters).await;
        kept.map_err(|error| PortError::new("the store did not keep a dead letter", error))
    }
}

impl Store {
    /// Keeps letters. A letter that cannot be kept stops whoever brings it, and with it all that
    /// waits behind: so when some column is refused the letters are halved until that letter stands
    /// alone, and it is kept with no more than a refusal can spare.
    async fn keep_letters(&self, letters: &[DeadLetter]) -> Result<()> {
        let mut waiting = vec![letters];
        while let Some(some) = waiting.pop() {
            let Err(error) = self.keep_together(some).await else {
                continue;
            };
            match some {
                [letter] if error.is_data() => {
                    tracing::error!(
                        stream = %letter.stream,
                        entry.id = %letter.entry_id,
                        error = %Causes(&error),
                        "the database refused a column of a dead letter, which is kept without"
                    );
                    self.keep_together(&[bare(letter)]).await?;
                }
                [_, _, ..] if error.is_data() => {
                    let (first, rest) = some.split_at(some.len() / 2);
                    waiting.extend([rest, first]);
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    async fn keep_together(&self, letters: &[DeadLetter]) -> Result<()> {
        let requests = letters
            .iter()
            .filter_map(|it| it.message_id.parse().ok())
            .collect();
        let now = self.clock().now();
        let dead = MARK_DEAD.rows(vec![Column::Uuid(requests)], vec![now.into()])?;
        let mut statements = Vec::new();
        for some in rounds(letters) {
            statements.push(KEEP.rows(columns(&some), Vec::new())?);
        }
        statements.push(dead);
        self.db().run(statements).await?;
        Ok(())
    }
}

/// Letters in groups of which none has a first entry twice: one statement cannot change a row twice.
fn rounds(letters: &[DeadLetter]) -> Vec<Vec<&DeadLetter>> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::with_capacity(letters.len());
    let mut rounds: Vec<Vec<&DeadLetter>> = Vec::new();
    for letter in letters {
        let before = seen.entry((&letter.stream, &letter.entry_id)).or_insert(0);
        match rounds.get_mut(*before) {
            Some(round) => round.push(letter),
            None => rounds.push(vec![letter]),
        }
        *before += 1;
    }
    rounds
}

/// The letter with its place and its bytes, and without what the message says of itself.
fn bare(letter: &DeadLetter) -> DeadLetter {
    let own: Option<Uuid> = letter.message_id.parse().ok();
    let place = || format!("{}/{}", letter.stream, letter.entry_id);
    DeadLetter {
        message_id: own.map_or_else(place, |own| own.to_string()),
        error: "the database refused a column of this letter; its fields are whole".to_owned(),
        code: NOT_AS_IT_WAS.to_owned(),
        fail_count: 0,
        first_failed_at: letter.last_failed_at,
        attempts: Vec::new(),
        ..letter.clone()
    }
}

/// Whatever a message says of itself fits its column.
fn columns(letters: &[&DeadLetter]) -> Vec<Column> {
    let texts = |of: fn(&DeadLetter) -> &str| {
        Column::Text(letters.iter().map(|letter| plain(of(letter))).collect())
    };
    let times = |of: fn(&DeadLetter) -> Timestamp| {
        let times = letters.iter().map(|letter| storable(of(letter)));
        Column::Time(times.collect())
    };
    let ids = letters.iter().map(|it| plain_id(&it.message_id));
    let counts = letters.iter().map(|it| it.fail_count.min(FAIL_COUNT_MAX));
    let bytes = letters.iter().map(|it| fields::encode_all(&it.fields));
    let made = |it: &&DeadLetter| replay::made_request(&it.stream, &it.entry_id, &it.fields);
    vec![
        Column::Uuid(letters.iter().map(|_| id::new()).collect()),
        Column::Text(ids.collect()),
        texts(|it| &it.stream),
        texts(|it| &it.entry_id),
        texts(|it| &it.lane),
        Column::Bytes(bytes.collect()),
        texts(|it| it.class.as_str()),
        texts(|it| &it.error),
        texts(|it| &it.code),
        Column::Int(counts.map(i64::from).collect()),
        times(|it| it.first_failed_at),
        times(|it| it.last_failed_at),
        texts(|it| &it.consumer),
        texts(|it| &it.group),
        Column::Text(letters.iter().map(|it| lines(it)).collect()),
        Column::Uuid(letters.iter().map(made).collect()),
    ]
}

/// The largest count that PostgreSQL's column of 32 bits has room for.
const FAIL_COUNT_MAX: u32 = i32::MAX.unsigned_abs();

/// U+0000 is no text to PostgreSQL.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// An id as it can be shown in one line.
fn plain_id(id: &str) -> String {
    let chars = id.chars().take(MESSAGE_ID_CHARS_MAX);
    let chars = chars.map(|c| if c.is_control() { '\u{fffd}' } else { c });
    chars.collect()
}

/// The last second that every store gives back as it was taken.
const SECOND_MAX: i64 = 253_370_764_800; // 9999-01-01

/// PostgreSQL's times begin 4,713 years before our era, and ours earlier; neither means anything.
fn storable(time: Timestamp) -> Timestamp {
    let last = Timestamp::from_second(SECOND_MAX).unwrap_or(Timestamp::MAX);
    time.clamp(Timestamp::UNIX_EPOCH, last)
}

/// U+0000 is no text to PostgreSQL; [`Attempt::to_line`] leaves none.
fn lines(letter: &DeadLetter) -> String {
    letter.attempts.iter().map(Attempt::to_line).collect()
}
