//! The connection layer on real servers that are killed, frozen and filled.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;
mod commands;
mod leases;
mod marks;
mod outages;
mod replies;
mod sentinel;
mod servers;
mod tls;
mod tracking;
mod wire;

use std::time::Duration;

use ratebox_valkey::Settings;

/// Timeouts that a test can wait for.
fn settings(url: &str) -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..Settings::new(url)
    }
}
