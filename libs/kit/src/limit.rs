//! A rate limit for one process, keyed.
//!
//! GCRA (ITU-T I.371): each key remembers one moment, the theoretical arrival time, so a key
//! costs a few bytes and a decision needs no timer. Keys whose moment has passed are forgotten.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// How much is allowed: `burst` at once, and `burst` over each `window` in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests allowed at once and per window.
    pub burst: u32,
    /// The window's length.
    pub window: Duration,
}

impl Quota {
    /// `burst` a minute.
    pub fn per_minute(burst: u32) -> Self {
        Self {
            burst,
            window: Duration::from_secs(60),
        }
    }

    fn interval_ns(&self) -> u64 {
        let ns = self.window.as_nanos() / u128::from(self.burst.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX).max(1)
    }
}

/// What the limiter says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// May it go on?
    pub allowed: bool,
    /// Further requests that would be allowed at once.
    pub remaining: u32,
    /// When refused: how long until the next is allowed. When allowed: until the full burst is
    /// there again.
    pub wait: Duration,
}

/// Keys kept at most; 64 bytes each, so about 6 MB. Beyond them the idle ones are forgotten, and when
/// all are in use the half that has used least: who floods with new names wins no memory and no
/// time of the others, and who is closest to the limit stays known.
const KEYS_MAX: usize = 100_000;

/// Decides by key. One instance per quota class and process.
#[derive(Debug, Default)]
pub struct Limiter {
    arrivals: Mutex<HashMap<String, u64>>,
}

impl Limiter {
    /// No key has used anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`Limiter::take`] would say, without taking anything.
    pub fn look(&self, key: &str, quota: Quota, now: Duration) -> Decision {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let arrivals = self.arrivals.lock().unwrap_or_else(|e| e.into_inner());
        let arrival = arrivals.get(key).copied().unwrap_or(0).max(now_ns);
        decide(arrival, quota, now_ns).0
    }

    /// Takes one request of `key` at `now` (any monotonic duration since a fixed start).
    pub fn take(&self, key: &str, quota: Quota, now: Duration) -> Decision {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(|e| e.into_inner());
        let arrival = arrivals.get(key).copied().unwrap_or(0).max(now_ns);
        let (decision, next) = decide(arrival, quota, now_ns);
        match arrivals.get_mut(key) {
            Some(slot) => *slot = next,
            None => {
                if arrivals.len() >= KEYS_MAX {
                    make_room(&mut arrivals, now_ns);
                }
                arrivals.insert(key.to_owned(), next);
            }
        }
        decision
    }
}

/// Forgets the idle keys, and at least half of all: whoever calls has so many calls without it.
fn make_room(arrivals: &mut HashMap<String, u64>, now_ns: u64) {
    let mut moments: Vec<u64> = arrivals.values().copied().collect();
    let middle = moments.len() / 2;
    let (_, median, _) = moments.select_nth_unstable(middle);
    let enough = now_ns.max(*median);
    arrivals.retain(|_, arrival| *arrival > enough);
}

fn decide(arrival: u64, quota: Quota, now_ns: u64) -> (Decision, u64) {
    let interval = quota.interval_ns();
    let tolerance = interval.saturating_mul(u64::from(quota.burst.max(1)));
    let next = arrival.saturating_add(interval);
    let ahead = next - now_ns;
    if ahead > tolerance {
        let wait = Duration::from_nanos(ahead - tolerance);
        return (
            Decision {
                allowed: false,
                remaining: 0,
                wait,
            },
            arrival,
        );
    }
    let remaining = u32::try_from((tolerance - ahead) / interval).unwrap_or(u32::MAX);
    (
        Decision {
            allowed: true,
            remaining,
            wait: Duration::from_nanos(ahead),
        },
        next,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_passes_and_the_next_waits() {
        let limiter = Limiter::new();
        let quota = Quota::per_minute(3);
        let remaining: Vec<u32> = (0..3)
            .map(|_| limiter.take("a", quota, Duration::ZERO).remaining)
            .collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = limiter.take("a", quota, Duration::ZERO);
        assert!(!refused.allowed);
        assert_eq!(refused.wait, Duration::from_secs(20));
        assert!(!limiter.look("a", quota, Duration::ZERO).allowed);
        assert!(limiter.look("b", quota, Duration::ZERO).allowed);
        assert_eq!(limiter.take("b", quota, Duration::ZERO).remaining, 2);
        assert!(limiter.take("a", quota, Duration::from_secs(20)).allowed);
    }

    #[test]
    fn no_window_admits_more_than_burst_and_rate_allow() {
        let limiter = Limiter::new();
        let quota = Quota::per_minute(60);
        let admitted = (0..120_000)
            .filter(|ms| limiter.take("k", quota, Duration::from_millis(*ms)).allowed)
            .count();
        assert_eq!(admitted, 60 + 119);
    }

    #[test]
    fn a_flood_of_keys_wins_no_memory_and_the_busiest_stay_known() {
        let limiter = Limiter::new();
        let quota = Quota::per_minute(2);
        for _ in 0..2 {
            assert!(limiter.take("busy", quota, Duration::ZERO).allowed);
        }
        for n in 0..2 * KEYS_MAX {
            limiter.take(&n.to_string(), quota, Duration::ZERO);
        }
        assert!(limiter.arrivals.lock().unwrap().len() <= KEYS_MAX);
        assert!(!limiter.take("busy", quota, Duration::ZERO).allowed);
    }

    #[test]
    fn idle_keys_are_forgotten_first() {
        let limiter = Limiter::new();
        let quota = Quota::per_minute(60);
        for n in 0..KEYS_MAX {
            let is_idle = n % 10 < 6;
            let at = Duration::from_secs(if is_idle { 0 } else { 5 });
            limiter.take(&n.to_string(), quota, at);
        }
        limiter.take("one more", quota, Duration::from_secs(5));
        let kept = limiter.arrivals.lock().unwrap().len();
        assert_eq!(kept, KEYS_MAX / 10 * 4 + 1);
    }
}
