//! What is measured, and where it is read.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use ratebox_gateway::ListenSettings;
use ratebox_kit::{Shutdown, Tasks};

use crate::config::MetricsConfig;
use crate::readiness::Readiness;

/// Bounds of all histograms, in seconds: from a fast commit to the slowest objective.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 30.0,
];

/// How often old samples are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts measuring. Must come before anything that takes a handle of a metric.
///
/// # Errors
/// When it was started before.
pub fn start(tasks: &Tasks) -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("the bounds of the histograms")?
        .install_recorder()
        .context("metrics were started twice")?;
    describe();
    metrics::gauge!("ratebox_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tasks.spawn("metrics-upkeep", upkeep(handle.clone(), tasks.shutdown()));
    Ok(handle)
}

/// Tells what each metric means: each crate its own, and here those of caches and of the binary.
fn describe() {
    ratebox_gateway::describe_metrics();
    ratebox_outbox::describe_metrics();
    ratebox_saga::describe_metrics();
    ratebox_stream::describe_metrics();
    ratebox_worker::describe_metrics();
    let counters = [
        (
            "ratebox_cache_reads_total",
            "Reads of a cache by where the answer was found",
        ),
        (
            "ratebox_cache_absent_total",
            "Answers that there is no value",
        ),
        (
            "ratebox_cache_loads_total",
            "Loads of a cache from its origin",
        ),
        ("ratebox_cache_load_failures_total", "Loads that failed"),
        (
            "ratebox_cache_fills_total",
            "Loaded values by whether they were kept",
        ),
        (
            "ratebox_cache_invalidations_total",
            "Keys, tags and whole caches that were invalidated",
        ),
        (
            "ratebox_cache_tier_errors_total",
            "Calls of the server of a cache that failed",
        ),
        (
            "ratebox_cache_replica_reads_total",
            "Reads that the replica of the server answered",
        ),
        (
            "ratebox_origin_reads_total",
            "Reads of the cache service by strategy and outcome",
        ),
        (
            "ratebox_origin_calls_total",
            "Calls of the origin of a resource",
        ),
    ];
    for (name, meaning) in counters {
        metrics::describe_counter!(name, meaning);
    }
    let gauges = [
        (
            "ratebox_cache_reader_up",
            "1 while the replica of the cache answers",
        ),
        ("ratebox_build_info", "1; the label is the version"),
    ];
    for (name, meaning) in gauges {
        metrics::describe_gauge!(name, meaning);
    }
    let histograms = [("ratebox_cache_load_seconds", "Seconds of a load of a cache")];
    for (name, meaning) in histograms {
        metrics::describe_histogram!(name, meaning);
    }
}

async fn upkeep(handle: PrometheusHandle, shutdown: Shutdown) {
    while shutdown.sleep(UPKEEP).await {
        handle.run_upkeep();
    }
}

/// Serves `/metrics` and `/ready` on a listener of its own, if there is an address. Answers where,
/// with the port that was taken.
///
/// # Errors
/// When the address cannot be used.
pub async fn serve(
    config: &MetricsConfig,
    handle: PrometheusHandle,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Option<SocketAddr>> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let unusable = || {
        format!(
            "metrics.listen {} cannot be used; choose another with --metrics-listen, or none with \
             --metrics-listen \"\" (each process of a machine has its own)",
            config.listen
        )
    };
    let address = config.listen.parse().with_context(unusable)?;
    let listener = ratebox_gateway::bind(address).with_context(unusable)?;
    let address = listener.local_addr()?;
    let page = move || {
        let text = handle.render();
        async move {
            (
                [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                text,
            )
        }
    };
    let readiness = readiness.clone();
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/ready", get(async move || readiness.answer()));
    ratebox_gateway::serve(listener, router, ListenSettings::default(), tasks);
    Ok(Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_with_what_to_choose_instead() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = MetricsConfig {
            listen: taken.local_addr().unwrap().to_string(),
        };
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let tasks = Tasks::new();
        let refused = serve(&config, handle, &Readiness::of(&tasks), &tasks).await;
        let said = format!("{:#}", refused.unwrap_err());
        assert!(said.contains(&config.listen), "{said}");
        assert!(said.contains("--metrics-listen"), "{said}");
    }
}
