//! All routes in one table: it makes the router, the 404s and 405s, and is what the OpenAPI
//! document is tested against.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header, request::Parts};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use bytes::Bytes;
use futures_util::FutureExt;
use ratebox_kit::Stopwatch;

use crate::auth::{Attempt, Caller, Scope};
use crate::connection::Peer;
use crate::gateway::Shared;
use crate::limits::{Class, Standing};
use crate::problem::ApiError;
use crate::routes::{health, importer, validation};
use crate::stats::RouteStats;
use crate::{body, openapi, request_id};

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
}

#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Validate,
    ValidationStatus,
    ValidationBatch,
    Import,
    ImportBulk,
    ImportStatus,
    Health,
    Live,
    Ready,
    OpenApi,
}

use Class::{Batch, Bulk, Import, ImportStatus, Status, Validate};
use Scope::{ImportRead, ImportWrite, ValidationRead, ValidationWrite};
use Verb::{Get, Post};

#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    limited(Post, "/api/validation/validate",    Endpoint::Validate,         ValidationWrite, Validate),
    limited(Get,  "/api/validation/status/{id}", Endpoint::ValidationStatus, ValidationRead,  Status),
    limited(Post, "/api/validation/batch",       Endpoint::ValidationBatch,  ValidationWrite, Batch),
    limited(Post, "/api/importer/import",        Endpoint::Import,           ImportWrite,     Import),
    limited(Post, "/api/importer/bulk",          Endpoint::ImportBulk,       ImportWrite,     Bulk),
    limited(Get,  "/api/importer/status/{id}",   Endpoint::ImportStatus,     ImportRead,      ImportStatus),
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
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
        }
    }

    /// What a path with this method only takes.
    fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }

    /// A body is read for this method.
    fn has_body(self) -> bool {
        self == Self::Post
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

/// Makes the router from the table. A path has one method here.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let stats = Arc::new(RouteStats::new(route.path, route.method.as_str()));
        let (here, counted) = (Arc::clone(shared), Arc::clone(&stats));
        let on_route = move |request: Request| {
            let (shared, stats) = (Arc::clone(&here), Arc::clone(&counted));
            async move {
                let serve = |parts, body| serve(&shared, route, parts, body);
                answered(&shared, &stats, request, serve).await
            }
        };
        let refuse = refusing(shared, stats, |_| {
            ApiError::method_not_allowed(route.method.allow())
        });
        let paths = MethodRouter::new()
            .on(route.method.filter(), on_route)
            .fallback(refuse);
        router = router.route(route.path, paths);
    }
    let stats = Arc::new(RouteStats::new("(none)", "(any)"));
    router.fallback(refusing(shared, stats, nowhere))
}

/// A handler that only refuses.
fn refusing(
    shared: &Arc<Shared>,
    stats: Arc<RouteStats>,
    error: impl Fn(&Method) -> ApiError + Clone + Send + Sync + 'static,
) -> impl Fn(Request) -> std::future::Ready<Response> + Clone + Send + Sync + 'static {
    let shared = Arc::clone(shared);
    move |request| {
        let watch = Stopwatch::start();
        let id = request_id::of(request.headers());
        let mut response = error(request.method()).into_response(&id);
        finish(&shared, &mut response, id);
        stats.answered(response.status(), watch.elapsed());
        std::future::ready(response)
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

/// Wraps what answers a request into what every answer has: an id, counters, a safe panic.
async fn answered<A>(
    shared: &Shared,
    stats: &RouteStats,
    request: Request,
    serve: impl FnOnce(Parts, Body) -> A,
) -> Response
where
    A: Future<Output = Answered>,
{
    let watch = Stopwatch::start();
    let (parts, body) = request.into_parts();
    let id = request_id::of(&parts.headers);
    // A handler that panics must not take its connection's other requests along.
    let answered = AssertUnwindSafe(serve(parts, body)).catch_unwind().await;
    let (standing, outcome) =
        answered.unwrap_or_else(|_| (None, Err(ApiError::internal().closing())));
    let mut response = outcome.unwrap_or_else(|error| error.into_response(&id));
    if let Some(standing) = standing {
        standing.tell(response.headers_mut());
    }
    finish(shared, &mut response, id);
    stats.answered(response.status(), watch.elapsed());
    response
}

fn finish(shared: &Shared, response: &mut Response, id: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, id);
    if shared.shutdown.is_stopping() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Token, scope, limit, body, endpoint, in this order.
async fn serve(shared: &Shared, route: &'static Route, parts: Parts, body: Body) -> Answered {
    let now = shared.began.elapsed();
    let caller = match authenticate(shared, route, &parts, now).await {
        Ok(caller) => caller,
        Err(error) => return (None, Err(error)),
    };
    let standing = match (route.limit, &caller) {
        (Some(class), Some(caller)) => Some(shared.limits.take(class, caller, now)),
        (None, _) | (_, None) => None,
    };
    let answered = async {
        if let Some(standing) = &standing {
            standing.check()?;
        }
        let body = if route.method.has_body() {
            body::read(&parts.headers, body, &shared.settings.body).await?
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
    now: std::time::Duration,
) -> Result<Option<Arc<Caller>>, ApiError> {
    let Some(scope) = route.scope else {
        return Ok(None);
    };
    let peer = parts.extensions.get::<Peer>();
    let attempt = Attempt {
        // Only calls from within the process come without a connection.
        address: peer.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0.ip()),
        now,
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
