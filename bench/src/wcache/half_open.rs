//! A breaker that tries its backend again while a thousand callers ask: how many of them get
//! through. The backend holds its answers until all others were refused, so nobody comes too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use ratebox_cache::{Breaker, BreakerSettings, BreakerState, CallError};
use ratebox_kit::Clock;
use tokio::runtime::Builder;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::meter::Meter;
use crate::report::Line;
use crate::servers::Servers;

const ROUNDS: u64 = 200;
const CALLERS: usize = 1_000;
/// Threads that call.
const THREADS: usize = 4;
/// How long the breaker stays open; real time passes.
const OPEN_FOR: Duration = Duration::from_millis(20);

/// What a round came to.
struct Seen {
    reached: u64,
    after: BreakerState,
}

/// Opens a breaker and lets the crowd in when its time is up, again and again; the backend has
/// recovered in every second round.
///
/// # Errors
/// When a caller does not come back, or the breaker is in a state that it cannot be in.
pub(super) async fn run(servers: &Servers) -> Result<Line> {
    let meter = Meter::start(Some(servers), &[])?;
    // Callers on threads of their own: this program's has only one.
    let measured = tokio::task::spawn_blocking(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()?;
        runtime.block_on(rounds())
    });
    let reached = measured.await??;
    let line = Line::new("WCACHE", "half-open")
        .with("rounds", ROUNDS)
        .with("callers", CALLERS)
        .with("probes", settings().probes)
        .with("reached_min", reached.iter().min().copied())
        .with("reached", reached.iter().max().copied());
    meter.finish(line)
}

fn settings() -> BreakerSettings {
    BreakerSettings {
        open_for: OPEN_FOR,
        ..BreakerSettings::default()
    }
}

/// How many reached the backend in each round.
async fn rounds() -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let is_well = round % 2 == 1;
        let seen = crowd(is_well).await?;
        let expected = match is_well {
            true => BreakerState::Ramp,
            false => BreakerState::Open,
        };
        ensure!(seen.after == expected, "it is {:?} then", seen.after);
        all.push(seen.reached);
    }
    Ok(all)
}

/// A breaker whose backend has failed, and its crowd.
async fn crowd(is_well: bool) -> Result<Seen> {
    let breaker = Breaker::new("backend", settings(), Clock::system());
    for _ in 0..settings().failures_in_a_row {
        breaker.acquire()?.failure();
    }
    ensure!(breaker.acquire().is_err(), "it is open");
    tokio::time::sleep(2 * OPEN_FOR).await;
    let (reached, refused) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let begin = Arc::new(Barrier::new(CALLERS));
    let (answer, answered) = watch::channel(false);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (breaker, begin) = (breaker.clone(), Arc::clone(&begin));
        let (reached, refused) = (Arc::clone(&reached), Arc::clone(&refused));
        let mut answered = answered.clone();
        callers.spawn(async move {
            begin.wait().await;
            let backend = async move {
                reached.fetch_add(1, Ordering::SeqCst);
                // Who holds the answers back is gone when this fails.
                let _ = answered.wait_for(|it| *it).await;
                is_well.then_some(()).ok_or("still dead")
            };
            if let Err(CallError::Refused(_)) = breaker.call(backend, |_| true).await {
                refused.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let told = || reached.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst);
    while told() < CALLERS as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answer.send_replace(true);
    while let Some(caller) = callers.join_next().await {
        caller?;
    }
    Ok(Seen {
        reached: reached.load(Ordering::SeqCst),
        after: breaker.state(),
    })
}
