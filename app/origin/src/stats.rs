//! What is counted: by strategy, by resource; `GET /stats`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use serde_json::{Map, json};

use crate::problem::{self, Problem, Response};
use crate::service::Shared;
use crate::strategy::Strategy;

/// Longest wait for the tier's figures.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What was read by one strategy.
pub(crate) struct Figures {
    requests: AtomicU64,
    loads: AtomicU64,
    absent: AtomicU64,
    errors: AtomicU64,
    shared: [Counter; 3],
}

/// What was read by each strategy.
pub(crate) struct AllFigures([Figures; 4]);

/// What a read came to.
type Found = Result<Option<Arc<Bytes>>, ratebox_cache::Error>;

// === impl AllFigures ===

impl AllFigures {
    pub(crate) fn new() -> Self {
        Self(Strategy::ALL.map(|strategy| {
            let of = |outcome: &'static str| {
                metrics::counter!("ratebox_origin_reads_total",
                    "strategy" => strategy.word(), "outcome" => outcome)
            };
            Figures {
                requests: AtomicU64::new(0),
                loads: AtomicU64::new(0),
                absent: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                shared: [of("hit"), of("load"), of("error")],
            }
        }))
    }

    pub(crate) fn of(&self, strategy: Strategy) -> &Figures {
        let [aside, single, swr, negative] = &self.0;
        match strategy {
            Strategy::CacheAside => aside,
            Strategy::Singleflight => single,
            Strategy::Swr => swr,
            Strategy::Negative => negative,
        }
    }
}

// === impl Figures ===

impl Figures {
    pub(crate) fn read(&self, own_load: bool, found: &Found) {
        let one = |figure: &AtomicU64| figure.fetch_add(1, Ordering::Relaxed);
        let [hits, loads, errors] = &self.shared;
        one(&self.requests);
        match found {
            Err(_) => {
                one(&self.errors);
                errors.increment(1);
            }
            Ok(_) if own_load => loads.increment(1),
            Ok(_) => hits.increment(1),
        }
        if own_load {
            one(&self.loads);
        }
        if matches!(found, Ok(None)) {
            one(&self.absent);
        }
    }

    fn shown(&self) -> serde_json::Value {
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (requests, loads) = (of(&self.requests), of(&self.loads));
        json!({
            "requests": requests, "loads": loads, "absent": of(&self.absent),
            "errors": of(&self.errors), "hit_ratio": ratio(requests.saturating_sub(loads), requests),
        })
    }
}

/// `GET /stats`.
///
/// # Errors
/// 503 when the tier does not answer.
pub(crate) async fn all(shared: &Shared) -> Result<Response, Problem> {
    let away = || Problem::unavailable("stats.unavailable", "Unable to retrieve cache stats");
    let usage = tokio::time::timeout(ANSWER_MAX, shared.tier.usage()).await;
    let usage = usage
        .map_err(|_| away())?
        .map_err(|error| away().caused_by(error))?;
    let (mut resources, mut hits, mut reads) = (Map::new(), 0, 0);
    for served in shared.all() {
        let stats = served.cache.stats();
        hits += stats.memory_hits + stats.tier_hits;
        reads += stats.memory_hits + stats.tier_hits + stats.misses;
        let shown = json!({
            "memory_hits": stats.memory_hits, "tier_hits": stats.tier_hits, "stale": stats.stale,
            "misses": stats.misses, "shared_loads": stats.shared_loads, "loads": stats.loads,
            "load_failures": stats.load_failures, "fills": stats.fills,
            "fills_refused": stats.fills_refused, "invalidations": stats.invalidations,
            "tier_errors": stats.tier_errors, "memory_values": stats.memory_values,
            "memory_bytes": stats.memory_bytes, "hit_ratio": stats.hit_ratio(),
        });
        resources.insert(served.resource.name.clone(), shown);
    }
    let strategies: Map<_, _> = Strategy::ALL
        .into_iter()
        .map(|strategy| {
            (
                strategy.word().to_owned(),
                shared.figures.of(strategy).shown(),
            )
        })
        .collect();
    let shown = json!({
        "total_keys": usage.keys, "memory_usage": usage.bytes, "connected": true,
        "uptime_seconds": shared.began.elapsed().as_secs(), "hit_ratio": ratio(hits, reads),
        "strategies": strategies, "resources": resources,
    });
    Ok(problem::json(shown.to_string()))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53rd bit")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
