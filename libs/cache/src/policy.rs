//! How long values live, and how long readers wait.

use std::time::Duration;

/// When a value that is still fresh is loaded anew, behind the reader's back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Early {
    /// Never: the first reader after its end pays.
    Never,
    /// From this share of its life on (0 to 1).
    Share(f64),
    /// By chance, the sooner the longer the load takes and the nearer the end is (XFetch, Vattani
    /// et al. 2015). 1 is the best guess; more refreshes sooner.
    Chance(f64),
}

/// How long values live, and how long readers wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// A value is fresh for so long; at least a millisecond. A loader may say otherwise.
    pub ttl: Duration,
    /// So long after that it may stand in for a fresh one: while that is loaded
    /// ([`Policy::soft_timeout`]), or when the load fails.
    pub stale: Duration,
    /// That a value is absent is known for so long; zero = not remembered.
    pub negative_ttl: Duration,
    /// Lives are shortened by up to this share (0 to 1), so that what came together does not end
    /// together.
    pub jitter: f64,
    /// A reader who has a stale value waits so long for the fresh one. Zero = not at all
    /// (stale-while-revalidate); `None` = as long as for anything else.
    pub soft_timeout: Option<Duration>,
    /// A reader waits so long, then gets a stale value or an error. The load goes on.
    pub hard_timeout: Duration,
    /// A load is given up after this.
    pub load_max: Duration,
    /// When a fresh value is loaded anew.
    pub early: Early,
    /// After a failed load, a stale value is served so long before the next try, whoever reads: one key
    /// or many, waiting or not. Each process has a pause of its own.
    pub retry_pause: Duration,
    /// What a process that loads holds in the shared tier so that others wait; renewed while the
    /// load goes on. When the process dies, others wait no longer than this.
    pub lease: Duration,
    /// While the shared tier is away, so long is a loaded value kept in this process, where changes
    /// by others are not heard. Zero = not at all.
    pub away_ttl: Duration,
    /// On a server's tier, readers have what was loaded while it is still on its way there, instead
    /// of a round trip later. Whoever would load it again meanwhile, in any process, waits until it
    /// has arrived; [`crate::Cache::get`] may say that there is nothing. When the process ends just
    /// then, others wait for the lease. Loads of many and other tiers are waited for in any case.
    pub fill_behind: bool,
    /// Tags that every entry gets; at most 16 with those of the loader and the entries that it depends
    /// on.
    pub tags: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            stale: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(30),
            jitter: 0.15,
            soft_timeout: None,
            hard_timeout: Duration::from_secs(5),
            load_max: Duration::from_secs(60),
            early: Early::Never,
            retry_pause: Duration::from_secs(1),
            lease: Duration::from_secs(3),
            away_ttl: Duration::ZERO,
            fill_behind: false,
            tags: Vec::new(),
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Values that are fresh for `ttl`.
    pub fn ttl(ttl: Duration) -> Self {
        Self {
            ttl,
            ..Self::default()
        }
    }

    /// A stale value is answered at once and refreshed behind the reader's back, for `stale` after
    /// its end.
    #[must_use]
    pub fn stale_while_revalidate(mut self, stale: Duration) -> Self {
        self.stale = stale;
        self.soft_timeout = Some(Duration::ZERO);
        self
    }

    /// Remembers absent values for so long.
    #[must_use]
    pub fn negative(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// A life shortened by chance, in milliseconds; `draw` is from `0.0..1.0`. Never less than one.
    pub(crate) fn life_ms(&self, life: Duration, draw: f64) -> i64 {
        let share = 1.0 - self.jitter.clamp(0.0, 1.0) * draw.clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a life in milliseconds; the cast saturates"
        )]
        let ms = (life.as_millis() as f64 * share) as i64;
        ms.clamp(1, LIFE_MS_MAX)
    }
}

/// Ten years: keeps sums of times far from overflowing.
const LIFE_MS_MAX: i64 = 10 * 365 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vk_05_a_short_life_is_never_shortened_to_nothing() {
        let policy = Policy {
            jitter: 1.0,
            ..Policy::default()
        };
        for draw in [0.0, 0.5, 1.0, 2.0] {
            assert!(policy.life_ms(Duration::from_millis(1), draw) >= 1);
            assert!(policy.life_ms(Duration::ZERO, draw) >= 1);
        }
        assert_eq!(policy.life_ms(Duration::MAX, 0.0), LIFE_MS_MAX);
    }

    #[test]
    fn jitter_shortens_within_its_share() {
        let policy = Policy::default();
        let ms = |draw| policy.life_ms(Duration::from_secs(100), draw);
        assert_eq!([ms(0.0), ms(1.0)], [100_000, 85_000]);
    }
}
