//! What a cache counts, for `stats()` and as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Histogram, counter, histogram};

/// One figure: our own, and the one of the metrics.
pub(crate) struct Figure {
    own: AtomicU64,
    shared: Counter,
}

/// The figures of one cache.
pub(crate) struct Figures {
    pub(crate) memory_hits: Figure,
    pub(crate) tier_hits: Figure,
    pub(crate) stale: Figure,
    pub(crate) absent: Figure,
    pub(crate) misses: Figure,
    pub(crate) shared_loads: Figure,
    pub(crate) loads: Figure,
    pub(crate) load_failures: Figure,
    pub(crate) fills: Figure,
    pub(crate) fills_refused: Figure,
    pub(crate) fills_failed: Figure,
    pub(crate) invalidations: Figure,
    pub(crate) tier_errors: Figure,
    pub(crate) load_seconds: Histogram,
}

/// What a cache counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads answered from this process' memory.
    pub memory_hits: u64,
    /// Reads answered from the shared tier.
    pub tier_hits: u64,
    /// Reads answered by a value after its end.
    pub stale: u64,
    /// Of all answers, those that said that there is no value.
    pub absent: u64,
    /// Reads that found nothing fresh.
    pub misses: u64,
    /// Reads that waited for a load which another read had begun.
    pub shared_loads: u64,
    /// Loads that were begun.
    pub loads: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Values that were kept.
    pub fills: u64,
    /// Values that were not kept because something changed since their load began.
    pub fills_refused: u64,
    /// Values that could not be kept: not encodable, too large, or the tier failed.
    pub fills_failed: u64,
    /// Keys, tags and whole caches that were invalidated.
    pub invalidations: u64,
    /// Calls of the shared tier that failed.
    pub tier_errors: u64,
    /// Values in this process' memory now.
    pub memory_values: u64,
    /// Bytes that they weigh.
    pub memory_bytes: u64,
}

// === impl Figure ===

impl Figure {
    fn new(shared: Counter) -> Self {
        Self {
            own: AtomicU64::new(0),
            shared,
        }
    }

    pub(crate) fn one(&self) {
        self.many(1);
    }

    pub(crate) fn many(&self, count: u64) {
        self.own.fetch_add(count, Ordering::Relaxed);
        self.shared.increment(count);
    }

    fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

// === impl Figures ===

impl Figures {
    pub(crate) fn new(cache: &str) -> Self {
        let reads = |outcome: &'static str| {
            Figure::new(counter!("ratebox_cache_reads_total",
                "cache" => cache.to_owned(), "outcome" => outcome))
        };
        let fills = |outcome: &'static str| {
            Figure::new(counter!("ratebox_cache_fills_total",
                "cache" => cache.to_owned(), "outcome" => outcome))
        };
        let label = || cache.to_owned();
        Self {
            memory_hits: reads("memory"),
            tier_hits: reads("tier"),
            stale: reads("stale"),
            misses: reads("miss"),
            shared_loads: reads("shared_load"),
            absent: Figure::new(counter!("ratebox_cache_absent_total", "cache" => label())),
            loads: Figure::new(counter!("ratebox_cache_loads_total", "cache" => label())),
            load_failures: Figure::new(
                counter!("ratebox_cache_load_failures_total", "cache" => label()),
            ),
            fills: fills("kept"),
            fills_refused: fills("refused"),
            fills_failed: fills("failed"),
            invalidations: Figure::new(
                counter!("ratebox_cache_invalidations_total", "cache" => label()),
            ),
            tier_errors: Figure::new(
                counter!("ratebox_cache_tier_errors_total", "cache" => label()),
            ),
            load_seconds: histogram!("ratebox_cache_load_seconds", "cache" => label()),
        }
    }

    pub(crate) fn read(&self, (memory_values, memory_bytes): (u64, u64)) -> Stats {
        Stats {
            memory_hits: self.memory_hits.get(),
            tier_hits: self.tier_hits.get(),
            stale: self.stale.get(),
            absent: self.absent.get(),
            misses: self.misses.get(),
            shared_loads: self.shared_loads.get(),
            loads: self.loads.get(),
            load_failures: self.load_failures.get(),
            fills: self.fills.get(),
            fills_refused: self.fills_refused.get(),
            fills_failed: self.fills_failed.get(),
            invalidations: self.invalidations.get(),
            tier_errors: self.tier_errors.get(),
            memory_values,
            memory_bytes,
        }
    }
}

// === impl Stats ===

impl Stats {
    /// Share of the reads that needed no load (0 to 1); 0 without reads.
    pub fn hit_ratio(&self) -> f64 {
        let hits = self.memory_hits + self.tier_hits;
        let all = hits + self.misses;
        #[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53rd bit")]
        let ratio = if all == 0 {
            0.0
        } else {
            hits as f64 / all as f64
        };
        ratio
    }
}
