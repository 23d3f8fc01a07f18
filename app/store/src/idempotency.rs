//! Idempotency keys: one submission for one key.

use ratebox_db::{Column, Sql, Tx};
use ratebox_kit::{Timestamp, id};
use uuid::Uuid;

use crate::{Error, Result, Store};

/// A key that a submission came with.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// Keys of different owners never meet.
    pub owner: String,
    /// The client's key.
    pub key: String,
    /// Hash of method, path and body.
    pub fingerprint: String,
    /// The request that this submission makes if the key is free.
    pub request_id: Uuid,
    /// The answer that this submission gets, and every later one with the same key.
    pub answer: String,
    /// When.
    pub created_at: Timestamp,
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was free; the submission may go on.
    Mine,
    /// An earlier submission has it.
    Theirs {
        /// The earlier submission's fingerprint: another one means another body.
        fingerprint: String,
        /// The earlier submission's request.
        request_id: Uuid,
        /// The earlier submission's answer.
        answer: String,
    },
}

const CLAIM: Sql = Sql {
    postgres: "INSERT INTO idempotency_keys
            (owner, key, fingerprint, request_id, answer, created_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[],
            $6::timestamptz[])
        ON CONFLICT (owner, key) DO NOTHING RETURNING request_id",
    sqlite: "INSERT INTO idempotency_keys
            (owner, key, fingerprint, request_id, answer, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (owner, key) DO NOTHING RETURNING request_id",
};

const READ: Sql = Sql {
    postgres: "SELECT fingerprint, request_id, answer FROM idempotency_keys
        WHERE owner = $1 AND key = $2",
    sqlite: "SELECT fingerprint, request_id, answer FROM idempotency_keys
        WHERE owner = ?1 AND key = ?2",
};

const FORGET: Sql = Sql {
    postgres: "DELETE FROM idempotency_keys WHERE created_at < $1",
    sqlite: "DELETE FROM idempotency_keys WHERE created_at < ?1",
};

/// Whose keys are kept beside requests and not with them; nobody has this name.
const KEPT_BESIDE: &str = "";

const KEEP: Sql = Sql {
    postgres: "INSERT INTO idempotency_keys
            (owner, key, fingerprint, request_id, answer, created_at)
        VALUES ($1, $2, '', $3, $4, $5)
        ON CONFLICT (owner, key) DO UPDATE SET answer = excluded.answer",
    sqlite: "INSERT INTO idempotency_keys
            (owner, key, fingerprint, request_id, answer, created_at)
        VALUES (?1, ?2, '', ?3, ?4, ?5)
        ON CONFLICT (owner, key) DO UPDATE SET answer = excluded.answer",
};

pub(crate) const STATEMENTS: &[Sql] = &[CLAIM, READ, FORGET, KEEP];

impl Store {
    /// Claims keys in the transaction of their submissions; one answer a key, in order. Two equal
    /// keys in one call are the first one's.
    ///
    /// # Errors
    /// When the database refuses or is away; the transaction can then only be dropped.
    pub async fn claim_keys(&self, tx: &mut Tx, keys: &[IdempotencyKey]) -> Result<Vec<Claim>> {
        let texts = |of: fn(&IdempotencyKey) -> &str| {
            Column::Text(keys.iter().map(|key| of(key).to_owned()).collect())
        };
        let columns = vec![
            texts(|key| &key.owner),
            texts(|key| &key.key),
            texts(|key| &key.fingerprint),
            Column::Uuid(keys.iter().map(|key| key.request_id).collect()),
            texts(|key| &key.answer),
            Column::Time(keys.iter().map(|key| key.created_at).collect()),
        ];
        let rows = tx.query(CLAIM.rows(columns, Vec::new())?).await?;
        let mine: Vec<Uuid> = rows
            .iter()
            .map(|row| row.get(0))
            .collect::<ratebox_db::Result<_>>()?;
        let mut claims = Vec::with_capacity(keys.len());
        for key in keys {
            claims.push(if mine.contains(&key.request_id) {
                Claim::Mine
            } else {
                read(tx, key).await?
            });
        }
        Ok(claims)
    }

    /// Keeps what a submission becomes that no row of the store stands for, unless its key has
    /// something already: then that is returned. Forgotten with the other keys.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn keep_beside_if_absent(&self, key: &str, value: &str) -> Result<Option<String>> {
        let claimed = IdempotencyKey {
            owner: KEPT_BESIDE.to_owned(),
            key: key.to_owned(),
            fingerprint: String::new(),
            request_id: id::new(),
            answer: value.to_owned(),
            created_at: self.clock().now(),
        };
        let mut tx = self.begin().await?;
        let claims = self.claim_keys(&mut tx, &[claimed]).await?;
        tx.commit().await?;
        Ok(match claims.into_iter().next() {
            Some(Claim::Theirs { answer, .. }) => Some(answer),
            Some(Claim::Mine) | None => None,
        })
    }

    /// The same, whatever the key has.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn keep_beside(&self, key: &str, value: &str) -> Result<()> {
        let values = vec![
            KEPT_BESIDE.into(),
            key.into(),
            id::new().into(),
            value.into(),
            self.clock().now().into(),
        ];
        self.db().execute(KEEP.with(values)).await?;
        Ok(())
    }

    pub(crate) async fn forget_keys(&self, before: Timestamp) -> Result<u64> {
        Ok(self.db().execute(FORGET.with(vec![before.into()])).await?)
    }
}

async fn read(tx: &mut Tx, key: &IdempotencyKey) -> Result<Claim> {
    let values = vec![key.owner.as_str().into(), key.key.as_str().into()];
    let rows = tx.query(READ.with(values)).await?;
    let row = rows.first().ok_or(Error::Unreadable {
        what: "idempotency key",
    })?;
    Ok(Claim::Theirs {
        fingerprint: row.get(0)?,
        request_id: row.get(1)?,
        answer: row.get(2)?,
    })
}
