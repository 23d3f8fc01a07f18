//! A crowd for one cold key: a thousand readers at once, half of them in each of two processes.

use anyhow::{Result, ensure};
use futures_util::future::try_join;

use super::process::{Figures, Process, Urls};
use crate::meter::Meter;
use crate::report::Line;
use crate::servers::Servers;

const CROWDS: usize = 50;
/// Readers of one process.
const READERS: usize = 500;
/// How long a load takes: longer than all readers need to come, so that each of them misses.
const LOAD_MS: u32 = 100;

/// Sends crowds for one key after the other.
///
/// # Errors
/// When a node fails, or a reader came after the load.
pub(super) async fn run(servers: &Servers) -> Result<Line> {
    let meter = Meter::start(Some(servers), &[])?;
    let urls = Urls::direct(servers);
    let (at_a, at_b) = try_join(Process::start(urls, 1), Process::start(urls, 1)).await?;
    let (a, b) = (at_a.seat(), at_b.seat());
    let (mut calls, mut before) = (Vec::new(), Figures::default());
    for number in 0..CROWDS {
        let key = format!("cold-{number}");
        try_join(
            a.crowd(&key, READERS, LOAD_MS),
            b.crowd(&key, READERS, LOAD_MS),
        )
        .await?;
        let (of_a, of_b) = try_join(a.figures(), b.figures()).await?;
        let now = of_a.and(of_b);
        let waited = now.misses + now.joined - before.misses - before.joined;
        ensure!(waited == 2 * READERS as u64, "{waited} of a crowd missed");
        calls.push(now.loads - before.loads);
        before = now;
    }
    drop((at_a, at_b));
    let line = Line::new("WCACHE", "crowd")
        .with("crowds", CROWDS)
        .with("misses", before.misses + before.joined)
        .with("loads", before.loads)
        .with("loader_calls", calls.into_iter().max());
    meter.finish(line)
}
