//! How a resource is read.

use std::time::Duration;

use ratebox_cache::Policy;

use crate::source::ANSWER_MAX;

/// Longest wait of a reader: the origin's, and the ways to the shared tier before and after it. A lease
/// may be shorter, for it is renewed while the load goes on.
const READ_MAX: Duration = ANSWER_MAX.saturating_add(Duration::from_secs(2));

/// How a resource is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    CacheAside,
    Singleflight,
    Swr,
    Negative,
}

/// What of a policy is the same for every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Lives are shortened by up to this share.
    pub(crate) jitter: f64,
    /// That a value is absent is known for so long.
    pub(crate) negative_ttl: Duration,
    /// The lease of a refresh behind the reader's back.
    pub(crate) swr_lease: Duration,
    /// The lease of a load that readers wait for.
    pub(crate) lease: Duration,
}

// === impl Strategy ===

impl Strategy {
    pub(crate) const ALL: [Self; 4] = [
        Self::CacheAside,
        Self::Singleflight,
        Self::Swr,
        Self::Negative,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::CacheAside => "cache-aside",
            Self::Singleflight => "singleflight",
            Self::Swr => "swr",
            Self::Negative => "negative",
        }
    }

    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }

    /// The names of all, for people.
    pub(crate) fn words() -> String {
        Self::ALL.map(Self::word).join(", ")
    }

    /// `grace` is how long after its end a value may stand in: at once for `swr`, for the others
    /// only while the origin fails.
    pub(crate) fn policy(self, ttl: Duration, grace: Duration, manner: Manner) -> Policy {
        let policy = Policy {
            stale: grace,
            jitter: manner.jitter,
            lease: manner.lease,
            hard_timeout: READ_MAX,
            ..Policy::ttl(ttl)
        };
        match self {
            Self::CacheAside | Self::Singleflight => policy.negative(Duration::ZERO),
            Self::Negative => policy.negative(manner.negative_ttl),
            Self::Swr => Policy {
                lease: manner.swr_lease,
                ..policy
                    .negative(Duration::ZERO)
                    .stale_while_revalidate(grace)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_wait_longer_than_an_origin_has_to_answer_and_less_than_a_load_may_take() {
        let second = Duration::from_secs(1);
        let manner = Manner {
            jitter: 0.0,
            negative_ttl: second,
            swr_lease: second,
            lease: second,
        };
        for strategy in Strategy::ALL {
            let policy = strategy.policy(second, second, manner);
            assert!(policy.hard_timeout > ANSWER_MAX, "{strategy:?}");
            assert!(policy.hard_timeout < policy.load_max, "{strategy:?}");
        }
    }
}
