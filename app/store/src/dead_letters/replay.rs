//! Dead letters go back to the bus: the store's half.
//!
//! One transaction says that the letter is on its way, makes its request unfinished again, writes
//! the deed, and takes what the caller adds: the outbox row with the bytes. So a letter is either
//! still dead, or its message is bound to be published.

use bytes::Bytes;
use ratebox_db::{Column, Committed, Sql, Statement, Tx};
use ratebox_intake::foreign_request_id;
use serde_json::json;
use uuid::Uuid;

use super::look::{WHOLE_LOCKED, whole};
use super::{LetterState, StoredLetter};
use crate::{NewDeed, Result, Store};

/// What is to be replayed, by whom and why.
#[derive(Clone, Debug)]
pub struct ReplayOrder<'a> {
    /// The letters. Few at a time: their bytes are in memory together.
    pub ids: Vec<Uuid>,
    /// Who asks.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Also those that are stuck, or on their way already.
    pub force: bool,
}

/// The group that brings queued writes of the cache to their origins.
pub const CACHE_WRITERS: &str = "cache_writers";

/// The field in which a message names the stream that it came from. A letter has it only where the
/// bus believed it.
const FIRST_STREAM: &str = "rb-first-stream";

/// Why a letter is not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such letter.
    Unknown,
    /// It was replayed and did not die again.
    OnItsWay,
    /// Its request has a verdict: since its replay, or before it died.
    Resolved,
    /// It was replayed too often, or died for the same reason again.
    Stuck,
    /// It is a queued write of the cache: it would come after those that were made since, and undo
    /// them.
    QueuedWrite,
}

impl Refusal {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::OnItsWay => "on_its_way",
            Self::Resolved => "resolved",
            Self::Stuck => "stuck",
            Self::QueuedWrite => "queued_write",
        }
    }
}

/// A replay whose transaction is open. On SQLite it holds the one writer: commit it at once.
#[derive(Debug)]
pub struct Replaying {
    /// What goes, as it was before.
    pub letters: Vec<StoredLetter>,
    /// What does not, and why.
    pub refused: Vec<(Uuid, Refusal)>,
    tx: Tx,
    statements: Vec<Statement>,
}

const REPLAYED: Sql = Sql {
    postgres: "UPDATE dead_letters SET state = 'replayed', replay_count = replay_count + 1,
            request_id = n.request, replayed_at = $3
        FROM unnest($1::uuid[], $2::uuid[]) AS n (letter, request) WHERE id = n.letter",
    sqlite: "UPDATE dead_letters SET state = 'replayed', replay_count = replay_count + 1,
            request_id = ?2, replayed_at = ?3 WHERE id = ?1",
};

/// The request waits for its verdict again, with what is published for it: should the bus lose
/// that, it is published anew.
const REVIVE: Sql = Sql {
    postgres: "UPDATE validation_requests q SET state = 'queued', body = n.body,
            finished_at = NULL, republished_at = $3
        FROM unnest($1::uuid[], $2::bytea[]) AS n (id, body)
        WHERE q.id = n.id AND q.state = 'dead'",
    sqlite: "UPDATE validation_requests SET state = 'queued', body = ?2, finished_at = NULL,
            republished_at = ?3 WHERE id = ?1 AND state = 'dead'",
};

pub(crate) const STATEMENTS: &[Sql] = &[REPLAYED, REVIVE];

impl Store {
    /// Opens a replay: looks which of the letters may go, and holds them. Nothing is changed
    /// before [`Replaying::commit`].
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin_replay(&self, order: &ReplayOrder<'_>) -> Result<Replaying> {
        let mut tx = self.begin().await?;
        let wanted = WHOLE_LOCKED.rows(vec![Column::Uuid(order.ids.clone())], Vec::new())?;
        let rows = tx.query(wanted).await?;
        let found: Vec<StoredLetter> = rows.iter().map(whole).collect::<Result<_>>()?;
        let unknown = order.ids.iter().filter(|id| {
            let is_it = |letter: &StoredLetter| letter.head.id == **id;
            !found.iter().any(is_it)
        });
        let mut refused: Vec<_> = unknown.map(|id| (*id, Refusal::Unknown)).collect();
        let mut letters = Vec::with_capacity(found.len());
        for letter in found {
            match letter.head.state {
                _ if letter.head.group == CACHE_WRITERS => {
                    refused.push((letter.head.id, Refusal::QueuedWrite));
                }
                LetterState::Waiting => letters.push(letter),
                _ if order.force => letters.push(letter),
                LetterState::Stuck => refused.push((letter.head.id, Refusal::Stuck)),
                LetterState::Replayed => refused.push((letter.head.id, Refusal::OnItsWay)),
                LetterState::Resolved => refused.push((letter.head.id, Refusal::Resolved)),
            }
        }
        let statements = self.replay_statements(order, &letters)?;
        Ok(Replaying {
            letters,
            refused,
            tx,
            statements,
        })
    }

    fn replay_statements(
        &self,
        order: &ReplayOrder<'_>,
        letters: &[StoredLetter],
    ) -> Result<Vec<Statement>> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock().now();
        let ids = letters.iter().map(|it| it.head.id).collect();
        let requests = letters.iter().map(request_of).collect();
        let columns = vec![Column::Uuid(ids), Column::Uuid(requests)];
        let mut statements = vec![REPLAYED.rows(columns, vec![now.into()])?];
        let own: Vec<(Uuid, Bytes)> = letters.iter().filter_map(own_body).collect();
        if !own.is_empty() {
            let (ids, bodies) = own.into_iter().unzip();
            let columns = vec![Column::Uuid(ids), Column::Bytes(bodies)];
            statements.push(REVIVE.rows(columns, vec![now.into()])?);
        }
        let deeds: Vec<_> = letters.iter().map(|it| deed(order, it)).collect();
        statements.push(self.audit(&deeds)?);
        Ok(statements)
    }
}

impl Replaying {
    /// Commits the replay together with `more`: the outbox rows of the letters.
    ///
    /// # Errors
    /// Nothing was kept unless the error is an outage, when it is unknown.
    pub async fn commit(self, more: Vec<Statement>) -> Result<Committed> {
        let mut statements = self.statements;
        statements.extend(more);
        let (_, committed) = self.tx.commit_after(statements).await?;
        Ok(committed)
    }
}

/// The letter's request: its own, or the one that the worker will make of a foreign message.
fn request_of(letter: &StoredLetter) -> Uuid {
    let head = &letter.head;
    let own = head.request_id.or_else(|| head.message_id.parse().ok());
    own.unwrap_or_else(|| made_request(&head.stream, &head.entry_id, letter.to_send()))
}

/// The request that the worker makes of a foreign message. One that was carried here from another
/// stream names it beside its first entry.
pub(super) fn made_request(stream: &str, entry_id: &str, fields: &[(String, Bytes)]) -> Uuid {
    let carried = fields.iter().find(|(name, _)| name == FIRST_STREAM);
    let from = carried.and_then(|(_, value)| std::str::from_utf8(value).ok());
    let ms = entry_id.split('-').next().and_then(|ms| ms.parse().ok());
    foreign_request_id(ms.unwrap_or_default(), from.unwrap_or(stream), entry_id)
}

/// What was published for a request of ours; a foreign producer's message has no row to revive.
fn own_body(letter: &StoredLetter) -> Option<(Uuid, Bytes)> {
    let own = letter.head.request_id?;
    let is_own = letter.head.message_id == own.to_string();
    let data = letter.to_send().iter().find(|(name, _)| name == "data");
    data.filter(|_| is_own)
        .map(|(_, value)| (own, value.clone()))
}

fn deed<'a>(order: &ReplayOrder<'a>, letter: &StoredLetter) -> NewDeed<'a> {
    let head = &letter.head;
    let detail = json!({
        "class": head.class.as_str(), "code": head.code, "message_id": head.message_id,
        "replay": head.replay_count + 1, "edited": head.edited, "forced": order.force,
    });
    NewDeed {
        actor: order.actor,
        action: "dead_letter.replay",
        subject: head.id.to_string(),
        reason: order.reason,
        detail: Some(detail.to_string()),
    }
}
