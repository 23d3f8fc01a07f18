//! Bearer tokens that others sign (JWT, RFC 7519), checked as RFC 8725 advises: the key decides the
//! algorithm, issuer, audience and end are required, and nothing that a token brings along tells
//! where keys are.

mod claims;
mod header;
mod key;
mod keys;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, Validation};
use ratebox_cache::{Stats, Tier};
use ratebox_kit::Clock;
use serde_json::{Map, Value};

use self::header::Header;
pub use self::key::JwksError;
use self::key::{Key, KeySet, Pick};
use self::keys::Keys;
use self::verified::Verified;
pub(super) use self::verified::{Digest, Known};
use super::Caller;
use crate::settings::{AuthSettings, JwtAlgorithm, JwtSettings};

/// Checks JWTs.
pub(super) struct Jwt {
    settings: JwtSettings,
    clock: Clock,
    verified: Verified,
    secret: Option<Key>,
    keys: Option<Keys>,
}

/// Why a token is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not valid. Why is nobody's business.
    Refused,
    /// The keys cannot be had.
    Unavailable(ratebox_cache::Error),
}

/// What a set of keys is good for, in words.
#[derive(Clone, Debug)]
pub struct JwksReport {
    /// The name and the algorithm of each key that tokens are checked with.
    pub usable: Vec<String>,
    /// The others, and why.
    pub left_out: Vec<String>,
}

/// Reads a set of keys as the gateway would.
///
/// # Errors
/// When no token could be checked with it.
pub fn inspect_jwks(
    set: &[u8],
    algorithms: &[JwtAlgorithm],
    is_private: bool,
) -> Result<JwksReport, JwksError> {
    let set = KeySet::parse(set, algorithms, is_private)?;
    Ok(JwksReport {
        usable: set.names(),
        left_out: set.left_out,
    })
}

// === impl Jwt ===

impl Jwt {
    /// `None` where no key is set.
    pub(super) fn new(settings: &AuthSettings, clock: &Clock) -> Option<Self> {
        let jwt = settings.jwt.clone()?;
        let secret = jwt.secret.as_ref();
        let secret = secret.map(|secret| Key::secret(secret.reveal().as_bytes()));
        let secret = secret.filter(|_| jwt.algorithms.contains(&JwtAlgorithm::Hs256));
        let keys = jwt
            .jwks
            .clone()
            .map(|source| Keys::new(source, jwt.clone(), clock.clone()));
        Some(Self {
            verified: Verified::new(settings.cache_max_age, settings.cache_max),
            clock: clock.clone(),
            settings: jwt,
            secret,
            keys,
        })
    }

    /// Longest `Authorization` that may hold a token.
    pub(super) fn authorization_max_bytes(&self) -> usize {
        self.settings.token_max_bytes + "Bearer ".len()
    }

    /// Whether it is one by its look; API tokens have no dots.
    pub(super) fn may_be_one(&self, token: &str) -> bool {
        // A brace in base64 begins with an e.
        token.len() <= self.settings.token_max_bytes && token.starts_with('e')
    }

    /// What is known of a token.
    pub(super) fn find(&self, digest: &Digest, now: Duration) -> Known {
        self.verified.find(digest, now)
    }

    /// What was looked up of keys.
    pub(super) fn stats(&self) -> Option<(Stats, &Tier)> {
        self.keys.as_ref().map(Keys::stats)
    }

    /// Checks a token and remembers it. It may have expired.
    ///
    /// # Errors
    /// When it is not genuine, not for us or not yet valid, or its key cannot be had.
    pub(super) async fn check(
        &self,
        token: &str,
        digest: Digest,
        now: Duration,
    ) -> Result<Arc<Caller>, Refusal> {
        let checked = self.checked(token).await;
        match &checked {
            Ok(caller) => self.verified.learn(digest, Arc::clone(caller), now),
            Err(Refusal::Refused) => self.verified.forget(&digest),
            Err(Refusal::Unavailable(_)) => {}
        }
        checked
    }

    async fn checked(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        let header = Header::of(token).ok_or(Refusal::Refused)?;
        if !self.settings.algorithms.contains(&header.algorithm) {
            return Err(Refusal::Refused);
        }
        let claims = match self.set_for(&header).await? {
            Some(set) => match set.pick(header.kid.as_deref(), header.algorithm) {
                Pick::Key(key) => self.claims(token, key),
                Pick::Wrong | Pick::Unknown => self.claims_by_secret(token, &header),
            },
            None => self.claims_by_secret(token, &header),
        };
        let claims = claims.ok_or(Refusal::Refused)?;
        let caller = claims::caller(&claims, &self.settings, self.clock.now());
        caller.map(Arc::new).ok_or(Refusal::Refused)
    }

    /// The set that has the token's key, if there is one; the set at hand for a token that names
    /// none. `None` where the secret of the settings is all there is for it.
    async fn set_for(&self, header: &Header) -> Result<Option<Arc<KeySet>>, Refusal> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        if header.algorithm == JwtAlgorithm::Hs256 && !self.settings.holds_secrets() {
            return Ok(None);
        }
        let set = keys.set().await.map_err(Refusal::Unavailable)?;
        match &header.kid {
            Some(kid) if !set.has(kid) && self.secret_of(header).is_none() => {
                keys.with(kid).await.map_err(Refusal::Unavailable)
            }
            Some(_) | None => Ok(Some(set)),
        }
    }

    /// The secret of the settings has no name; it checks whatever says HS256.
    fn secret_of(&self, header: &Header) -> Option<&Key> {
        let secret = self.secret.as_ref();
        secret.filter(|_| header.algorithm == JwtAlgorithm::Hs256)
    }

    fn claims_by_secret(&self, token: &str, header: &Header) -> Option<Map<String, Value>> {
        self.claims(token, self.secret_of(header)?)
    }

    /// The claims of a token that this key signed, for us.
    fn claims(&self, token: &str, key: &Key) -> Option<Map<String, Value>> {
        let mut expected = Validation::new(match key.algorithm {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        });
        expected.set_required_spec_claims(&["exp", "iss", "aud"]);
        expected.set_issuer(&[&self.settings.issuer]);
        expected.set_audience(&self.settings.audiences);
        // By our clock, and strictly by type: `claims` does it.
        expected.validate_exp = false;
        let read = jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &expected);
        read.ok().map(|it| it.claims)
    }
}

impl JwtSettings {
    /// Whether the set of keys may hold secrets.
    fn holds_secrets(&self) -> bool {
        self.jwks.as_ref().is_some_and(|it| it.is_private())
    }
}
