//! Dead letters are edited and purged.

use bytes::Bytes;
use ratebox_db::{Column, Sql};
use ratebox_kit::fields::{self, Fields};
use serde_json::json;
use uuid::Uuid;

use super::LetterHead;
use crate::{NewDeed, Result, Store};

/// What a replay shall send in place of the original fields.
#[derive(Clone, Debug)]
pub struct Edit<'a> {
    /// The letter.
    pub id: Uuid,
    /// The fields to send; `None` returns to the original ones.
    pub fields: Option<&'a Fields>,
    /// Who.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// Only a letter that waits: what is on its way cannot be changed any more.
const EDIT: Sql = Sql {
    postgres: "UPDATE dead_letters SET edited = $2, same_reason = 0
        WHERE id = $1 AND (state = 'dead' OR last_failed_at > replayed_at)",
    sqlite: "UPDATE dead_letters SET edited = ?2, same_reason = 0
        WHERE id = ?1 AND (state = 'dead' OR last_failed_at > replayed_at)",
};

const PURGE: Sql = Sql {
    postgres: "DELETE FROM dead_letters WHERE id = ANY($1::uuid[])",
    sqlite: "DELETE FROM dead_letters WHERE id = ?1",
};

/// Letters that wait for nobody and whose request is over.
const FORGET_RESOLVED: Sql = Sql {
    postgres: "DELETE FROM dead_letters d USING validation_requests q
        WHERE d.state = 'replayed' AND d.replayed_at < $1 AND d.last_failed_at <= d.replayed_at
          AND q.id = d.request_id AND q.state IN ('success', 'partial', 'error', 'cancelled')",
    sqlite: "DELETE FROM dead_letters WHERE state = 'replayed' AND replayed_at < ?1
          AND last_failed_at <= replayed_at
          AND (SELECT q.state FROM validation_requests q WHERE q.id = dead_letters.request_id)
            IN ('success', 'partial', 'error', 'cancelled')",
};

pub(crate) const STATEMENTS: &[Sql] = &[EDIT, PURGE, FORGET_RESOLVED];

impl Store {
    /// Changes what a replay sends; the original stays. False when there is no such letter, or it
    /// is on its way.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn edit_letter(&self, edit: &Edit<'_>) -> Result<bool> {
        let bytes: Option<Bytes> = edit.fields.map(|it| fields::encode_all(it));
        let length = bytes.as_ref().map(Bytes::len);
        let mut tx = self.begin().await?;
        let changed = tx
            .execute(EDIT.with(vec![edit.id.into(), bytes.into()]))
            .await?;
        if changed == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let deed = NewDeed {
            actor: edit.actor,
            action: "dead_letter.edit",
            subject: edit.id.to_string(),
            reason: edit.reason,
            detail: Some(json!({ "bytes": length }).to_string()),
        };
        tx.commit_after(vec![self.audit(&[deed])?]).await?;
        Ok(true)
    }

    /// Deletes letters for good; returns how many there were.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn purge_letters(
        &self,
        letters: &[LetterHead],
        actor: &str,
        reason: &str,
    ) -> Result<u64> {
        let ids = letters.iter().map(|it| it.id).collect();
        let purge = PURGE.rows(vec![Column::Uuid(ids)], Vec::new())?;
        let deed = |head: &LetterHead| NewDeed {
            actor,
            action: "dead_letter.purge",
            subject: head.id.to_string(),
            reason,
            detail: Some(
                json!({
                    "class": head.class.as_str(), "code": head.code, "stream": head.stream,
                    "entry_id": head.entry_id, "message_id": head.message_id,
                })
                .to_string(),
            ),
        };
        let deeds: Vec<_> = letters.iter().map(deed).collect();
        let (counts, _) = self.db().run(vec![purge, self.audit(&deeds)?]).await?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// Deletes letters whose request is over, and that were replayed, or came when it was so, before
    /// `before`; returns how many.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_resolved_letters(&self, before: ratebox_kit::Timestamp) -> Result<u64> {
        Ok(self
            .db()
            .execute(FORGET_RESOLVED.with(vec![before.into()]))
            .await?)
    }
}
