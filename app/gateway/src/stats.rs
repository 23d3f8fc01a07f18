//! All metrics of the gateway.
//!
//! What a request touches is a handle made once (a name and labels are looked up then, not for
//! every request); the rest goes through the macros.

use std::time::Duration;

use axum::http::StatusCode;
use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// Answered requests by route, method and status class.
const HTTP_REQUESTS: &str = "ratebox_http_requests_total";
/// From the head to the answer, in seconds, by route.
const HTTP_SECONDS: &str = "ratebox_http_request_seconds";
/// Open connections.
const HTTP_CONNECTIONS: &str = "ratebox_http_connections";
/// Connections that we ended, by reason.
const HTTP_CLOSED: &str = "ratebox_http_connections_closed_total";
/// Accepted requests by source.
const REQUESTS: &str = "ratebox_requests_total";
/// One commit or append of submissions, in seconds.
const ACCEPT_SECONDS: &str = "ratebox_accept_seconds";
/// Submissions of one commit or append.
const ACCEPT_BATCH: &str = "ratebox_accept_batch_submissions";
/// Submissions that were not accepted, by reason.
const ACCEPT_REFUSED: &str = "ratebox_accept_refused_total";
/// The reason where a token could not be checked.
pub(crate) const AUTH_DOWN: &str = "auth_down";
/// Commits whose publication was left to the relay because the queue was full.
const PUBLISH_LEFT: &str = "ratebox_accept_publish_left_total";
/// Seconds of accepted requests that a power cut may cost.
const LOSS_WINDOW: &str = "accept_loss_window_seconds";
/// Clients that wait for an answer.
const WAITERS: &str = "ratebox_answer_waiters";

/// Fetches of the keys of JWTs, by outcome.
const JWKS_FETCHES: &str = "ratebox_jwks_fetches_total";

/// Tells the recorder what each metric means.
pub fn describe_metrics() {
    describe_counter!(
        HTTP_REQUESTS,
        "Answered requests by route, method and status class"
    );
    describe_histogram!(
        HTTP_SECONDS,
        "Seconds from the head of a request to its answer"
    );
    describe_gauge!(
        HTTP_CONNECTIONS,
        "Open connections of all listeners, that of metrics among them"
    );
    describe_counter!(HTTP_CLOSED, "Connections that the gateway ended, by reason");
    describe_counter!(REQUESTS, "Accepted requests by source");
    describe_histogram!(
        ACCEPT_SECONDS,
        "Seconds of one commit or append of submissions"
    );
    describe_histogram!(ACCEPT_BATCH, "Submissions of one commit or append");
    describe_counter!(
        ACCEPT_REFUSED,
        "Submissions that were not accepted, by reason"
    );
    describe_counter!(
        PUBLISH_LEFT,
        "Commits whose publication was left to the relay"
    );
    describe_gauge!(
        LOSS_WINDOW,
        "Seconds of accepted requests that a power cut may cost"
    );
    describe_gauge!(WAITERS, "Clients that wait for an answer");
    describe_counter!(JWKS_FETCHES, "Fetches of the keys of JWTs, by outcome");
}

/// The handles of one route.
#[derive(Debug)]
pub(crate) struct RouteStats {
    /// By status class, 1xx first.
    requests: [Counter; 5],
    seconds: Histogram,
}

impl RouteStats {
    pub(crate) fn new(route: &'static str, method: &'static str) -> Self {
        let of = |class: &'static str| counter!(HTTP_REQUESTS, "route" => route, "method" => method, "status_class" => class);
        Self {
            requests: [of("1xx"), of("2xx"), of("3xx"), of("4xx"), of("5xx")],
            seconds: histogram!(HTTP_SECONDS, "route" => route, "method" => method),
        }
    }

    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.requests[class - 1].increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}

/// The handles of the way from a submission to its 202.
#[derive(Debug)]
pub(crate) struct AcceptStats {
    extension: Counter,
    importer: Counter,
    api: Counter,
    other: Counter,
    seconds: Histogram,
    batch: Histogram,
}

impl AcceptStats {
    pub(crate) fn new() -> Self {
        let of = |source: &'static str| counter!(REQUESTS, "source" => source);
        Self {
            extension: of("extension"),
            importer: of("importer"),
            api: of("api"),
            other: of("other"),
            seconds: histogram!(ACCEPT_SECONDS),
            batch: histogram!(ACCEPT_BATCH),
        }
    }

    /// The counter of accepted requests of a source. Sources are free words of clients; only the
    /// known ones become labels.
    pub(crate) fn accepted(&self, source: &str) -> &Counter {
        match source {
            "extension" => &self.extension,
            "importer" => &self.importer,
            "api" => &self.api,
            _ => &self.other,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "batches are small numbers")]
    pub(crate) fn batch(&self, submissions: usize, took: Duration) {
        self.batch.record(submissions as f64);
        self.seconds.record(took.as_secs_f64());
    }
}

/// The keys of JWTs were fetched, or could not be.
pub(crate) fn jwks_fetched(well: bool) {
    let outcome = if well { "ok" } else { "failed" };
    counter!(JWKS_FETCHES, "outcome" => outcome).increment(1);
}

/// Makes the counters of refusals, for these reasons and for tokens that could not be checked. They
/// are there from the start: what watches a counter sees it grow, and does not see it begin.
pub(crate) fn begin_refusals(reasons: &[&'static str]) {
    for reason in reasons.iter().copied().chain([AUTH_DOWN]) {
        accept_refused(reason, 0);
    }
}

pub(crate) fn accept_refused(reason: &'static str, submissions: usize) {
    counter!(ACCEPT_REFUSED, "reason" => reason)
        .increment(u64::try_from(submissions).unwrap_or(u64::MAX));
}

pub(crate) fn publication_left() {
    counter!(PUBLISH_LEFT).increment(1);
}

/// Not a number where the backend does not tell.
pub(crate) fn loss_window(window: Option<Duration>) {
    gauge!(LOSS_WINDOW).set(window.map_or(f64::NAN, |window| window.as_secs_f64()));
}

pub(crate) fn connection_opened() {
    gauge!(HTTP_CONNECTIONS).increment(1.0);
}

pub(crate) fn connection_ended() {
    gauge!(HTTP_CONNECTIONS).decrement(1.0);
}

pub(crate) fn connection_closed(reason: &'static str) {
    counter!(HTTP_CLOSED, "reason" => reason).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "waiters are capped")]
pub(crate) fn waiters(waiting: usize) {
    gauge!(WAITERS).set(waiting as f64);
}
