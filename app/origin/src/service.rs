//! The service: what it needs, and how it answers one request.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Body;
use ratebox_cache::{Cache, Limiter, Limits, Locks, Ruling, Tier, WriteQueue};
use ratebox_db::Committed;
use ratebox_kit::{Causes, Clock, Stopwatch, Tasks};

use crate::params::Params;
use crate::pending::{NotApplied, PendingWrite};
use crate::problem::{About, Problem, Response, json, seconds_up};
use crate::read::{GRACE_S, TTL_S};
use crate::resource::{Key, Resource, sources};
use crate::router::{self, Need, Route};
use crate::served::Served;
use crate::stats::AllFigures;
use crate::strategy::{Manner, Strategy};
use crate::untold::Untold;
use crate::{body, bulk, change, health, heavy, openapi, read, recompute, stats};

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Begins the names of all caches; another one forgets everything at once.
    pub version: String,
    /// Lives are shortened by up to this share, 0 to 1.
    pub jitter: f64,
    /// That a value is absent is known for so long.
    pub negative_ttl: Duration,
    /// What a refresh behind the reader's back holds, so that others do not refresh too.
    pub swr_lease: Duration,
    /// What a load holds, so that others wait for it.
    pub lease: Duration,
    /// What each cache takes at most.
    pub limits: Limits,
    /// Header whose text is the limiter's identity of a caller without a token; empty = none is
    /// believed.
    pub identity_header: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: "v1".to_owned(),
            jitter: 0.15,
            negative_ttl: Duration::from_secs(30),
            swr_lease: Duration::from_secs(5),
            lease: Duration::from_secs(5),
            limits: Limits::default(),
            identity_header: String::new(),
        }
    }
}

/// Looks whether something that requests need is there.
pub type Probe = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// What the service needs from the server.
pub struct Deps {
    /// What is served. The first is what `/invalidate/{key}` means.
    pub resources: Vec<Resource>,
    /// The shared tier of all caches.
    pub tier: Tier,
    /// Counts requests by caller.
    pub limiter: Limiter,
    /// One recomputation at a time.
    pub locks: Locks,
    /// Keeps writes that are answered before the origin has them.
    pub queue: Option<Arc<dyn WriteQueue>>,
    /// A folder that outlives the process, for the note that others were not told of a change.
    pub folder: Option<PathBuf>,
    /// Whether tokens can be looked up, where callers need them.
    pub tokens: Option<Probe>,
    /// The text of `/metrics`.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Owns the loads.
    pub tasks: Tasks,
    /// All settings.
    pub settings: Settings,
}

/// Whoever calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The owner of the token; `None` where tokens are not asked for.
    pub subject: Option<String>,
    /// Where the connection comes from.
    pub address: IpAddr,
}

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// What handlers share.
pub(crate) struct Shared {
    served: Vec<Arc<Served>>,
    pub(crate) tier: Tier,
    limiter: Limiter,
    pub(crate) locks: Locks,
    pub(crate) queue: Option<Arc<dyn WriteQueue>>,
    pub(crate) untold: Untold,
    pub(crate) tokens: Option<Probe>,
    metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// The text of `/openapi.json`.
    openapi: Bytes,
    pub(crate) figures: AllFigures,
    pub(crate) began: Stopwatch,
    pub(crate) tasks: Tasks,
    pub(crate) settings: Settings,
}

// === impl Settings ===

impl Settings {
    pub(crate) fn manner(&self) -> Manner {
        Manner {
            jitter: self.jitter,
            negative_ttl: self.negative_ttl,
            swr_lease: self.swr_lease,
            lease: self.lease,
        }
    }
}

// === impl Service ===

impl Service {
    /// Makes a cache for each resource.
    ///
    /// # Errors
    /// When a name or a limit cannot be used, or a resource depends on one that is not declared or on
    /// too many.
    pub fn new(deps: Deps) -> Result<Self, ratebox_cache::Error> {
        let (ttl, grace) = (Duration::from_secs(TTL_S), Duration::from_secs(GRACE_S));
        let usual = Strategy::Singleflight.policy(ttl, grace, deps.settings.manner());
        let openapi = Bytes::from(openapi::document(&deps.resources));
        let cache_name = |resource: &str| format!("{}.{resource}", deps.settings.version);
        let mut caches = Vec::with_capacity(deps.resources.len());
        for resource in &deps.resources {
            let sources = sources(&deps.resources, resource);
            let sources = sources.map_err(|what| ratebox_cache::Error::Settings { what })?;
            let cache: Cache<Key, Bytes> = Cache::builder(cache_name(&resource.name), &deps.tier)
                .policy(usual.clone())
                .limits(deps.settings.limits.clone())
                .clock(deps.clock.clone())
                .tasks(&deps.tasks)
                .made_from(sources.into_iter().map(cache_name))
                .weigh(|value: &Bytes| value.len() as u64)
                .build_with(ratebox_cache::Raw)?;
            caches.push(cache);
        }
        let served = deps.resources.into_iter().zip(caches);
        let served = served.map(|(resource, cache)| {
            let queue = deps.queue.clone();
            Arc::new(Served {
                queue: queue.filter(|_| !resource.declaration.put.is_empty()),
                resource,
                cache,
            })
        });
        let served = served.collect();
        let untold = Untold::new(deps.tier.clone(), deps.folder);
        let noting = untold.clone().follow(deps.tasks.shutdown());
        deps.tasks.spawn("cache untold", noting);
        let shared = Shared {
            served,
            untold,
            tokens: deps.tokens,
            tier: deps.tier,
            limiter: deps.limiter,
            locks: deps.locks,
            queue: deps.queue,
            metrics: deps.metrics,
            openapi,
            figures: AllFigures::new(),
            began: Stopwatch::start(),
            tasks: deps.tasks,
            settings: deps.settings,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Tells others what a process before this one did not tell before it ended: that everything may
    /// have changed. To be called before the first request.
    pub async fn tell_left(&self) {
        let untold = &self.shared.untold;
        let left = untold.left();
        if left.is_empty() {
            return;
        }
        tracing::warn!(
            "a process ended with changes that others were not told of: all values are forgotten"
        );
        let told = recompute::forget(&self.shared).await;
        if let Err(error) = &told {
            tracing::warn!(error = %Causes(error), "others are told when the cache's server is back");
        }
        if untold.note().await {
            untold.remove(&left);
        }
    }

    /// The last thing before the process ends, when its tasks have: others are told what they were
    /// not told yet, or the log says that they were not.
    pub async fn tell_rest(&self) {
        self.shared.untold.last_try().await;
    }

    /// Loads the declared keys, so that the first readers find them.
    pub async fn warm(&self) {
        for served in self.shared.all() {
            let loads = recompute::warm(served).await;
            if let Some(error) = &loads.error {
                let (resource, failed) = (served.resource.name.as_str(), loads.failed);
                tracing::warn!(error = %Causes(error), resource, failed,
                    "declared keys could not be loaded: their first readers load them");
            }
        }
    }

    /// What a request needs, before it is answered.
    pub fn need(&self, method: &Method, path: &str) -> Need {
        router::need(method, path)
    }

    /// Brings a write that was queued to its origin; doing it twice is the same as once. Whoever
    /// calls takes it from what waits then, and calls [`Self::settled`].
    ///
    /// # Errors
    /// [`NotApplied`].
    pub async fn apply(&self, write: &PendingWrite) -> Result<Committed, NotApplied> {
        change::apply(&self.shared, write).await
    }

    /// A write waits no longer, for its origin has it or never will: what the cache has is forgotten.
    pub async fn settled(&self, write: &PendingWrite) {
        change::settled(&self.shared, write).await;
    }

    /// Answers one request of a caller who may make it. Whoever listens has put the id that the
    /// answer gets into its header `x-request-id`.
    pub async fn answer<B>(
        &self,
        parts: &Parts,
        body: B,
        caller: &Caller,
    ) -> hyper::Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answered = AssertUnwindSafe(Box::pin(self.serve(parts, body, caller)))
            .catch_unwind()
            .await;
        let failed = |_| {
            let detail = "something went wrong on our side";
            let about = About {
                request_id: request_id(parts),
                resource: "-",
            };
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response(about)
        };
        answered.unwrap_or_else(failed)
    }

    async fn serve<B>(&self, parts: &Parts, body: B, caller: &Caller) -> Response
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let shared = &*self.shared;
        let route = router::find(shared, &parts.method, &parts.uri);
        let limited = route.as_ref().map_or(true, Route::is_limited);
        let served = route.as_ref().ok().and_then(Route::served).cloned();
        let about = About {
            request_id: request_id(parts),
            resource: served.as_ref().map_or("-", |it| it.resource.name.as_str()),
        };
        let ruling = match limited {
            true => Some(shared.count(parts, caller).await),
            false => None,
        };
        let answer = async {
            if let Some(ruling) = &ruling {
                check(ruling)?;
            }
            run(shared, route?, parts, body).await
        };
        let refused = |problem: Problem| problem.into_response(about);
        let mut response = answer.await.unwrap_or_else(refused);
        if let Some(ruling) = &ruling {
            tell(ruling, response.headers_mut());
        }
        response
    }
}

async fn run<B>(
    shared: &Shared,
    route: Route,
    parts: &Parts,
    content: B,
) -> Result<Response, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match route {
        Route::One(served, key) => read::one(shared, &served, &key, &parts.uri).await,
        Route::Write(served, key) => {
            Params::none(&parts.uri)?;
            let content = body::read(&parts.headers, content).await?;
            Box::pin(change::write(shared, &served, &key, &content)).await
        }
        Route::Many(served) => Box::pin(bulk::many(shared, &served, &parts.uri)).await,
        Route::Invalidate(served, key) => {
            Params::none(&parts.uri)?;
            change::invalidate(shared, &served, &key).await
        }
        Route::Recompute => {
            Params::none(&parts.uri)?;
            Box::pin(recompute::all(shared)).await
        }
        Route::Heavy => heavy::sum(&parts.uri),
        Route::Health => Ok(health::all(shared).await),
        Route::Stats => stats::all(shared).await,
        Route::Metrics => shared.metrics_page(),
        Route::OpenApi => Ok(json(shared.openapi.clone())),
    }
}

/// The id that the answer gets.
fn request_id(parts: &Parts) -> &str {
    let id = parts.headers.get("x-request-id");
    id.and_then(|id| id.to_str().ok()).unwrap_or("-")
}

/// # Errors
/// 429 when the limit is used up.
fn check(ruling: &Ruling) -> Result<(), Problem> {
    match ruling.retry_after {
        None => Ok(()),
        Some(wait) => Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "limit.exceeded",
            "Rate limit exceeded",
        )
        .retry_after(wait)),
    }
}

/// The fields of the IETF draft (draft-ietf-httpapi-ratelimit-headers).
fn tell(ruling: &Ruling, headers: &mut HeaderMap) {
    let reset = seconds_up(ruling.reset_after);
    let state = format!("\"cache\";r={};t={reset}", ruling.remaining);
    let state = HeaderValue::from_str(&state).expect("numbers are a header value");
    headers.insert("ratelimit", state);
    let policy = format!("\"cache\";q={}", ruling.limit);
    let policy = HeaderValue::from_str(&policy).expect("numbers are a header value");
    headers.insert("ratelimit-policy", policy);
}

// === impl Shared ===

impl Shared {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.served.iter()
    }

    pub(crate) fn first(&self) -> Option<&Arc<Served>> {
        self.served.first()
    }

    pub(crate) fn served(&self, name: &str) -> Option<&Arc<Served>> {
        self.served.iter().find(|it| it.resource.name == name)
    }

    /// Counts a request: by the token's owner, else by the header that the settings believe, else
    /// by address.
    async fn count(&self, parts: &Parts, caller: &Caller) -> Ruling {
        let header = &self.settings.identity_header;
        let named = || {
            let text = parts.headers.get(header.as_str())?.to_str().ok()?;
            Some(text.chars().take(100).collect::<String>())
        };
        let key = match &caller.subject {
            Some(subject) => format!("s:{subject}"),
            None => match named().filter(|_| !header.is_empty()) {
                Some(name) => format!("h:{name}"),
                None => format!("a:{}", caller.address),
            },
        };
        self.limiter.take(&key).await
    }

    fn metrics_page(&self) -> Result<Response, Problem> {
        let page = self.metrics.as_ref().ok_or_else(Problem::unknown_path)?;
        let mut response = Response::new(Full::from(page()));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert("content-type", kind);
        Ok(response)
    }
}
