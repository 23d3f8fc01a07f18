//! The check of bearer tokens for services beside the gateway's own routes.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};
use ratebox_kit::{Clock, Stopwatch};
use ratebox_store::Store;

use crate::auth::{Attempt, Auth, Scope};
use crate::problem::ApiError;
use crate::service::Response;
use crate::settings::AuthSettings;

/// What a token must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// `validation:read`.
    Read,
    /// `validation:write`.
    Write,
}

/// Checks tokens as the gateway does: with its cache, its limits and its answers.
#[derive(Debug)]
pub struct Tokens {
    auth: Auth,
    began: Stopwatch,
}

// === impl Tokens ===

impl Tokens {
    /// Looks tokens up in a store.
    pub fn new(store: Store, clock: Clock, settings: AuthSettings) -> Self {
        Self {
            auth: Auth::new(store, clock, settings),
            began: Stopwatch::start(),
        }
    }

    /// The owner of the token that a request carries.
    ///
    /// # Errors
    /// The answer to give instead: 401, 403, 429 or 503.
    pub async fn owner(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        address: IpAddr,
        right: Right,
    ) -> Result<String, Response> {
        let now = self.began.elapsed();
        let scope = match right {
            Right::Read => Scope::ValidationRead,
            Right::Write => Scope::ValidationWrite,
        };
        let checked = async {
            let attempt = Attempt { address, now };
            let caller = self.auth.caller(headers, query, attempt).await?;
            caller.check(scope)?;
            Ok::<_, ApiError>(caller.owner.clone())
        };
        let answer = |error: ApiError| error.into_response(&request_id(headers));
        checked.await.map_err(answer)
    }
}

/// The id of a request: the client's own when it is harmless, else a new one.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    crate::request_id::of(headers)
}
