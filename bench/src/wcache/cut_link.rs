//! A process that loses its link to the server while values change: what it answers once it hears
//! again, and how soon that is. In turns the link is reset, and falls silent without a word.

use anyhow::Result;
use futures_util::future::{try_join, try_join_all};
use ratebox_kit::Stopwatch;
use ratebox_testkit::TcpProxy;

use super::process::{Process, Seat, Urls};
use crate::meter::Meter;
use crate::report::{Line, rounded};
use crate::servers::Servers;

const ROUNDS: usize = 20;
const KEYS: usize = 100;
/// The tag of all keys.
const TAG: &str = "all";

/// Cuts the link again and again.
///
/// # Errors
/// When a node fails, or does not hear again.
pub(super) async fn run(servers: &Servers) -> Result<Line> {
    let meter = Meter::start(Some(servers), &[])?;
    let proxy = TcpProxy::to(servers.redis_port)?;
    let (direct, proxied) = (Urls::direct(servers), proxy.url(&servers.redis_url));
    let behind = Urls {
        tier: &proxied,
        ..direct
    };
    let (at_a, at_b) = try_join(Process::start(direct, 1), Process::start(behind, 1)).await?;
    let (a, b) = (at_a.seat(), at_b.seat());
    let keys: Vec<String> = (0..KEYS).map(|number| format!("cut-{number}")).collect();
    let (mut noticed, mut recovered_ms, mut stale) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let held = keys.iter().map(|key| b.hold(key, TAG));
        try_join_all(held).await?;
        let watch = Stopwatch::start();
        match round % 2 {
            0 => proxy.cut(),
            _ => proxy.black_hole(),
        }
        change_all(a, &keys, round).await?;
        b.hear(false).await?;
        noticed.push(watch.elapsed());
        // What it loads meanwhile must not outlive the cut either.
        try_join_all(keys.iter().map(|key| b.read_tagged(key, TAG))).await?;
        let versions = change_all(a, &keys, round).await?;
        let watch = Stopwatch::start();
        proxy.resume();
        let heard = async {
            b.hear(true).await?;
            Ok(watch.elapsed().as_secs_f64() * 1e3)
        };
        let (took_ms, read) = try_join(heard, b.sweep(&keys, TAG)).await?;
        recovered_ms.push(took_ms);
        for ((key, version), read) in keys.iter().zip(versions).zip(read) {
            if read < version {
                eprintln!("stale: round {round}: {key} has version {version}, {b} answers {read}");
                stale += 1;
            }
        }
    }
    drop((at_a, at_b));
    let noticed_ms = noticed.into_iter().max().unwrap_or_default().as_secs_f64() * 1e3;
    let line = Line::new("WCACHE", "cut-link")
        .with("cuts", ROUNDS)
        .with("reads", ROUNDS * KEYS)
        .with("stale", stale)
        .with("noticed_max_ms", rounded(noticed_ms, 1))
        .with_latencies(&mut recovered_ms);
    meter.finish(line)
}

/// Changes all rows by their keys, or in every other pair of rounds by their tag.
async fn change_all(node: Seat<'_>, keys: &[String], round: usize) -> Result<Vec<u64>> {
    let changes = keys.iter().map(async |key| match round / 2 % 2 {
        0 => node.write(key).await,
        _ => node.write_tagged(key, TAG).await,
    });
    try_join_all(changes).await
}
