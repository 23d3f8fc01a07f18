//! Flights under shuttle, which runs their threads in many orders.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::*;
use crate::entry::Times;

/// Orders that are tried.
const ORDERS: usize = 300;

const TIMES: Times = Times {
    created_ms: 0,
    soft_ms: 1,
    hard_ms: 1,
};

/// What the threads share.
struct Ground {
    flights: std::sync::Arc<Flights<u64>>,
    view: View,
    row: AtomicU64,
    /// Loads under way that nothing has outrun.
    loading: AtomicU64,
    loads: AtomicU64,
}

impl Ground {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: std::sync::Arc::new(Flights::new()),
            view: View::new(),
            row: AtomicU64::new(1),
            loading: AtomicU64::new(0),
            loads: AtomicU64::new(0),
        })
    }

    fn join(&self) -> Seat<u64> {
        self.flights.join("k", "c:k", &self.view)
    }

    /// Reads through the flights, as a cache without memory does.
    fn read(&self) -> u64 {
        loop {
            match self.join() {
                Seat::Lead(lead) => return self.load(lead),
                Seat::Follow(flight) => match landed(&flight) {
                    Outcome::Answer(held) => return held.value.as_deref().copied().unwrap(),
                    Outcome::GivenUp => {}
                    Outcome::Failed(error) => panic!("{error}"),
                },
            }
        }
    }

    fn load(&self, lead: Lead<u64>) -> u64 {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let at = self.view.generations.now();
        let value = self.row.load(Ordering::SeqCst);
        thread::yield_now();
        let held = Held::new(Some(std::sync::Arc::new(value)), at, TIMES);
        lead.land(Outcome::Answer(std::sync::Arc::new(held)));
        value
    }
}

/// Waits for the end of a flight.
fn landed(flight: &Flight<u64>) -> Outcome<u64> {
    let mut landing = pin!(flight.landed());
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match landing.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::yield_now(),
        }
    }
}

#[test]
fn of_those_who_join_together_one_leads_and_all_get_what_it_brings() {
    shuttle::check_random(
        || {
            let ground = Ground::new();
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let ground = Arc::clone(&ground);
                    thread::spawn(move || match ground.join() {
                        Seat::Lead(lead) => {
                            let others = ground.loading.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(others, 0, "two lead at once");
                            thread::yield_now();
                            ground.loading.fetch_sub(1, Ordering::SeqCst);
                            ground.load(lead)
                        }
                        Seat::Follow(flight) => match landed(&flight) {
                            Outcome::Answer(held) => held.value.as_deref().copied().unwrap(),
                            Outcome::Failed(_) | Outcome::GivenUp => panic!("it had landed"),
                        },
                    })
                })
                .collect();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 1);
            }
            assert!(matches!(ground.join(), Seat::Lead(_)), "nothing is left");
        },
        ORDERS,
    );
}

#[test]
fn who_joins_after_a_change_never_gets_what_was_loaded_before_it() {
    shuttle::check_random(
        || {
            let ground = Ground::new();
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let ground = Arc::clone(&ground);
                    thread::spawn(move || ground.read())
                })
                .collect();
            let writer = {
                let ground = Arc::clone(&ground);
                thread::spawn(move || {
                    ground.row.store(2, Ordering::SeqCst);
                    ground.view.changed("c:k");
                    assert_eq!(ground.read(), 2, "older than the change");
                })
            };
            for reader in readers {
                assert!([1, 2].contains(&reader.join().unwrap()));
            }
            writer.join().unwrap();
            assert!(ground.loads.load(Ordering::SeqCst) <= 3);
        },
        ORDERS,
    );
}

#[test]
fn a_lead_that_is_dropped_holds_nobody_up() {
    shuttle::check_random(
        || {
            let ground = Ground::new();
            let quitter = {
                let ground = Arc::clone(&ground);
                thread::spawn(move || drop(ground.join()))
            };
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let ground = Arc::clone(&ground);
                    thread::spawn(move || ground.read())
                })
                .collect();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 1);
            }
            quitter.join().unwrap();
        },
        ORDERS,
    );
}
