//! What is used of the limits of a stream, as plain data: for the logs that keep it themselves.
//! The script `acquire.lua` does the same on a server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ask, AtWork, Permits, Rate, Rules, Scope};

/// How long another try makes no sense when too much is at work: nobody knows when it ends.
const AT_WORK_WAIT: Duration = Duration::from_millis(50);

/// Permits that were leased, by the milliseconds at which their part of time began.
type Parts = BTreeMap<u64, u32>;

/// Of each member, what it has at work and until when that is believed.
type Holders = BTreeMap<String, (u32, u64)>;

/// What is used now.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    rates: HashMap<String, Parts>,
    holders: HashMap<String, Holders>,
}

/// Who asks, and when.
pub(crate) struct Moment<'a> {
    pub(crate) member: &'a str,
    pub(crate) now_ms: u64,
    pub(crate) lease: Duration,
}

// === impl Usage ===

impl Usage {
    pub(crate) fn acquire(
        &mut self,
        rules: &Rules,
        asks: &[Ask],
        at_work: &AtWork,
        at: &Moment<'_>,
    ) -> Vec<Permits> {
        self.renew(at_work, at);
        asks.iter().map(|ask| self.grant(rules, ask, at)).collect()
    }

    pub(crate) fn renew(&mut self, at_work: &AtWork, at: &Moment<'_>) {
        let lease_ms = u64::try_from(at.lease.as_millis()).unwrap_or(u64::MAX);
        for (scope, count) in at_work {
            let holders = self.holders.entry(scope.as_str().to_owned()).or_default();
            let ends_ms = at.now_ms.saturating_add(lease_ms);
            holders.insert(at.member.to_owned(), (*count, ends_ms));
        }
        let now_ms = at.now_ms;
        self.holders.retain(|_, holders| {
            holders.retain(|_, (count, ends_ms)| *count > 0 && *ends_ms > now_ms);
            !holders.is_empty()
        });
    }

    fn grant(&mut self, rules: &Rules, ask: &Ask, at: &Moment<'_>) -> Permits {
        let mut permits = Permits {
            granted: ask.count,
            wait: Duration::ZERO,
            limited_by: None,
        };
        for (place, scope) in ask.scopes.iter().enumerate() {
            let rule = scope.rule(rules);
            if let Some(rate) = rule.rate {
                let (free, wait) = self.free_of_rate(scope, rate, at.now_ms);
                permits.bound(free, wait, place);
            }
            if let Some(max) = rule.at_work {
                let holders = self.holders.get(scope.as_str());
                let used: u32 = holders
                    .into_iter()
                    .flatten()
                    .map(|(_, (count, _))| count)
                    .sum();
                permits.bound(max.saturating_sub(used), AT_WORK_WAIT, place);
            }
        }
        for scope in &ask.scopes {
            self.take(scope, rules, permits.granted, at);
        }
        permits
    }

    /// What is left of a rate, and how long until there is more.
    fn free_of_rate(&mut self, scope: &Scope, rate: Rate, now_ms: u64) -> (u32, Duration) {
        let part_ms = rate.part_ms();
        let counts_ms = rate.window_ms + rate.validity_ms();
        let oldest = oldest_ms(rate, now_ms);
        let parts = self.rates.entry(scope.as_str().to_owned()).or_default();
        parts.retain(|part, _| *part >= oldest);
        let used: u32 = parts.values().sum();
        let frees_ms = parts
            .keys()
            .next()
            .map_or(0, |part| part + part_ms + counts_ms);
        let wait = Duration::from_millis(frees_ms.saturating_sub(now_ms).max(1));
        (rate.max.saturating_sub(used), wait)
    }

    fn take(&mut self, scope: &Scope, rules: &Rules, count: u32, at: &Moment<'_>) {
        let rule = scope.rule(rules);
        if let Some(rate) = rule.rate
            && count > 0
        {
            let parts = self.rates.entry(scope.as_str().to_owned()).or_default();
            *parts
                .entry(at.now_ms / rate.part_ms() * rate.part_ms())
                .or_default() += count;
        }
        if rule.at_work.is_some() && count > 0 {
            let lease_ms = u64::try_from(at.lease.as_millis()).unwrap_or(u64::MAX);
            let holders = self.holders.entry(scope.as_str().to_owned()).or_default();
            let held = holders.entry(at.member.to_owned()).or_default();
            *held = (held.0 + count, at.now_ms.saturating_add(lease_ms));
        }
    }

    /// Forgets what counts no more, so that scopes of the past take no room.
    pub(crate) fn forget(&mut self, rules: &Rules, now_ms: u64) {
        self.rates.retain(|name, parts| {
            let rate = Scope(name.clone()).rule(rules).rate;
            rate.is_some_and(|rate| {
                let oldest = oldest_ms(rate, now_ms);
                parts.retain(|part, _| *part >= oldest);
                !parts.is_empty()
            })
        });
    }
}

/// Parts that began before this count no more.
fn oldest_ms(rate: Rate, now_ms: u64) -> u64 {
    let counts_ms = rate.window_ms + rate.validity_ms();
    now_ms.saturating_sub(counts_ms) / rate.part_ms() * rate.part_ms()
}

// === impl Permits ===

impl Permits {
    /// No more than `free`; the narrowest limit is named.
    fn bound(&mut self, free: u32, wait: Duration, place: usize) {
        if free < self.granted {
            (self.granted, self.wait, self.limited_by) = (free, wait, Some(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;

    fn rules(limit: Limit) -> Rules {
        Rules::from([(Scope::each_key(), limit)])
    }

    fn at(now_ms: u64) -> Moment<'static> {
        Moment {
            member: "a",
            now_ms,
            lease: Duration::from_secs(1),
        }
    }

    fn ask(usage: &mut Usage, rules: &Rules, count: u32, now_ms: u64) -> u32 {
        let ask = Ask {
            scopes: vec![Scope::all(), Scope::key("k")],
            count,
        };
        usage.grant(rules, &ask, &at(now_ms)).granted
    }

    #[test]
    fn no_window_has_more_than_the_rate_however_it_is_asked_for() {
        let rate = Rate::per_second(100);
        let rules = rules(Limit {
            rate: Some(rate),
            at_work: None,
        });
        let mut usage = Usage::default();
        // Each start as late as its permit allows, or at once: the worst of both in any window.
        let mut starts: Vec<(u64, u32)> = Vec::new();
        for step in 0..2_000_u64 {
            let now_ms = 10_000 + step * 7;
            let granted = ask(&mut usage, &rules, 1 + (step % 13) as u32, now_ms);
            starts.push((now_ms + (step % 2) * rate.validity_ms(), granted));
        }
        for (begin, _) in &starts {
            let window = starts
                .iter()
                .filter(|(at, _)| (*begin..begin + 1_000).contains(at));
            let count: u32 = window.map(|(_, count)| count).sum();
            assert!(count <= 100, "{count} from {begin}");
        }
        let all: u32 = starts.iter().map(|(_, count)| count).sum();
        assert!(all > 14 * 90, "{all} in 14 s");
    }

    #[test]
    fn permits_to_be_at_work_come_back_when_told_or_when_their_lease_ends() {
        let rules = rules(Limit {
            rate: None,
            at_work: Some(5),
        });
        let mut usage = Usage::default();
        assert_eq!(ask(&mut usage, &rules, 4, 0), 4);
        assert_eq!(ask(&mut usage, &rules, 4, 1), 1);
        usage.renew(&AtWork::from([(Scope::key("k"), 2)]), &at(2));
        assert_eq!(ask(&mut usage, &rules, 9, 2), 3);
        usage.renew(&AtWork::new(), &at(2_000));
        assert_eq!(ask(&mut usage, &rules, 9, 2_000), 5);
    }
}
