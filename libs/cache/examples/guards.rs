//! The guards before a backend, and what one decision of them costs: run with
//! `cargo run --release -p ratebox-cache --example guards`.

use std::time::Duration;

use ratebox_cache::{Breaker, BreakerSettings, Limiter, Locks};
use ratebox_kit::{Clock, Quota, Stopwatch};

const ROUNDS: u32 = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Clock::system();

    let breaker = Breaker::new("backend", BreakerSettings::default(), clock.clone());
    let watch = Stopwatch::start();
    for _ in 0..ROUNDS {
        breaker.acquire()?.success();
    }
    tell("a call through a closed breaker", watch.elapsed());

    let tripped = Breaker::new("dead", BreakerSettings::default(), clock.clone());
    for _ in 0..5 {
        tripped.acquire()?.failure();
    }
    let watch = Stopwatch::start();
    let refused = (0..ROUNDS).filter(|_| tripped.acquire().is_err()).count();
    tell("a call that an open breaker refuses", watch.elapsed());
    println!("refused {refused} of {ROUNDS}");

    let limiter = Limiter::local(Quota::per_minute(100), clock.clone());
    let keys: Vec<String> = (0..10_000).map(|user| format!("user-{user}")).collect();
    let watch = Stopwatch::start();
    for key in keys.iter().cycle().take(ROUNDS as usize) {
        limiter.take_here(key);
    }
    tell("a local limit by key, 10,000 keys", watch.elapsed());

    let locks = Locks::local(clock);
    if let Some(guard) = locks.try_lock("report").await? {
        println!("locked {} with fence {}", guard.name(), guard.fence());
        guard.give_back().await;
    }
    Ok(())
}

fn tell(what: &str, took: Duration) {
    println!("{what}: {} ns", took.as_nanos() / u128::from(ROUNDS));
}
