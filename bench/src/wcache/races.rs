//! Deletes during a load: a load that began before a change must leave nothing of what it read.
//!
//! A race counts when its load read the row before the change and ended after the change was
//! acknowledged; it goes on until there were enough of those.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures_util::future::{try_join, try_join_all};
use ratebox_kit::Stopwatch;

use super::process::{Figures, Process, Seat, Urls};
use crate::meter::Meter;
use crate::report::{Line, rounded};
use crate::servers::Servers;

/// Races that must have happened.
const RACES: u64 = 10_000;
/// Tries after which it is given up: the machine is too slow for loads to be outrun.
const TRIES_MAX: u64 = 10 * RACES;
const AT_ONCE: u64 = 100;
/// How long a load takes once it has read its row.
const LOAD_MS: u32 = 20;
/// The change begins 1 ms after its load, or later: most while it runs, some where it ends.
const CHANGES_MS: u64 = 24;
/// What another process has in memory may be from before a change until it has heard of it. What is
/// answered after so long is stale; the bar for the time itself is that of the case `tags`.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
const MS: Duration = Duration::from_millis(1);

/// Who reads, and who writes.
type Pair<'a> = (Seat<'a>, Seat<'a>);

/// What came of races.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    tries: u64,
    /// Tries after which an answer was from before the change.
    stale: u64,
    /// First answers from before the change, out of a memory that had not heard of it yet.
    unheard: u64,
    heard_max: Duration,
}

/// One answer after a change.
#[derive(Clone, Copy, Debug)]
enum Look {
    New,
    /// The first answer was old; the new one came so much later.
    Heard(Duration),
    Stale,
}

/// Races over two caches on one server, in one process or in two.
///
/// # Errors
/// When a node fails, or the races do not happen.
pub(super) async fn run(servers: &Servers, processes: usize) -> Result<Line> {
    let meter = Meter::start(Some(servers), &[])?;
    let urls = Urls::direct(servers);
    let started = (0..processes).map(|_| Process::start(urls, 2 / processes));
    let started = try_join_all(started).await?;
    let seats: Vec<Seat<'_>> = started.iter().flat_map(Process::seats).collect();
    let [a, b] = seats.as_slice() else {
        bail!("there are two caches");
    };
    let mut pairs = vec![(*a, *b), (*b, *a)];
    if processes == 1 {
        // A cache that is read and changed by the same process is the commonest of all.
        pairs.push((*a, *a));
    }
    let (mut outcome, mut seen) = (Outcome::default(), Figures::default());
    while seen.outrun < RACES {
        ensure!(
            outcome.tries < TRIES_MAX,
            "{} races in {TRIES_MAX} tries",
            seen.outrun
        );
        for pair in &pairs {
            chunk(&mut outcome, *pair).await?;
        }
        let (of_a, of_b) = try_join(a.figures(), b.figures()).await?;
        seen = of_a.and(of_b);
    }
    drop(started);
    let heard_ms = outcome.heard_max.as_secs_f64() * 1e3;
    let line = Line::new("WCACHE", &format!("races-{processes}p"))
        .with("races", seen.outrun)
        .with("stale", outcome.stale)
        .with("tries", outcome.tries)
        .with("loads", seen.loads)
        .with("fills_refused", seen.fills_refused)
        .with("unheard", outcome.unheard)
        .with("heard_max_ms", rounded(heard_ms, 1));
    meter.finish(line)
}

/// Races of many keys at once, and one more look at all of them when everything is over: what was
/// filled late would be there for an hour.
async fn chunk(outcome: &mut Outcome, (reader, writer): Pair<'_>) -> Result<()> {
    let numbers = outcome.tries..outcome.tries + AT_ONCE;
    let tries = numbers.map(async |number| {
        let key = format!("race-{number}");
        let (version, looks) = race((reader, writer), &key, number).await?;
        Ok::<_, anyhow::Error>((key, version, looks))
    });
    let over = try_join_all(tries).await?;
    let again = over.iter().map(async |(key, version, looks)| {
        let later = try_join(
            look(reader, key, *version, HEARD_WITHIN),
            look(writer, key, *version, HEARD_WITHIN),
        );
        let (reader, writer) = later.await?;
        Ok::<_, anyhow::Error>([looks[0], looks[1], reader, writer])
    });
    for looks in try_join_all(again).await? {
        outcome.add(&looks);
    }
    Ok(())
}

/// A load and a change of one key; the version that was written, and what both answer then.
async fn race((reader, writer): Pair<'_>, key: &str, number: u64) -> Result<(u64, [Look; 2])> {
    writer.write(key).await?;
    let change = async {
        tokio::time::sleep(Duration::from_millis(1 + number % CHANGES_MS)).await;
        writer.write(key).await
    };
    let (_, version) = try_join(reader.read(key, LOAD_MS), change).await?;
    // Who changed it sees that at once.
    let patience = match reader.is(writer) {
        true => Duration::ZERO,
        false => HEARD_WITHIN,
    };
    let (there, elsewhere) = try_join(
        look(reader, key, version, patience),
        look(writer, key, version, Duration::ZERO),
    )
    .await?;
    Ok((version, [there, elsewhere]))
}

/// What is answered after a change, for so long at most until it is the new version.
async fn look(seat: Seat<'_>, key: &str, version: u64, patience: Duration) -> Result<Look> {
    let (watch, mut is_first) = (Stopwatch::start(), true);
    loop {
        let read = seat.read(key, 0).await?;
        if read >= version {
            return Ok(match is_first {
                true => Look::New,
                false => Look::Heard(watch.elapsed()),
            });
        }
        if watch.elapsed() >= patience {
            eprintln!("stale: {key} has version {version}, {seat} answers {read}");
            return Ok(Look::Stale);
        }
        is_first = false;
        tokio::time::sleep(MS).await;
    }
}

// === impl Outcome ===

impl Outcome {
    /// Counts one try.
    fn add(&mut self, looks: &[Look]) {
        self.tries += 1;
        let is_stale = looks.iter().any(|look| matches!(look, Look::Stale));
        self.stale += u64::from(is_stale);
        for look in looks {
            if let Look::Heard(after) = look {
                self.unheard += 1;
                self.heard_max = self.heard_max.max(*after);
            }
        }
    }
}
