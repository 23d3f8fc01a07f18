//! The breaker before a backend that is sick, hangs and recovers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ratebox_cache::{Breaker, BreakerSettings, BreakerState, Breakers, CallError, Permit};
use ratebox_kit::{Clock, Timestamp};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> BreakerSettings {
    BreakerSettings {
        failures_in_a_row: 5,
        window: 10 * SECOND,
        calls_min: 20,
        failure_rate: 0.5,
        slow_after: 2 * SECOND,
        slow_rate: 0.5,
        open_for: 60 * SECOND,
        probes: 3,
        probe_deadline: 5 * SECOND,
        ramp: 10 * SECOND,
    }
}

fn breaker(settings: BreakerSettings) -> (Breaker, Clock) {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    (Breaker::new("backend", settings, clock.clone()), clock)
}

fn opened(settings: BreakerSettings) -> (Breaker, Clock) {
    let (breaker, clock) = breaker(settings);
    for _ in 0..settings.failures_in_a_row {
        breaker.acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    (breaker, clock)
}

#[test]
fn vk_01_five_failures_in_a_row_open_the_breaker_for_a_minute_and_no_longer() {
    let (breaker, clock) = breaker(settings());
    for _ in 0..4 {
        breaker.acquire().unwrap().failure();
    }
    breaker.acquire().unwrap().success();
    for _ in 0..4 {
        breaker.acquire().unwrap().failure();
    }
    assert_eq!(
        breaker.state(),
        BreakerState::Closed,
        "a success began the row anew"
    );
    breaker.acquire().unwrap().failure();
    let refused = breaker.acquire().unwrap_err();
    assert_eq!(refused.retry_after, 60 * SECOND);
    clock.advance(59 * SECOND);
    assert_eq!(breaker.acquire().unwrap_err().retry_after, SECOND);
    clock.advance(SECOND);
    assert!(breaker.acquire().is_ok());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn half_the_calls_failing_opens_it_though_none_follow_each_other() {
    let (breaker, clock) = breaker(settings());
    for call in 0..40 {
        let Ok(permit) = breaker.acquire() else { break };
        match call % 2 {
            0 => permit.success(),
            _ => permit.failure(),
        }
        clock.advance(Duration::from_millis(10));
        let expected = if call < 19 {
            BreakerState::Closed
        } else {
            BreakerState::Open
        };
        assert_eq!(breaker.state(), expected, "after call {call}");
    }
}

#[test]
fn failures_that_slid_out_of_the_window_no_longer_count() {
    let (breaker, clock) = breaker(settings());
    for call in 0..200 {
        let permit = breaker.acquire().unwrap();
        // One of two fails, but a window never sees twenty calls.
        if call % 2 == 0 {
            permit.failure()
        } else {
            permit.success()
        }
        clock.advance(SECOND);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn slow_calls_open_it_though_they_succeed_or_are_dropped() {
    for dropped in [false, true] {
        let (breaker, clock) = breaker(BreakerSettings {
            calls_min: 10,
            ..settings()
        });
        for _ in 0..10 {
            let permits: Vec<Permit> = (0..1).map(|_| breaker.acquire().unwrap()).collect();
            clock.advance(Duration::from_millis(500));
            let slow = breaker.acquire().unwrap();
            drop(permits);
            drop(slow);
        }
        assert_eq!(
            breaker.state(),
            BreakerState::Closed,
            "short calls that are dropped say nothing"
        );
        let hanging: Vec<Permit> = (0..10).map(|_| breaker.acquire().unwrap()).collect();
        clock.advance(2 * SECOND);
        for permit in hanging {
            if dropped {
                drop(permit)
            } else {
                permit.success()
            }
        }
        assert_eq!(breaker.state(), BreakerState::Open, "dropped: {dropped}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_callers_in_half_open_three_probes_reach_the_backend() {
    let (breaker, clock) = opened(settings());
    clock.advance(60 * SECOND);
    let reached = Arc::new(AtomicU32::new(0));
    let (answer, answered) = tokio::sync::watch::channel(false);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (breaker, reached, mut answered) =
            (breaker.clone(), Arc::clone(&reached), answered.clone());
        callers.spawn(async move {
            let backend = async move {
                reached.fetch_add(1, Ordering::SeqCst);
                answered.wait_for(|it| *it).await.unwrap();
                Err::<(), _>("still dead")
            };
            match breaker.call(backend, |_| true).await {
                Err(CallError::Refused(_)) => 1,
                Ok(()) | Err(CallError::Failed(_)) => 0,
            }
        });
    }
    let mut refused = 0;
    while refused < 997 {
        refused += callers.join_next().await.unwrap().unwrap();
    }
    assert_eq!(reached.load(Ordering::SeqCst), 3);
    answer.send_replace(true);
    while callers.join_next().await.is_some() {}
    assert_eq!(breaker.state(), BreakerState::Open, "the probes failed");
    assert_eq!(reached.load(Ordering::SeqCst), 3);
}

#[test]
fn a_probe_that_never_returns_gives_its_permit_to_another_at_its_deadline() {
    let (breaker, clock) = opened(BreakerSettings {
        probes: 1,
        ..settings()
    });
    clock.advance(60 * SECOND);
    let hangs = breaker.acquire().unwrap();
    assert_eq!(breaker.acquire().unwrap_err().retry_after, 5 * SECOND);
    clock.advance(5 * SECOND);
    let second = breaker.acquire().expect("the permit came back");
    assert!(breaker.acquire().is_err());
    second.success();
    assert_eq!(breaker.state(), BreakerState::Ramp);
    hangs.failure();
    assert_eq!(
        breaker.state(),
        BreakerState::Ramp,
        "it answered for an earlier epoch"
    );
}

#[test]
fn a_probe_that_is_dropped_gives_its_permit_back_at_once() {
    let (breaker, clock) = opened(BreakerSettings {
        probes: 1,
        ..settings()
    });
    clock.advance(60 * SECOND);
    drop(breaker.acquire().unwrap());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.acquire().is_ok());
}

#[test]
fn a_probe_that_fails_or_is_slow_opens_it_again_for_the_full_time() {
    for slow in [false, true] {
        let (breaker, clock) = opened(settings());
        clock.advance(60 * SECOND);
        let probe = breaker.acquire().unwrap();
        if slow {
            clock.advance(3 * SECOND);
            probe.success();
        } else {
            probe.failure();
        }
        assert_eq!(breaker.acquire().unwrap_err().retry_after, 60 * SECOND);
    }
}

#[test]
fn after_the_probes_a_growing_share_gets_through_until_all_do() {
    let (breaker, clock) = opened(settings());
    clock.advance(60 * SECOND);
    let probes: Vec<_> = (0..3).map(|_| breaker.acquire().unwrap()).collect();
    probes.into_iter().for_each(Permit::success);
    assert_eq!(breaker.state(), BreakerState::Ramp);
    assert_eq!(breaker.state().word(), "half_open");
    let mut through = Vec::new();
    for _ in 0..10 {
        let permits = (0..1_000).filter_map(|_| breaker.acquire().ok());
        through.push(permits.map(Permit::success).count());
        clock.advance(SECOND);
    }
    let expected = [100, 190, 280, 370, 460, 550, 640, 730, 820, 910];
    for (second, (got, wanted)) in through.iter().zip(expected).enumerate() {
        assert!(
            got.abs_diff(wanted) <= 2,
            "second {second}: {got} of 1000 got through"
        );
    }
    assert!((0..1_000).all(|_| breaker.acquire().map(Permit::success).is_ok()));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn failures_on_the_ramp_open_it_again() {
    let (breaker, clock) = opened(BreakerSettings {
        probes: 1,
        ..settings()
    });
    clock.advance(60 * SECOND);
    breaker.acquire().unwrap().success();
    let mut failed = 0;
    while breaker.state() == BreakerState::Ramp && failed < 10 {
        if let Ok(permit) = breaker.acquire() {
            permit.failure();
            failed += 1;
        }
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(failed, 5);
}

#[tokio::test]
async fn an_answer_that_is_the_callers_own_fault_is_no_failure_of_the_backend() {
    let (breaker, _clock) = breaker(settings());
    for _ in 0..20 {
        let missing = async { Err::<(), _>("no such row") };
        let error = breaker.call(missing, |_| false).await.unwrap_err();
        assert!(matches!(error, CallError::Failed("no such row")));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let fine = async { Ok::<_, Infallible>(7) };
    assert_eq!(breaker.call(fine, |_| true).await.unwrap(), 7);
}

#[test]
fn one_endpoint_being_down_does_not_close_the_way_to_another() {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let breakers = Breakers::new(settings(), clock);
    for _ in 0..5 {
        breakers.of("reader").acquire().unwrap().failure();
    }
    assert!(breakers.of("reader").acquire().is_err());
    assert!(breakers.of("writer").acquire().is_ok());
    let states = breakers.states();
    assert_eq!(states[0], ("reader".to_owned(), BreakerState::Open));
    assert_eq!(states[1], ("writer".to_owned(), BreakerState::Closed));
}
