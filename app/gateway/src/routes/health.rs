//! Health: for people, for restarts, for balancers. No token is needed, so nothing is shown that
//! a stranger may not see.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;

use crate::gateway::Shared;
use crate::health::{Component, Overall};
use crate::routes::json;
use crate::service::Response;

#[derive(Serialize)]
struct Report<'a> {
    status: Overall,
    components: &'a [Component],
    accept: Accept,
    /// Background tasks that panicked.
    tasks_failed: Vec<String>,
    /// The process was asked to end.
    stopping: bool,
}

#[derive(Serialize)]
struct Accept {
    mode: &'static str,
    /// `null` when unknown.
    loss_window_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Short {
    status: Overall,
}

/// Everything. 503 when the gateway is not ready.
pub(crate) fn all(shared: &Shared) -> Response {
    let (ready, components) = readiness(shared);
    let accept = &shared.settings.accept;
    let report = Report {
        status: ready,
        components: &components,
        accept: Accept {
            mode: accept.mode.as_str(),
            loss_window_seconds: shared.loss_window.now().map(|it| it.as_secs_f64()),
        },
        tasks_failed: shared.tasks.failed(),
        stopping: shared.shutdown.is_stopping(),
    };
    answer(ready, &report)
}

/// Down only when a restart would help: a background task has panicked.
pub(crate) fn live(shared: &Shared) -> Response {
    let status = if shared.tasks.failed().is_empty() {
        Overall::Up
    } else {
        Overall::Down
    };
    answer(status, &Short { status })
}

/// Whether requests should come here.
pub(crate) fn ready(shared: &Shared) -> Response {
    let (status, _) = readiness(shared);
    answer(status, &Short { status })
}

fn readiness(shared: &Shared) -> (Overall, Arc<Vec<Component>>) {
    let (overall, components) = shared.vitals.now();
    let ends = shared.shutdown.is_stopping() || !shared.tasks.failed().is_empty();
    (if ends { Overall::Down } else { overall }, components)
}

fn answer(status: Overall, report: &impl Serialize) -> Response {
    let code = match status {
        Overall::Up | Overall::Degraded => StatusCode::OK,
        Overall::Starting | Overall::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(
        code,
        serde_json::to_vec(report).expect("words and numbers are JSON"),
    )
}
