//! Caches of this process alone, for what must not lie on a server: tokens, and records of people.

use std::time::Duration;

use ratebox_cache::{Cache, Cause, Codec, Limits, MemoryLimits, Policy, Tier};
use ratebox_kit::Clock;

/// Writes nothing: there is no shared tier to write for.
struct Unshared;

impl<V> Codec<V> for Unshared {
    fn id(&self) -> u8 {
        255
    }

    fn encode(&self, _: &V) -> Result<Vec<u8>, Cause> {
        Err(Cause::from(Box::from("it is not for sharing")))
    }

    fn decode(&self, _: &[u8]) -> Result<V, Cause> {
        Err(Cause::from(Box::from("it is not for sharing")))
    }
}

/// A cache of at most `bytes_max`, each value of which is as heavy as `weigh` says and is fresh for
/// `kept`.
pub(crate) fn cache<K, V>(
    name: &'static str,
    clock: Clock,
    kept: Duration,
    (bytes_max, weigh): (u64, fn(&V) -> u64),
) -> Cache<K, V>
where
    K: std::fmt::Display + ?Sized + 'static,
    V: Send + Sync + 'static,
{
    let policy = Policy {
        jitter: 0.0,
        stale: Duration::ZERO,
        ..Policy::ttl(kept)
    };
    let limits = Limits {
        memory: MemoryLimits {
            bytes_max,
            ..MemoryLimits::default()
        },
        ..Limits::default()
    };
    let builder = Cache::builder(name, &Tier::none()).policy(policy);
    let built = builder.limits(limits).clock(clock).weigh(weigh);
    built
        .build_with(Unshared)
        .expect("the name is a plain word and the limits are the library's")
}
