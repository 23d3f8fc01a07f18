//! Tokens that others sign: an issuer, and a door that believes it.

mod keys;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_gateway::{JwksSource, JwtSettings};
use ratebox_kit::{Clock, PortError, Quota};
use ratebox_testkit::{Answer, JwtKey};
use serde_json::{Value, json};

use crate::door::{Door, ITEM, VALIDATE, code_of, post};

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const SECRET: &str = "a secret of the tests, of 32 bytes and more";

/// Who signs tokens and shows keys.
#[derive(Debug, Default)]
pub(crate) struct Issuer {
    pub(crate) shown: Mutex<Option<Value>>,
    pub(crate) is_private: bool,
    pub(crate) asked: AtomicU64,
}

impl Issuer {
    pub(crate) fn new(keys: &[&JwtKey]) -> Arc<Self> {
        let issuer = Self::default();
        issuer.show(keys);
        Arc::new(issuer)
    }

    pub(crate) fn show(&self, keys: &[&JwtKey]) {
        *self.shown.lock().unwrap() = Some(JwtKey::set(keys));
    }

    pub(crate) fn go_away(&self) {
        *self.shown.lock().unwrap() = None;
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl JwksSource for Issuer {
    async fn fetch(&self) -> Result<Bytes, PortError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let shown = self.shown.lock().unwrap().as_ref().map(Value::to_string);
        let away = || PortError::new("the issuer is away", std::io::Error::other("away"));
        shown.map(Bytes::from).ok_or_else(away)
    }

    fn is_private(&self) -> bool {
        self.is_private
    }
}

pub(crate) fn settings(issuer: &Arc<Issuer>) -> JwtSettings {
    JwtSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["ratebox".to_owned()],
        jwks: Some(Arc::clone(issuer) as _),
        ..JwtSettings::default()
    }
}

/// A door that believes the issuer, by a clock that is moved by hand; nothing is remembered of
/// tokens, so that each request asks for its key.
pub(crate) async fn door(
    issuer: &Arc<Issuer>,
    clock: &Clock,
    change: impl FnOnce(&mut JwtSettings),
) -> Door {
    let mut jwt = settings(issuer);
    change(&mut jwt);
    let clock = clock.clone();
    Door::with(move |plan| {
        plan.clock = clock;
        plan.settings.auth.cache_max_age = Duration::ZERO;
        plan.settings.auth.failures = Quota::per_minute(1000);
        plan.settings.auth.jwt = Some(jwt);
    })
    .await
}

pub(crate) fn clock() -> Clock {
    Clock::manual(Clock::system().now())
}

pub(crate) fn claims(clock: &Clock, subject: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": "ratebox", "sub": subject, "scope": "find create",
        "exp": clock.now().as_second() + 3600,
    })
}

pub(crate) async fn come(door: &Door, token: &str) -> Answer {
    post(&door.anybody().with_token(token), VALIDATE, ITEM.as_bytes()).await
}

pub(crate) async fn status(door: &Door, token: &str) -> u16 {
    come(door, token).await.status
}

pub(crate) fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, code_of(answer))
}
