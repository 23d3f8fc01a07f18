//! A value in this process' memory, and what it is worth now.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::entry::{Stamp, Times};
use crate::generations::{Moment, TagCells};
use crate::policy::Early;
use crate::view::View;

/// A value, or the knowledge that there is none. A hit looks at a copy of what matters
/// ([`crate::memory::Front`]), which lies beside the key.
pub(crate) struct Held<V> {
    pub(crate) value: Option<Arc<V>>,
    /// Nothing that was heard of after this is in it.
    pub(crate) at: Moment,
    pub(crate) times: Times,
    /// After this the shared tier is asked again, whatever was heard.
    pub(crate) trusted_ms: i64,
    /// The cells of its tags, the namespace's first.
    pub(crate) tags: TagCells,
    /// Loaded while the shared tier was away: worth something only for that time.
    pub(crate) is_stopgap: bool,
    /// How long its load took.
    pub(crate) cost_us: u32,
    /// Who filled it; nil when it was never in a shared tier.
    pub(crate) stamp: Stamp,
    /// What it weighs in memory.
    pub(crate) weight: u64,
    /// No refresh before this: the last one failed, or another process is at it.
    retry_ms: AtomicI64,
    /// A load failed: until then nobody calls the loader. Apart from the other, as whoever waits for
    /// fresh values does wait for what another process is at.
    failed_until_ms: AtomicI64,
}

/// What a held value is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It is the answer.
    Fresh,
    /// It is the answer, and it is time to load the next.
    Due,
    /// It may stand in for a fresh one.
    Stale,
    /// Changes may have been missed: only if nothing else can be had.
    Doubtful,
    /// Nothing.
    Dead,
}

// === impl Held ===

impl<V> Held<V> {
    pub(crate) fn new(value: Option<Arc<V>>, at: Moment, times: Times) -> Self {
        Self {
            value,
            at,
            times,
            stamp: Stamp::nil(),
            cost_us: 0,
            trusted_ms: i64::MAX,
            tags: TagCells::default(),
            weight: 1,
            is_stopgap: false,
            retry_ms: AtomicI64::new(i64::MIN),
            failed_until_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// The same, read once more after that moment.
    pub(crate) fn again(&self, at: Moment) -> Self {
        let mut held = Self::new(self.value.clone(), at, self.times);
        held.trusted_ms = self.trusted_ms;
        held.tags = self.tags.clone();
        held.cost_us = self.cost_us;
        held.stamp = self.stamp;
        held.weight = self.weight;
        held
    }

    /// Another process is at it: no refresh before this time.
    pub(crate) fn retry_at(&self, ms: i64) {
        self.retry_ms.store(ms, Ordering::Relaxed);
    }

    /// A load failed: no other before this time, whoever waits.
    pub(crate) fn failed_until(&self, ms: i64) {
        self.retry_at(ms);
        self.failed_until_ms.store(ms, Ordering::Relaxed);
    }

    /// Whether a load failed a moment ago: past its end, it is the answer all the same.
    pub(crate) fn rests(&self, now_ms: i64) -> bool {
        now_ms < self.failed_until_ms.load(Ordering::Relaxed)
    }

    /// The pauses of another copy of the same value go on in this one.
    pub(crate) fn rest_as(&self, other: &Self) {
        let copy = |from: &AtomicI64, to: &AtomicI64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&other.retry_ms, &self.retry_ms);
        copy(&other.failed_until_ms, &self.failed_until_ms);
    }

    /// Whether a refresh may be tried now.
    pub(crate) fn may_refresh(&self, now_ms: i64) -> bool {
        now_ms >= self.retry_ms.load(Ordering::Relaxed)
    }

    /// What it is worth from memory.
    pub(crate) fn worth(&self, view: &View, now_ms: i64, early: Early) -> Worth {
        if now_ms >= self.times.hard_ms || !view.generations.tags_hold(&self.tags, self.at) {
            return Worth::Dead;
        }
        if self.is_stopgap {
            let counts = view.is_away() && now_ms < self.times.soft_ms;
            return if counts { Worth::Fresh } else { Worth::Dead };
        }
        if now_ms >= self.trusted_ms || !view.generations.heard_since(self.at) {
            return Worth::Doubtful;
        }
        self.age(now_ms, early)
    }

    /// What it is worth by its age alone.
    pub(crate) fn age(&self, now_ms: i64, early: Early) -> Worth {
        let times = &self.times;
        if now_ms >= times.hard_ms {
            Worth::Dead
        } else if now_ms >= times.soft_ms {
            Worth::Stale
        } else if is_due(times, self.cost_us, now_ms, early) && self.may_refresh(now_ms) {
            Worth::Due
        } else {
            Worth::Fresh
        }
    }
}

/// Times the cost of a load at which a draw that early is one in 160,000.
const CHANCE_REACH: f64 = 12.0;

/// Whether it is time to load the next value, while this one is fresh.
fn is_due(times: &Times, cost_us: u32, now_ms: i64, early: Early) -> bool {
    // Only near the end is a draw worth its price.
    now_ms >= earliest_due_ms(times, cost_us, early)
        && match early {
            Early::Never | Early::Share(_) => true,
            // `1 - f64()` is never zero.
            Early::Chance(beta) => {
                let left = span_ms(now_ms, times.soft_ms);
                left <= -reach_ms(cost_us, beta) * (1.0 - fastrand::f64()).ln()
            }
        }
}

/// The first millisecond at which it may be time to load the next value.
pub(crate) fn earliest_due_ms(times: &Times, cost_us: u32, early: Early) -> i64 {
    match early {
        Early::Never => i64::MAX,
        Early::Share(share) => {
            let life = span_ms(times.created_ms, times.soft_ms);
            let share = life * share.clamp(0.0, 1.0);
            times.created_ms.saturating_add(whole_ms(share.ceil()))
        }
        Early::Chance(beta) => {
            let reach = reach_ms(cost_us, beta) * CHANCE_REACH;
            times.soft_ms.saturating_sub(whole_ms(reach.floor()))
        }
    }
}

/// How long before the end a draw says that it is time, on average.
fn reach_ms(cost_us: u32, beta: f64) -> f64 {
    f64::from(cost_us) / 1_000.0 * beta.max(0.0)
}

fn span_ms(from: i64, to: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "lives are far below 2^52 milliseconds"
    )]
    let span = (to - from) as f64;
    span
}

fn whole_ms(span: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole milliseconds; the cast saturates"
    )]
    let ms = span as i64;
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(view: &View) -> Held<u8> {
        let times = Times {
            created_ms: 0,
            soft_ms: 100,
            hard_ms: 150,
        };
        let mut held = Held::new(None, view.generations.now(), times);
        held.cost_us = 1_000;
        held
    }

    #[test]
    fn age_takes_the_worth_away_step_by_step() {
        let view = View::new();
        let held = held(&view);
        let worth = |ms, early| held.worth(&view, ms, early);
        assert_eq!(worth(99, Early::Never), Worth::Fresh);
        assert_eq!(worth(79, Early::Share(0.8)), Worth::Fresh);
        assert_eq!(worth(80, Early::Share(0.8)), Worth::Due);
        assert_eq!(worth(100, Early::Never), Worth::Stale);
        assert_eq!(worth(150, Early::Never), Worth::Dead);
        held.retry_at(95);
        assert_eq!(worth(90, Early::Share(0.8)), Worth::Fresh);
    }

    #[test]
    fn only_a_load_that_failed_makes_it_rest_and_copies_rest_with_it() {
        let view = View::new();
        let held = held(&view);
        held.retry_at(95);
        assert!(!held.may_refresh(94) && !held.rests(94));
        held.failed_until(110);
        assert!(!held.may_refresh(109) && held.rests(109));
        let copy = held.again(view.generations.now());
        assert!(!copy.rests(109));
        copy.rest_as(&held);
        assert!(copy.rests(109) && !copy.may_refresh(109));
        assert!(!copy.rests(110) && copy.may_refresh(110));
    }

    #[test]
    fn what_was_missed_makes_it_doubtful_and_what_was_heard_kills_it() {
        let view = View::new();
        let mut held = held(&view);
        held.tags = [crate::generations::tag_cell("t")].into_iter().collect();
        view.lost();
        assert_eq!(held.worth(&view, 0, Early::Never), Worth::Doubtful);
        view.found(view.losses());
        assert_eq!(held.worth(&view, 0, Early::Never), Worth::Doubtful);
        view.tag_changed("t");
        assert_eq!(held.worth(&view, 0, Early::Never), Worth::Dead);
    }

    #[test]
    fn early_refresh_by_chance_comes_near_the_end_and_in_proportion_to_the_cost() {
        let view = View::new();
        let held = held(&view);
        let due = |ms| {
            let draws = (0..10_000).filter(|_| held.age(ms, Early::Chance(1.0)) == Worth::Due);
            draws.count()
        };
        assert_eq!(due(50), 0);
        // One load's time before the end: one in e.
        assert!((3_300..4_100).contains(&due(99)), "{}", due(99));
        assert!((300..700).contains(&due(97)), "{}", due(97));
    }
}
