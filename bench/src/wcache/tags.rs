//! How soon a tag that one process invalidates is heard in another, which has the value in memory.

use anyhow::Result;
use futures_util::future::try_join;
use ratebox_kit::Stopwatch;

use super::process::{Process, Urls};
use crate::meter::Meter;
use crate::report::Line;
use crate::servers::Servers;

const SAMPLES: u64 = 1_000;

/// Times one invalidation after the other, from before it begins until the other process answers the
/// value no longer and has said so: the ways between the processes and this one are in it.
///
/// # Errors
/// When a node fails.
pub(super) async fn run(servers: &Servers) -> Result<Line> {
    let meter = Meter::start(Some(servers), &[])?;
    let urls = Urls::direct(servers);
    let (at_a, at_b) = try_join(Process::start(urls, 1), Process::start(urls, 1)).await?;
    let (a, b) = (at_a.seat(), at_b.seat());
    let (mut latencies, mut stale) = (Vec::new(), 0);
    for number in 0..SAMPLES {
        let (key, tag) = (format!("tagged-{number}"), format!("tag-{number}"));
        b.hold(&key, &tag).await?;
        let watch = Stopwatch::start();
        let gone = async {
            b.gone(&key).await?;
            Ok(watch.elapsed().as_secs_f64() * 1e3)
        };
        let (took_ms, version) = try_join(gone, a.write_tagged(&key, &tag)).await?;
        latencies.push(took_ms);
        let read = b.read_tagged(&key, &tag).await?;
        if read < version {
            eprintln!("stale: {key} has version {version}, {b} answers {read}");
            stale += 1;
        }
    }
    drop((at_a, at_b));
    let line = Line::new("WCACHE", "tags")
        .with("samples", SAMPLES)
        .with("stale", stale)
        .with_latencies(&mut latencies);
    meter.finish(line)
}
