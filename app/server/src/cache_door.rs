//! Opens the cache service on its address: who calls, and the id that every answer carries.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use ratebox_gateway::{ListenSettings, Right, Service as Serves, Tokens, request_id};
use ratebox_kit::{Clock, Tasks};
use ratebox_origin::{Caller, Need, Service};
use ratebox_store::Store;

use crate::config::{CacheAuth, Config};

/// On every request that is passed on, and on every answer.
const REQUEST_ID: &str = "x-request-id";

/// Checks who calls, then asks the service.
struct Door {
    service: Service,
    /// `None` where anybody may call.
    tokens: Option<Tokens>,
}

/// Takes connections from now on; answers where, with the port that was taken.
///
/// # Errors
/// When the address cannot be used.
pub async fn open(
    config: &Config,
    service: Service,
    store: &Store,
    tasks: &Tasks,
) -> Result<SocketAddr> {
    let listen = config.cache.listen;
    let listener = ratebox_gateway::bind(listen).with_context(|| {
        format!("cache.listen {listen} cannot be used; choose another with --listen")
    })?;
    let address = listener.local_addr()?;
    let tokens = match config.cache.auth {
        CacheAuth::Off => None,
        CacheAuth::Token => {
            let settings = crate::wiring::jwt::auth(config)?;
            Some(Tokens::new(store.clone(), Clock::system(), settings))
        }
    };
    let settings = ListenSettings {
        connections_max: config.gateway.connections_max,
        head_timeout: Duration::from_millis(config.gateway.head_timeout_ms),
        body_timeout: Duration::from_millis(config.gateway.body_timeout_ms),
        idle_timeout: Duration::from_millis(config.gateway.idle_timeout_ms),
        ..ListenSettings::default()
    };
    ratebox_gateway::serve(listener, Door { service, tokens }, settings, tasks);
    Ok(address)
}

impl Door {
    async fn caller(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Caller, Response<Full<Bytes>>> {
        let address = peer.ip();
        let right = match self.service.need(request.method(), request.uri().path()) {
            Need::Nothing => None,
            Need::Read => Some(Right::Read),
            Need::Write => Some(Right::Write),
        };
        let subject = match (&self.tokens, right) {
            (Some(tokens), Some(right)) => {
                let (headers, query) = (request.headers(), request.uri().query());
                Some(tokens.owner(headers, query, address, right).await?)
            }
            (None, _) | (_, None) => None,
        };
        Ok(Caller { subject, address })
    }
}

impl Serves for Door {
    type Body = Full<Bytes>;

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let id = request_id(request.headers());
        // Whoever refuses it logs the id that is answered.
        request.headers_mut().insert(REQUEST_ID, id.clone());
        let mut response = match self.caller(&request, peer).await {
            Ok(caller) => {
                let (parts, body) = request.into_parts();
                self.service.answer(&parts, body, &caller).await
            }
            Err(refusal) => refusal,
        };
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}
