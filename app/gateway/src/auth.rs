//! Who calls, and what they may do: bearer tokens, looked up through a small cache, by one request
//! at a time for each token.
//!
//! An API token is `rb_<live|test>_<id>_<secret>`; where the settings name keys, a JWT is taken as
//! well. A request with a known token costs one SHA-256 and one look-up in memory. Refused tokens
//! all get the same answer, after the same work, and are counted against the address that they came
//! from.

mod cache;
mod jwt;
mod scope;

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use ratebox_cache::{Loaded, Stats, Tier};
use ratebox_intake::Profile;
use ratebox_kit::{Clock, Limiter, Timestamp, id};
use ratebox_store::{Store, Token};

use self::cache::{Cache, Known};
pub use self::jwt::{JwksError, JwksReport, inspect_jwks};
use self::jwt::{Jwt, Refusal};
pub(crate) use self::scope::Scope;
use self::scope::Scopes;
use crate::limits;
use crate::problem::ApiError;
use crate::settings::AuthSettings;
use crate::unshared;

/// Longest `Authorization` that is looked at where no JWT is taken; an API token has about 90 bytes.
const AUTHORIZATION_MAX_BYTES: usize = 512;
/// Names in a query string that look like somebody put a secret there.
const SECRET_NAMES: [&str; 8] = [
    "token",
    "access_token",
    "api_token",
    "api_key",
    "apikey",
    "authorization",
    "id_token",
    "jwt",
];

/// Whoever owns the token of a request.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) owner: String,
    pub(crate) token_id: String,
    pub(crate) profile: Option<Profile>,
    /// The token's own limit on each class of routes.
    pub(crate) limit_per_minute: Option<u32>,
    scopes: Scopes,
    secret_hash: [u8; 32],
    /// Made as `rb_live_…`, else as `rb_test_…`.
    live: bool,
    expires_at: Option<Timestamp>,
    revoked: bool,
}

/// What a request shows of its API token, beside the public id.
struct Shown {
    live: bool,
    hash: [u8; 32],
}

impl Caller {
    fn of(token: Token) -> Option<Self> {
        Some(Self {
            profile: token.profile.as_deref().and_then(Profile::from_word),
            limit_per_minute: token.limit_per_minute,
            scopes: Scopes::of(&token.scopes),
            secret_hash: token.secret_hash.as_ref().try_into().ok()?,
            live: token.live,
            expires_at: token.expires_at,
            revoked: token.revoked_at.is_some(),
            owner: token.owner,
            token_id: token.id,
        })
    }

    /// Whether it is this token that was shown, as it was made.
    fn is(&self, shown: &Shown) -> bool {
        same(&self.secret_hash, &shown.hash) && self.live == shown.live
    }

    /// # Errors
    /// 403 without the scope.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.has(scope) {
            return Ok(());
        }
        let detail = format!("this needs a token with the scope {}", scope.as_str());
        Err(ApiError::new(
            axum::http::StatusCode::FORBIDDEN,
            "scope.missing",
            detail,
        ))
    }
}

/// Where and when a token was presented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) address: IpAddr,
    /// Time since this process began.
    pub(crate) now: Duration,
}

/// Checks tokens.
pub(crate) struct Auth {
    store: Store,
    clock: Clock,
    settings: AuthSettings,
    cache: Cache,
    jwt: Option<Jwt>,
    flights: ratebox_cache::Cache<str, Learnt>,
    failures: Limiter,
}

/// What the store said of a token, and when it was asked.
struct Learnt {
    caller: Option<Arc<Caller>>,
    at: Duration,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(store: Store, clock: Clock, settings: AuthSettings) -> Self {
        let cache = Cache::new(settings.cache_max_age, settings.cache_max);
        // Of this library's cache only that a crowd looks a token up once. What is remembered stays
        // in ours: it knows a token of late from one that was never seen, and no crowd of absent
        // ones pushes it out.
        let nothing_kept = (0, (|_| 0) as fn(&Learnt) -> u64);
        let flights = unshared::cache(
            "tokens",
            clock.clone(),
            settings.cache_max_age,
            nothing_kept,
        );
        Self {
            jwt: Jwt::new(&settings, &clock),
            flights,
            store,
            clock,
            settings,
            cache,
            failures: Limiter::new(),
        }
    }

    /// What was looked up.
    pub(crate) fn stats(&self) -> (Stats, &Tier) {
        (self.flights.stats(), self.flights.tier())
    }

    /// What was looked up of keys of JWTs; `None` where there are none to look up.
    pub(crate) fn jwks_stats(&self) -> Option<(Stats, &Tier)> {
        self.jwt.as_ref()?.stats()
    }

    /// Whose token the request carries.
    ///
    /// # Errors
    /// 401 without a valid token, 429 after too many refused ones from one address, 503 when it
    /// is not known and the store cannot be asked.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        attempt: Attempt,
    ) -> Result<Arc<Caller>, ApiError> {
        if query.is_some_and(names_a_secret) {
            return Err(ApiError::unauthorized(
                "auth.token_in_query",
                "a token belongs into the Authorization header; treat this one as published",
            ));
        }
        let bytes_max = match &self.jwt {
            Some(jwt) => jwt.authorization_max_bytes().max(AUTHORIZATION_MAX_BYTES),
            None => AUTHORIZATION_MAX_BYTES,
        };
        let token = bearer(headers, bytes_max)?;
        let Some((id, live, secret)) = token.and_then(split) else {
            if let (Some(jwt), Some(token)) = (&self.jwt, token)
                && jwt.may_be_one(token)
            {
                return self.caller_of(jwt, token, attempt).await;
            }
            self.charge(attempt)?;
            return Err(refused());
        };
        let hash = id::sha256(secret.as_bytes());
        let shown = Shown { live, hash };
        match self.cache.find(id, attempt.now) {
            Known::Fresh(caller) => self.judge(Some(caller), &shown, attempt),
            Known::Absent => self.judge(None, &shown, attempt),
            // Rare, and large: the store's futures are not part of every request's.
            Known::Due(caller) => Box::pin(self.refresh(caller, &shown, attempt)).await,
            Known::Late(caller) if caller.is(&shown) => {
                let caller = Box::pin(self.look_up(id, attempt.now)).await?;
                self.judge(caller, &shown, attempt)
            }
            // Who was refused too often may not make the store look; a crowd that comes with a
            // good token nobody has seen yet is charged nothing.
            Known::Late(_) | Known::Nothing => {
                self.may_look_up(attempt)?;
                let caller = Box::pin(self.look_up(id, attempt.now)).await?;
                self.judge(caller, &shown, attempt)
            }
        }
    }

    /// Whom a JWT stands for.
    async fn caller_of(
        &self,
        jwt: &Jwt,
        token: &str,
        attempt: Attempt,
    ) -> Result<Arc<Caller>, ApiError> {
        let digest = id::sha256(token.as_bytes());
        match jwt.find(&digest, attempt.now) {
            jwt::Known::Fresh(caller) => return self.unexpired(caller),
            jwt::Known::Late => {}
            // Checking a signature is work: not for who was refused too often.
            jwt::Known::Nothing => self.may_look_up(attempt)?,
        }
        match Box::pin(jwt.check(token, digest, attempt.now)).await {
            Ok(caller) => self.unexpired(caller),
            Err(Refusal::Refused) => {
                self.charge(attempt)?;
                Err(refused())
            }
            Err(Refusal::Unavailable(error)) => {
                let detail =
                    "the keys that this token could be checked with cannot be had just now";
                Err(ApiError::unavailable("auth.unavailable", detail).caused_by(error))
            }
        }
    }

    /// A genuine token that has ended is nobody's guess: it is told so, and not counted.
    fn unexpired(&self, caller: Arc<Caller>) -> Result<Arc<Caller>, ApiError> {
        if caller.expires_at.is_some_and(|end| self.clock.now() >= end) {
            let detail = "the token has expired; get a new one";
            return Err(ApiError::unauthorized("auth.expired", detail));
        }
        Ok(caller)
    }

    /// Looks an aging token up again, while others go on with what is known. What is known
    /// serves as long as the store does not answer and it is not too old.
    async fn refresh(
        &self,
        known: Arc<Caller>,
        shown: &Shown,
        attempt: Attempt,
    ) -> Result<Arc<Caller>, ApiError> {
        // Whatever becomes of this look, the turn ends with it: the next one is somebody else's.
        let _turn = self.cache.turn(&known.token_id);
        if !known.is(shown) {
            return self.judge(Some(Arc::clone(&known)), shown, attempt);
        }
        let caller = match self.look_up(&known.token_id, attempt.now).await {
            Ok(caller) => caller,
            Err(_) => Some(Arc::clone(&known)),
        };
        self.judge(caller, shown, attempt)
    }

    async fn look_up(&self, id: &str, now: Duration) -> Result<Option<Arc<Caller>>, ApiError> {
        let (store, owned) = (self.store.clone(), id.to_owned());
        let load = move || async move {
            let token = store.token(&owned).await?;
            let caller = token.and_then(Caller::of).map(Arc::new);
            let learnt = Loaded::value(Learnt { caller, at: now }).not_kept();
            Ok::<_, ratebox_store::Error>(learnt)
        };
        let learnt = self.flights.get_or_load(id, load).await.map_err(|error| {
            ApiError::unavailable("auth.unavailable", "tokens cannot be checked just now")
                .caused_by(error)
        })?;
        let (caller, at) = learnt.map_or((None, now), |it| (it.caller.clone(), it.at));
        self.cache.learn(id, caller.clone(), at);
        Ok(caller)
    }

    /// The verdict; a refusal is charged.
    fn judge(
        &self,
        caller: Option<Arc<Caller>>,
        shown: &Shown,
        attempt: Attempt,
    ) -> Result<Arc<Caller>, ApiError> {
        match self.verdict(caller, shown) {
            Some(caller) => Ok(caller),
            None => {
                self.charge(attempt)?;
                Err(refused())
            }
        }
    }

    fn verdict(&self, caller: Option<Arc<Caller>>, shown: &Shown) -> Option<Arc<Caller>> {
        let Some(caller) = caller else {
            // The same work as for a wrong secret.
            black_box(same(&[0; 32], &shown.hash));
            return None;
        };
        let right = caller.is(shown);
        let expired = caller.expires_at.is_some_and(|end| self.clock.now() >= end);
        (right && !caller.revoked && !expired).then_some(caller)
    }

    /// Refuses an address that was refused too often, without counting.
    fn may_look_up(&self, attempt: Attempt) -> Result<(), ApiError> {
        let key = network(attempt.address);
        let decision = self
            .failures
            .look(&key, self.settings.failures, attempt.now);
        if decision.allowed {
            Ok(())
        } else {
            Err(limits::too_many_failures(decision.wait))
        }
    }

    /// Counts a refusal.
    fn charge(&self, attempt: Attempt) -> Result<(), ApiError> {
        let key = network(attempt.address);
        let decision = self
            .failures
            .take(&key, self.settings.failures, attempt.now);
        if decision.allowed {
            Ok(())
        } else {
            Err(limits::too_many_failures(decision.wait))
        }
    }
}

fn refused() -> ApiError {
    ApiError::unauthorized("auth.refused", "the token is not valid")
}

/// The text after `Bearer`; `None` when it is no such thing.
fn bearer(headers: &HeaderMap, bytes_max: usize) -> Result<Option<&str>, ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return match headers.contains_key(header::AUTHORIZATION) {
            true => Ok(None),
            false => Err(ApiError::unauthorized(
                "auth.missing",
                "send a token: Authorization: Bearer rb_…",
            )),
        };
    };
    if value.len() > bytes_max {
        return Ok(None);
    }
    let text = value.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or_default();
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()))
}

/// The public id of a token, whether it is a live one, and the secret.
fn split(token: &str) -> Option<(&str, bool, &str)> {
    let rest = token.strip_prefix("rb_")?;
    let (live, rest) = match rest.strip_prefix("live_") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix("test_")?),
    };
    let (id, secret) = rest.split_once('_')?;
    let plain = |text: &str| {
        (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    (plain(id) && plain(secret)).then_some((id, live, secret))
}

fn names_a_secret(query: &str) -> bool {
    query.contains("rb_live_")
        || query.contains("rb_test_")
        || query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            SECRET_NAMES
                .iter()
                .any(|secret| name.eq_ignore_ascii_case(secret))
        })
}

/// Compares without telling by its duration where the difference is.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |sum, (left, right)| sum | (left ^ right));
    black_box(difference) == 0
}

/// The address, or its /64: one customer's IPv6 addresses are all in one.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use ratebox_db::{Db, SqliteSettings};
    use ratebox_store::NewToken;

    use super::*;

    fn bearing(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = format!("Bearer {token}").parse().unwrap();
        headers.insert(header::AUTHORIZATION, value);
        headers
    }

    #[tokio::test]
    async fn a_wrong_secret_does_not_keep_an_aging_token_from_being_looked_up_again() {
        let db = Db::sqlite(&SqliteSettings::memory()).unwrap();
        let store = Store::new(db, Clock::system());
        store.migrate().await.unwrap();
        let new = NewToken {
            owner: "ann".to_owned(),
            name: "test".to_owned(),
            scopes: vec!["admin".to_owned()],
            profile: None,
            limit_per_minute: None,
            live: false,
            expires_at: None,
        };
        let (token, secret) = store.create_token(new).await.unwrap();
        let auth = Auth::new(store, Clock::system(), AuthSettings::default());
        let at = |seconds| Attempt {
            address: IpAddr::from([127, 0, 0, 1]),
            now: Duration::from_secs(seconds),
        };
        let good = bearing(secret.reveal());
        assert!(auth.caller(&good, None, at(0)).await.is_ok());
        // Three fifths of the five seconds.
        let wrong = bearing(&format!("{}x", secret.reveal()));
        assert!(auth.caller(&wrong, None, at(3)).await.is_err());
        let known = auth.cache.find(&token.id, at(3).now);
        assert!(matches!(known, Known::Due(_)), "{known:?}");
    }

    #[test]
    fn a_token_is_split_and_anything_else_is_not() {
        assert_eq!(
            split("rb_live_ab12_s-e_cret"),
            Some(("ab12", true, "s-e_cret"))
        );
        assert_eq!(split("rb_test_ab12_s"), Some(("ab12", false, "s")));
        let bad = [
            "",
            "rb_",
            "rb_live_",
            "rb_prod_a_b",
            "rb_live_a",
            "rb_live__b",
            "rb_live_a_b c",
        ];
        assert!(bad.iter().all(|token| split(token).is_none()));
    }

    #[test]
    fn a_secret_in_a_query_is_noticed() {
        assert!(names_a_secret("wait=3&token=x"));
        assert!(names_a_secret("Access_Token="));
        assert!(names_a_secret("a=rb_live_x_y"));
        assert!(!names_a_secret("wait=3&entry=tokens/1-1"));
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        assert_eq!(network("192.0.2.7".parse().unwrap()), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7".parse().unwrap()), "192.0.2.7");
        let one = network("2001:db8:1:2:3::4".parse().unwrap());
        assert_eq!(one, network("2001:db8:1:2:ffff::1".parse().unwrap()));
    }
}
