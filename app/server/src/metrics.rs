//! What is measured, and where it is read.

use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use ratebox_gateway::ListenSettings;
use ratebox_kit::{Shutdown, Tasks};
use tokio::net::TcpListener;

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
    metrics::gauge!("ratebox_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tasks.spawn("metrics-upkeep", upkeep(handle.clone(), tasks.shutdown()));
    Ok(handle)
}

async fn upkeep(handle: PrometheusHandle, shutdown: Shutdown) {
    while shutdown.sleep(UPKEEP).await {
        handle.run_upkeep();
    }
}

/// Serves `/metrics` and `/ready` on a listener of its own, if there is an address.
///
/// # Errors
/// When the address cannot be used.
pub async fn serve(
    config: &MetricsConfig,
    handle: PrometheusHandle,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<()> {
    if config.listen.is_empty() {
        return Ok(());
    }
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("metrics.listen {} cannot be used", config.listen))?;
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
    Ok(())
}
