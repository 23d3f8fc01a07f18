//! All routes in one table: it answers requests, the 404s and 405s, and is what the OpenAPI
//! document is tested against.
//!
//! A table of so few rows needs no framework: a request is found by comparing texts, and its future
//! is made once, where hyper keeps it.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::http::{HeaderValue, Method, header, request::Parts};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::Request;
use hyper::body::{Body as _, Incoming};

use crate::auth::{Attempt, Caller, Scope};
use crate::gateway::Shared;
use crate::limits::{Class, Standing};
use crate::problem::ApiError;
use crate::routes::{
    caches, dead_letters, health, importer, imports, lookups, pauses, sagas, streams, validation,
};
use crate::service::{Response, Service};
use crate::stats::RouteStats;
use crate::{body, openapi, request_id, stats};

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Verb,
    pub(crate) path: &'static str,
    endpoint: Endpoint,
    /// What a token needs; `None` for routes that need no token.
    pub(crate) scope: Option<Scope>,
    pub(crate) limit: Option<Class>,
}

/// The methods that routes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Validate,
    ValidationStatus,
    ValidationBatch,
    Import,
    ImportBulk,
    ImportStatus,
    ImportCancel,
    Letters,
    Letter,
    LettersReplay,
    LetterEdit,
    LetterPurge,
    LettersPurge,
    Imports,
    Streams,
    Consumers,
    Pauses,
    Pause,
    Resume,
    Caches,
    Lookup,
    LookupMany,
    Sagas,
    Saga,
    SagaGraph,
    SagaOrder,
    SagaOrders,
    SagaDefinitions,
    SagaSimulate,
    Health,
    Live,
    Ready,
    OpenApi,
}

impl Route {
    /// Whether it answers at this path. A name in braces stands for one part of a path.
    fn is_at(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        let fits = |known: &str| match parts.next() {
            Some(part) if known.starts_with('{') => !part.is_empty(),
            Some(part) => part == known,
            None => false,
        };
        self.path.split('/').all(fits) && parts.next().is_none()
    }

    /// Who is refused here is counted among the submissions.
    fn takes_submissions(&self) -> bool {
        matches!(
            self.endpoint,
            Endpoint::Validate
                | Endpoint::ValidationBatch
                | Endpoint::Import
                | Endpoint::ImportBulk
        )
    }

    /// A body is read for it.
    fn has_body(&self) -> bool {
        self.method.has_body() && !matches!(self.endpoint, Endpoint::ImportCancel)
    }
}

use Class::{Batch, Bulk, Import, ImportCancel, ImportStatus, Lookup, Status, Validate};
use Scope::{
    ImportRead, ImportWrite, MonitoringRead, MonitoringWrite, ValidationRead, ValidationWrite,
};
use Verb::{Delete, Get, Patch, Post};

#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    limited(Post, "/api/validation/validate",    Endpoint::Validate,         ValidationWrite, Validate),
    limited(Get,  "/api/validation/status/{id}", Endpoint::ValidationStatus, ValidationRead,  Status),
    limited(Post, "/api/validation/batch",       Endpoint::ValidationBatch,  ValidationWrite, Batch),
    limited(Post, "/api/importer/import",        Endpoint::Import,           ImportWrite,     Import),
    limited(Post, "/api/importer/bulk",          Endpoint::ImportBulk,       ImportWrite,     Bulk),
    limited(Get,  "/api/importer/status/{id}",   Endpoint::ImportStatus,     ImportRead,      ImportStatus),
    limited(Post, "/api/importer/cancel/{id}",   Endpoint::ImportCancel,     ImportWrite,     ImportCancel),
    scoped(Post,   "/api/monitoring/dlq/replay", Endpoint::LettersReplay,    MonitoringWrite),
    scoped(Get,    "/api/monitoring/dlq",        Endpoint::Letters,          MonitoringRead),
    scoped(Delete, "/api/monitoring/dlq",        Endpoint::LettersPurge,     MonitoringWrite),
    scoped(Get,    "/api/monitoring/dlq/{id}",   Endpoint::Letter,           MonitoringRead),
    scoped(Patch,  "/api/monitoring/dlq/{id}",   Endpoint::LetterEdit,       MonitoringWrite),
    scoped(Delete, "/api/monitoring/dlq/{id}",   Endpoint::LetterPurge,      MonitoringWrite),
    scoped(Get,    "/api/monitoring/imports",    Endpoint::Imports,          MonitoringRead),
    scoped(Get,    "/api/monitoring/streams",    Endpoint::Streams,          MonitoringRead),
    scoped(Get,    "/api/monitoring/consumers",  Endpoint::Consumers,        MonitoringRead),
    scoped(Get,    "/api/monitoring/pauses",     Endpoint::Pauses,           MonitoringRead),
    scoped(Post,   "/api/monitoring/pauses",     Endpoint::Pause,            MonitoringWrite),
    scoped(Delete, "/api/monitoring/pauses",     Endpoint::Resume,           MonitoringWrite),
    scoped(Get,    "/api/monitoring/cache",      Endpoint::Caches,           MonitoringRead),
    limited(Get,  "/api/lookup/{kind}/{value}",  Endpoint::Lookup,           ValidationRead,  Lookup),
    limited(Post, "/api/lookup",                 Endpoint::LookupMany,       ValidationRead,  Lookup),
    scoped(Get,    "/api/monitoring/sagas",      Endpoint::Sagas,            MonitoringRead),
    scoped(Get,    "/api/monitoring/sagas/{id}", Endpoint::Saga,             MonitoringRead),
    scoped(Get,    "/api/monitoring/sagas/{id}/graph", Endpoint::SagaGraph,  MonitoringRead),
    scoped(Post,   "/api/monitoring/sagas/{id}/orders", Endpoint::SagaOrder, MonitoringWrite),
    scoped(Post,   "/api/monitoring/sagas/orders", Endpoint::SagaOrders,     MonitoringWrite),
    scoped(Get,    "/api/monitoring/saga-definitions", Endpoint::SagaDefinitions, MonitoringRead),
    scoped(Get,    "/api/monitoring/saga-definitions/{id}", Endpoint::SagaSimulate, MonitoringRead),
    open(Get,     "/api/health",                 Endpoint::Health),
    open(Get,     "/api/health/live",            Endpoint::Live),
    open(Get,     "/api/health/ready",           Endpoint::Ready),
    open(Get,     "/openapi.json",               Endpoint::OpenApi),
];

const fn limited(
    method: Verb,
    path: &'static str,
    endpoint: Endpoint,
    scope: Scope,
    limit: Class,
) -> Route {
    Route {
        method,
        path,
        endpoint,
        scope: Some(scope),
        limit: Some(limit),
    }
}

/// For operators, who are not limited.
const fn scoped(method: Verb, path: &'static str, endpoint: Endpoint, scope: Scope) -> Route {
    Route {
        method,
        path,
        endpoint,
        scope: Some(scope),
        limit: None,
    }
}

const fn open(method: Verb, path: &'static str, endpoint: Endpoint) -> Route {
    Route {
        method,
        path,
        endpoint,
        scope: None,
        limit: None,
    }
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Get => *method == Method::GET || *method == Method::HEAD,
            Self::Post => *method == Method::POST,
            Self::Patch => *method == Method::PATCH,
            Self::Delete => *method == Method::DELETE,
        }
    }

    /// What a path with this method only takes.
    fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// A body is read for this method.
    fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Patch)
    }
}

/// What an endpoint gets to see of a request: it is authenticated, within its limit, and read.
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    caller: Option<Arc<Caller>>,
}

impl Call {
    /// Whoever calls.
    ///
    /// # Errors
    /// Never on a route with a scope.
    pub(crate) fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_deref().ok_or_else(ApiError::internal)
    }
}

/// The table at work. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
    stats: Arc<Stats>,
}

/// The handles of each route, in the order of the table.
struct Stats {
    routes: [RouteStats; ROUTES.len()],
    nowhere: RouteStats,
}

impl Router {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let stats = Stats {
            routes: std::array::from_fn(|at| {
                RouteStats::new(ROUTES[at].path, ROUTES[at].method.as_str())
            }),
            nowhere: RouteStats::new("(none)", "(any)"),
        };
        Self {
            shared,
            stats: Arc::new(stats),
        }
    }

    /// The routes at a path, and their handles. A path that is in the table word by word is none of
    /// those with a name in braces.
    fn at(&self, path: &str) -> impl Iterator<Item = (&'static Route, &RouteStats)> {
        let is_named = ROUTES.iter().any(|route| route.path == path);
        let table = ROUTES.iter().zip(&self.stats.routes);
        table.filter(move |(route, _)| match is_named {
            true => route.path == path,
            false => route.is_at(path),
        })
    }

    /// The route of a path and a method, and its handles.
    fn find(&self, path: &str, method: &Method) -> Option<(&'static Route, &RouteStats)> {
        self.at(path).find(|(route, _)| route.method.takes(method))
    }

    /// What is answered where no route takes the request, and where that is counted.
    fn refuse(&self, path: &str, method: &Method) -> (&RouteStats, ApiError) {
        let mut here = self.at(path).peekable();
        let Some((_, stats)) = here.peek().copied() else {
            return (&self.stats.nowhere, nowhere(method));
        };
        let allow: Vec<&str> = here.map(|(route, _)| route.method.allow()).collect();
        (stats, ApiError::method_not_allowed(allow.join(", ")))
    }
}

impl Service for Router {
    type Body = Full<Bytes>;

    /// What every answer has: an id, counters, a safe panic.
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response {
        let now = self.shared.began.elapsed();
        let (parts, body) = request.into_parts();
        // Whoever reads it takes it: what is here in the end was refused unread.
        let mut unread = Some(body);
        let id = request_id::of(&parts.headers);
        let (stats, (standing, outcome)) = match self.find(parts.uri.path(), &parts.method) {
            Some((route, stats)) => {
                let attempt = Attempt {
                    address: peer.ip(),
                    now,
                };
                let served = serve(&self.shared, route, parts, &mut unread, attempt);
                (stats, guarded(served).await)
            }
            None => {
                let (stats, refusal) = self.refuse(parts.uri.path(), &parts.method);
                (stats, (None, Err(refusal)))
            }
        };
        let mut response = outcome.unwrap_or_else(|error| error.into_response(&id));
        let headers = response.headers_mut();
        if let Some(standing) = standing {
            standing.tell(headers);
        }
        headers.insert(request_id::HEADER, id);
        if self.shared.shutdown.is_stopping() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        stats.answered(response.status(), self.shared.began.elapsed() - now);
        // hyper would end the connection as well, but without a word to the client.
        if let Some(rest) = unread.filter(|body| !body.is_end_stream())
            && !Box::pin(body::discard(rest, &self.shared.settings.body)).await
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// Nothing is traced or tunnelled here, at any path.
fn nowhere(method: &Method) -> ApiError {
    if *method == Method::TRACE || *method == Method::CONNECT {
        ApiError::method_not_allowed("GET, HEAD, POST")
    } else {
        ApiError::not_found()
    }
}

/// What a request came to, and how its caller stands.
type Answered = (Option<Standing>, Result<Response, ApiError>);

/// A handler that panics must not take its connection's other requests along.
async fn guarded(served: impl Future<Output = Answered>) -> Answered {
    let served = AssertUnwindSafe(served).catch_unwind().await;
    served.unwrap_or_else(|_| (None, Err(ApiError::internal().closing())))
}

/// Token, scope, limit, body, endpoint, in this order. The body is taken when it is read.
async fn serve(
    shared: &Shared,
    route: &Route,
    parts: Parts,
    unread: &mut Option<Incoming>,
    attempt: Attempt,
) -> Answered {
    let caller = match authenticate(shared, route, &parts, attempt).await {
        Ok(caller) => caller,
        Err(error) => {
            // Without the store no submission gets further than this.
            if route.takes_submissions() && error.is_unavailable() {
                stats::accept_refused(stats::AUTH_DOWN, 1);
            }
            return (None, Err(error));
        }
    };
    let standing = match (route.limit, &caller) {
        (Some(class), Some(caller)) if shared.limits.is_shared() => {
            let counted = shared.limits.take_shared(class, caller, attempt.now);
            Some(Box::pin(counted).await)
        }
        (Some(class), Some(caller)) => Some(shared.limits.take(class, caller, attempt.now)),
        (None, _) | (_, None) => None,
    };
    let answered = async {
        if let Some(standing) = &standing {
            standing.check()?;
        }
        let body = if route.has_body() {
            body::read(&parts.headers, unread, &shared.settings.body).await?
        } else {
            Bytes::new()
        };
        let call = Call {
            parts,
            body,
            caller,
        };
        run(shared, route.endpoint, &call).await
    };
    let outcome = answered.await;
    (standing, outcome)
}

async fn authenticate(
    shared: &Shared,
    route: &Route,
    parts: &Parts,
    attempt: Attempt,
) -> Result<Option<Arc<Caller>>, ApiError> {
    let Some(scope) = route.scope else {
        return Ok(None);
    };
    let caller = shared
        .auth
        .caller(&parts.headers, parts.uri.query(), attempt)
        .await?;
    caller.check(scope)?;
    Ok(Some(caller))
}

/// The road of a validation is kept lean; the other futures are made where they are needed.
async fn run(shared: &Shared, endpoint: Endpoint, call: &Call) -> Result<Response, ApiError> {
    match endpoint {
        Endpoint::Validate => validation::validate(shared, call).await,
        Endpoint::ValidationStatus => Box::pin(validation::status(shared, call)).await,
        Endpoint::ValidationBatch => Box::pin(validation::batch(shared, call)).await,
        Endpoint::Import => Box::pin(importer::import(shared, call)).await,
        Endpoint::ImportBulk => Box::pin(importer::bulk(shared, call)).await,
        Endpoint::ImportStatus => Box::pin(importer::status(shared, call)).await,
        Endpoint::ImportCancel => Box::pin(importer::cancel(shared, call)).await,
        Endpoint::Letters => Box::pin(dead_letters::list(shared, call)).await,
        Endpoint::Letter => Box::pin(dead_letters::show(shared, call)).await,
        Endpoint::LettersReplay => Box::pin(dead_letters::replay(shared, call)).await,
        Endpoint::LetterEdit => Box::pin(dead_letters::edit(shared, call)).await,
        Endpoint::LetterPurge => Box::pin(dead_letters::purge_one(shared, call)).await,
        Endpoint::LettersPurge => Box::pin(dead_letters::purge(shared, call)).await,
        Endpoint::Imports => Box::pin(imports::list(shared, call)).await,
        Endpoint::Streams => Box::pin(streams::streams(shared, call)).await,
        Endpoint::Consumers => Box::pin(streams::consumers(shared, call)).await,
        Endpoint::Pauses => Box::pin(pauses::list(shared, call)).await,
        Endpoint::Pause => Box::pin(pauses::pause(shared, call)).await,
        Endpoint::Resume => Box::pin(pauses::resume(shared, call)).await,
        Endpoint::Caches => Box::pin(caches::caches(shared, call)).await,
        Endpoint::Lookup => Box::pin(lookups::one(shared, call)).await,
        Endpoint::LookupMany => Box::pin(lookups::many(shared, call)).await,
        Endpoint::Sagas => Box::pin(sagas::list(shared, call)).await,
        Endpoint::Saga => Box::pin(sagas::show(shared, call)).await,
        Endpoint::SagaGraph => Box::pin(sagas::graph(shared, call)).await,
        Endpoint::SagaOrder => Box::pin(sagas::order(shared, call)).await,
        Endpoint::SagaOrders => Box::pin(sagas::order_many(shared, call)).await,
        Endpoint::SagaDefinitions => Box::pin(sagas::definitions(shared, call)).await,
        Endpoint::SagaSimulate => Box::pin(sagas::simulate(shared, call)).await,
        Endpoint::Health => Ok(health::all(shared)),
        Endpoint::Live => Ok(health::live(shared)),
        Endpoint::Ready => Ok(health::ready(shared)),
        Endpoint::OpenApi => Ok(openapi::document()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_and_the_document_name_the_same_routes_with_the_same_scopes() {
        let document: serde_json::Value = serde_json::from_str(openapi::OPENAPI).unwrap();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let scope = operation["security"][0]["token"][0].as_str().unwrap_or("-");
                let limited = operation.get("x-limit-per-minute").is_some();
                documented.insert((
                    method.to_uppercase(),
                    path.clone(),
                    scope.to_owned(),
                    limited,
                ));
            }
        }
        let of_table = ROUTES.iter().map(|route| {
            let scope = route.scope.map_or("-", Scope::as_str);
            let (method, path) = (route.method.as_str().to_owned(), route.path.to_owned());
            (method, path, scope.to_owned(), route.limit.is_some())
        });
        assert_eq!(of_table.collect::<BTreeSet<_>>(), documented);
    }
}
