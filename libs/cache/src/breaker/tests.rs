//! The breaker under shuttle, which runs its threads in many orders.

use std::time::Duration;

use ratebox_kit::{Clock, Timestamp};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU32, Ordering};
use shuttle::thread;

use super::{Breaker, BreakerSettings, BreakerState};

/// Orders that are tried for each test.
const ORDERS: usize = 2_000;

fn half_open(probes: u32) -> (Breaker, Clock) {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let settings = BreakerSettings {
        failures_in_a_row: 1,
        probes,
        open_for: Duration::from_secs(1),
        ..BreakerSettings::default()
    };
    let breaker = Breaker::new("sick", settings, clock.clone());
    breaker.acquire().expect("closed").failure();
    assert_eq!(breaker.state(), BreakerState::Open);
    clock.advance(Duration::from_secs(1));
    (breaker, clock)
}

#[test]
fn in_no_order_do_more_callers_than_probes_reach_the_backend() {
    shuttle::check_random(
        || {
            let (breaker, _clock) = half_open(2);
            let reached = Arc::new(AtomicU32::new(0));
            let callers: Vec<_> = (0..5)
                .map(|_| {
                    let (breaker, reached) = (breaker.clone(), Arc::clone(&reached));
                    thread::spawn(move || {
                        breaker.acquire().ok().inspect(|_| {
                            reached.fetch_add(1, Ordering::SeqCst);
                        })
                    })
                })
                .collect();
            let permits: Vec<_> = callers
                .into_iter()
                .map(|it| it.join().expect("ends"))
                .collect();
            assert_eq!(reached.load(Ordering::SeqCst), 2);
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
            drop(permits);
        },
        ORDERS,
    );
}

#[test]
fn in_no_order_does_a_call_from_before_the_outage_close_or_reopen_the_breaker() {
    shuttle::check_random(
        || {
            let clock = Clock::manual(Timestamp::UNIX_EPOCH);
            let settings = BreakerSettings {
                failures_in_a_row: 1,
                probes: 1,
                open_for: Duration::ZERO,
                ..BreakerSettings::default()
            };
            let breaker = Breaker::new("sick", settings, clock);
            let (early, late) = (
                breaker.acquire().expect("closed"),
                breaker.acquire().expect("closed"),
            );
            breaker.acquire().expect("closed").failure();
            let probe = breaker.acquire().expect("the probe");
            let old = thread::spawn(move || {
                early.failure();
                late.success();
            });
            let new = thread::spawn(move || probe.success());
            old.join().expect("ends");
            new.join().expect("ends");
            assert_eq!(
                breaker.state(),
                BreakerState::Ramp,
                "only the probe decided"
            );
        },
        ORDERS,
    );
}

#[test]
fn in_no_order_is_a_call_let_through_by_the_fast_path_once_the_breaker_is_open() {
    shuttle::check_random(
        || {
            let clock = Clock::manual(Timestamp::UNIX_EPOCH);
            let settings = BreakerSettings {
                failures_in_a_row: 2,
                ..BreakerSettings::default()
            };
            let breaker = Breaker::new("sick", settings, clock);
            let failing: Vec<_> = (0..3)
                .map(|_| {
                    let breaker = breaker.clone();
                    thread::spawn(move || {
                        if let Ok(permit) = breaker.acquire() {
                            permit.failure();
                        }
                    })
                })
                .collect();
            for thread in failing {
                thread.join().expect("ends");
            }
            assert_eq!(breaker.state(), BreakerState::Open);
            assert!(breaker.acquire().is_err());
        },
        ORDERS,
    );
}
