//! Which lane may take how much of the next read. Pure.
//!
//! Lanes that had as much as they were allowed share the batch by weight; lanes that had less get
//! a small probe beside it, so that one busy lane fills a batch in one round trip and a waking
//! lane is seen at once. Remainders are carried over: even at one entry a pass, every lane gets
//! its share in the long run.

use crate::{Entry, Lane, LaneQuota, Lanes};

/// The probe of a quiet lane is this part of the batch, at least one entry.
const PROBE_PART: usize = 16;

#[derive(Debug)]
pub(crate) struct Credits {
    lanes: Vec<LaneCredit>,
}

#[derive(Debug)]
struct LaneCredit {
    lane: Lane,
    weight: i64,
    /// What it was short of in earlier passes, in parts of one entry; negative after too much.
    credit: i64,
    /// It used its whole quota in the last read that asked it.
    busy: bool,
}

// === impl Credits ===

impl Credits {
    /// Every lane counts as busy until a read shows otherwise.
    pub(crate) fn new(lanes: &Lanes, weights: [u32; 3]) -> Self {
        let weight = |lane: Lane| i64::from(weights[lane.index()].max(1));
        let lanes = lanes.iter().map(|(lane, _)| LaneCredit {
            lane,
            weight: weight(lane),
            credit: 0,
            busy: true,
        });
        Self {
            lanes: lanes.collect(),
        }
    }

    /// The quotas of the next pass. Busy lanes get `total` between them.
    pub(crate) fn quotas(&mut self, total: usize) -> Vec<LaneQuota> {
        let total = total.max(1);
        let mut shares = self.shares(i64::try_from(total).unwrap_or(i64::MAX));
        for (share, lane) in shares.iter_mut().zip(&self.lanes) {
            if !lane.busy {
                *share = (total / PROBE_PART).max(1);
            }
        }
        let quotas = self.lanes.iter().zip(shares);
        quotas
            .filter(|(_, max)| *max > 0)
            .map(|(lane, max)| LaneQuota {
                lane: lane.lane,
                max,
            })
            .collect()
    }

    /// The quotas of a read that waits: all lanes are quiet.
    pub(crate) fn waiting(&self, total: usize) -> Vec<LaneQuota> {
        let max = (total / PROBE_PART).max(1);
        self.lanes
            .iter()
            .map(|lane| LaneQuota {
                lane: lane.lane,
                max,
            })
            .collect()
    }

    /// Whether any lane had as much as it was allowed.
    pub(crate) fn any_busy(&self) -> bool {
        self.busy().next().is_some()
    }

    /// Whether bulk work is all that there is plenty of, and something more urgent may come.
    pub(crate) fn is_bulk_only(&self) -> bool {
        let mut busy = self.busy().peekable();
        self.lanes.len() > 1 && busy.peek().is_some() && busy.all(|lane| lane.lane == Lane::Low)
    }

    /// Every lane may have plenty, as at the beginning.
    pub(crate) fn wake(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.busy = true);
    }

    /// Learns which lanes have more.
    pub(crate) fn learn(&mut self, quotas: &[LaneQuota], entries: &[Entry]) {
        for quota in quotas {
            let got = entries
                .iter()
                .filter(|entry| entry.lane == quota.lane)
                .count();
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.lane == quota.lane) {
                lane.busy = got >= quota.max;
                if !lane.busy {
                    lane.credit = 0;
                }
            }
        }
    }

    /// Splits `total` over the busy lanes: whole shares first, the rest to those that are owed
    /// most. Quiet lanes get 0 here.
    fn shares(&mut self, total: i64) -> Vec<usize> {
        let weights: i64 = self.busy().map(|lane| lane.weight).sum();
        let mut shares = vec![0_i64; self.lanes.len()];
        if weights == 0 {
            return vec![0; self.lanes.len()];
        }
        let mut left = total;
        for (share, lane) in shares
            .iter_mut()
            .zip(&mut self.lanes)
            .filter(|(_, lane)| lane.busy)
        {
            lane.credit += lane.weight * total;
            *share = (lane.credit / weights).clamp(0, left);
            lane.credit -= *share * weights;
            left -= *share;
        }
        for _ in 0..left {
            let owed = self
                .lanes
                .iter_mut()
                .zip(&mut shares)
                .filter(|(lane, _)| lane.busy);
            if let Some((lane, share)) = owed.max_by_key(|(lane, _)| lane.credit) {
                lane.credit -= weights;
                *share += 1;
            }
        }
        shares
            .into_iter()
            .map(|share| usize::try_from(share).unwrap_or(0))
            .collect()
    }

    fn busy(&self) -> impl Iterator<Item = &LaneCredit> {
        self.lanes.iter().filter(|lane| lane.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryId, StreamName};

    fn credits() -> Credits {
        Credits::new(&Lanes::of(&StreamName::new("s")), [6, 3, 1])
    }

    fn entries(counts: [usize; 3]) -> Vec<Entry> {
        let of = |lane: Lane, count: usize| {
            (0..count).map(move |_| Entry {
                stream: StreamName::new("s"),
                lane,
                id: EntryId::MIN,
                deliveries: 1,
                fields: Vec::new(),
            })
        };
        Lane::ALL
            .into_iter()
            .zip(counts)
            .flat_map(|(lane, count)| of(lane, count))
            .collect()
    }

    fn sizes(quotas: &[LaneQuota]) -> [usize; 3] {
        let of = |lane| {
            quotas
                .iter()
                .find(|quota| quota.lane == lane)
                .map_or(0, |quota| quota.max)
        };
        Lane::ALL.map(of)
    }

    #[test]
    fn busy_lanes_share_by_weight() {
        assert_eq!(sizes(&credits().quotas(100)), [60, 30, 10]);
    }

    #[test]
    fn one_busy_lane_gets_the_whole_batch_and_quiet_ones_are_probed() {
        let mut credits = credits();
        let quotas = credits.quotas(500);
        credits.learn(&quotas, &entries([0, 150, 0]));
        assert_eq!(sizes(&credits.quotas(500)), [31, 500, 31]);
    }

    #[test]
    fn a_waking_lane_gets_its_share_in_the_next_pass() {
        let mut credits = credits();
        let quotas = credits.quotas(100);
        credits.learn(&quotas, &entries([0, 30, 0]));
        let quotas = credits.quotas(100);
        credits.learn(&quotas, &entries([6, 100, 0]));
        assert_eq!(sizes(&credits.quotas(90)), [60, 30, 5]);
    }

    #[test]
    fn at_one_entry_a_pass_no_lane_starves() {
        let mut credits = credits();
        let mut got = [0; 3];
        for _ in 0..100 {
            let quotas = credits.quotas(1);
            let counts = sizes(&quotas);
            credits.learn(&quotas, &entries(counts));
            for (sum, count) in got.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        assert_eq!(got, [60, 30, 10]);
    }
}
