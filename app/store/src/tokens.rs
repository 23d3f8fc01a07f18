//! API tokens: `rb_<live|test>_<id>_<secret>`.
//!
//! Only the SHA-256 of the secret is kept. The secret has 256 random bits, so a fast hash is
//! enough: there is nothing to guess.

use bytes::Bytes;
use ratebox_db::{Row, Sql};
use ratebox_kit::{Secret, Timestamp, id};

use crate::{Result, Store};

/// What a token may do, and for whom.
#[derive(Clone, Debug)]
pub struct Token {
    /// The public part.
    pub id: String,
    /// The account it acts for.
    pub owner: String,
    /// A name for people.
    pub name: String,
    /// Such as `validation:write`; `admin` implies all.
    pub scopes: Vec<String>,
    /// Rules for its requests; `None` for the configured ones.
    pub profile: Option<String>,
    /// Its own limit a minute on every route; `None` for the routes' limits.
    pub limit_per_minute: Option<u32>,
    /// A live token; otherwise a test token.
    pub live: bool,
    /// SHA-256 of the secret.
    pub secret_hash: Bytes,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

impl Token {
    /// Neither revoked nor past its end.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The account it acts for.
    pub owner: String,
    /// A name for people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Rules for its requests.
    pub profile: Option<String>,
    /// Its own limit a minute.
    pub limit_per_minute: Option<u32>,
    /// A live token; otherwise a test token.
    pub live: bool,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

const CREATE: Sql = Sql {
    postgres: "INSERT INTO api_tokens (id, owner, name, scopes, profile, limit_per_minute, live,
            secret_hash, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    sqlite: "INSERT INTO api_tokens (id, owner, name, scopes, profile, limit_per_minute, live,
            secret_hash, created_at, expires_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
};

const ONE: Sql = Sql {
    postgres: "SELECT id, owner, name, scopes, profile, limit_per_minute, live, secret_hash,
        created_at, expires_at, revoked_at FROM api_tokens WHERE id = $1",
    sqlite: "SELECT id, owner, name, scopes, profile, limit_per_minute, live, secret_hash,
        created_at, expires_at, revoked_at FROM api_tokens WHERE id = ?1",
};

const ALL: Sql = Sql::both(
    "SELECT id, owner, name, scopes, profile, limit_per_minute, live, secret_hash,
        created_at, expires_at, revoked_at FROM api_tokens ORDER BY created_at, id",
);

const REVOKE: Sql = Sql {
    postgres: "UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
    sqlite: "UPDATE api_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
};

const COUNT: Sql = Sql::both("SELECT count(*) FROM api_tokens");

pub(crate) const STATEMENTS: &[Sql] = &[CREATE, ONE, ALL, REVOKE, COUNT];

impl Store {
    /// Makes a token; the secret text is answered this once and never again.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn create_token(&self, new: NewToken) -> Result<(Token, Secret)> {
        let public = id::hex(&id::random_bytes::<8>());
        let secret = id::hex(&id::random_bytes::<32>());
        let hash = Bytes::copy_from_slice(&id::sha256(secret.as_bytes()));
        let token = Token {
            id: public,
            owner: new.owner,
            name: new.name,
            scopes: new.scopes,
            profile: new.profile,
            limit_per_minute: new.limit_per_minute,
            live: new.live,
            secret_hash: hash,
            created_at: self.clock().now(),
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let values = vec![
            token.id.as_str().into(),
            token.owner.as_str().into(),
            token.name.as_str().into(),
            token.scopes.join(" ").into(),
            token.profile.clone().into(),
            token.limit_per_minute.into(),
            token.live.into(),
            token.secret_hash.clone().into(),
            token.created_at.into(),
            token.expires_at.into(),
        ];
        self.db().execute(CREATE.with(values)).await?;
        let kind = if token.live { "live" } else { "test" };
        let text = Secret::new(format!("rb_{kind}_{}_{secret}", token.id));
        Ok((token, text))
    }

    /// A token by its public part.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn token(&self, id: &str) -> Result<Option<Token>> {
        let rows = self.db().query(ONE.with(vec![id.into()])).await?;
        rows.first().map(read).transpose()
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn tokens(&self) -> Result<Vec<Token>> {
        self.db().query(ALL).await?.iter().map(read).collect()
    }

    /// Revokes a token; false when there is none or it was revoked before.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn revoke_token(&self, id: &str) -> Result<bool> {
        let values = vec![id.into(), self.clock().now().into()];
        Ok(self.db().execute(REVOKE.with(values)).await? > 0)
    }

    /// How many tokens there are, revoked ones included.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn token_count(&self) -> Result<u64> {
        let rows = self.db().query(COUNT).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.get(0))?)
    }
}

fn read(row: &Row) -> Result<Token> {
    let scopes: String = row.get(3)?;
    Ok(Token {
        id: row.get(0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        scopes: scopes.split_whitespace().map(ToOwned::to_owned).collect(),
        profile: row.get(4)?,
        limit_per_minute: row.get(5)?,
        live: row.get(6)?,
        secret_hash: row.get(7)?,
        created_at: row.get(8)?,
        expires_at: row.get(9)?,
        revoked_at: row.get(10)?,
    })
}
