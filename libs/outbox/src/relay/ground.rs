//! Which partitions are a relay's: a fair share of the 16, by leases.
//!
//! Every relay holds one of 16 places as long as it lives; who holds a place counts. The first
//! relay takes all partitions; when a second one comes, each of the two holds 8 within a third of a
//! lease, and so on. What a dead relay held is free when its leases end. A lane of a broker of its own
//! has 16 further partitions and places.
//!
//! After an error a relay takes nothing for its own any more. In the database the leases have its name
//! still, so it takes them again at once, and does not wait for their end.

use std::time::Duration;

use ratebox_db::{Db, Lease, Leases};
use ratebox_kit::Stopwatch;

use crate::Result;
use crate::event::PARTITIONS;

const PLACE: &str = "outbox-relay/";
const PARTITION: &str = "outbox/";

/// How often a relay looks that lacks partitions of its share.
const HUNGRY: Duration = Duration::from_secs(1);

pub(super) struct Ground {
    db: Db,
    leases: Leases,
    /// The first of the 16 partitions.
    base: i64,
    length: Duration,
    place: Option<Lease>,
    held: Vec<(i64, Lease)>,
    is_hungry: bool,
    /// When the leases were renewed; they are ours for `length` from here.
    renewed: Option<Stopwatch>,
}

impl Ground {
    pub(super) fn new(db: Db, holder: &str, length: Duration, base: i64) -> Self {
        let leases = Leases::new(db.clone(), holder, length);
        Self {
            // What they last may be less than what was asked for.
            length: leases.length(),
            leases,
            db,
            base,
            place: None,
            held: Vec::new(),
            is_hungry: true,
            renewed: None,
        }
    }

    /// The lane of every broker that has none of its own.
    pub(super) fn is_home(&self) -> bool {
        self.base == 0
    }

    /// What the leases of places begin with.
    fn place_prefix(&self) -> String {
        match self.base {
            0 => PLACE.to_owned(),
            base => format!("outbox-relay@{base}/"),
        }
    }

    pub(super) fn partitions(&self) -> Vec<i64> {
        self.held.iter().map(|(number, _)| *number).collect()
    }

    /// The lease under which a partition is ours.
    pub(super) fn lease(&self, partition: i64) -> Option<&Lease> {
        let held = self.held.iter().find(|(number, _)| *number == partition);
        held.map(|(_, lease)| lease)
    }

    /// How long the leases are certainly ours.
    pub(super) fn left(&self) -> Duration {
        let renewed = self.renewed.as_ref().map(Stopwatch::elapsed);
        renewed.map_or(Duration::ZERO, |it| self.length.saturating_sub(it))
    }

    /// Everything may be somebody else's.
    pub(super) fn forget(&mut self) {
        self.renewed = None;
        self.held.clear();
        self.place = None;
    }

    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Renews what is ours and takes or gives back what is too little or too much.
    pub(super) async fn renew(&mut self) -> Result<()> {
        let due = if self.is_hungry {
            HUNGRY.min(self.length / 3)
        } else {
            self.length / 3
        };
        if self.renewed.as_ref().is_some_and(|at| at.elapsed() < due) {
            return Ok(());
        }
        let taken = Stopwatch::start();
        let share = self.share().await?;
        let names = self.held.iter().map(|(_, lease)| lease.name.clone());
        let kept = self.leases.take(names.collect()).await?;
        self.held = kept.into_iter().filter_map(numbered).collect();
        if self.held.len() > share {
            let extra = self.held.split_off(share);
            let names = extra.into_iter().map(|(_, lease)| lease.name);
            self.leases.give_back_some(names.collect()).await?;
        } else if self.held.len() < share {
            self.take(share - self.held.len()).await?;
        }
        self.is_hungry = self.held.len() < share;
        self.renewed = Some(taken);
        Ok(())
    }

    /// How many partitions should be ours, among the relays that live.
    async fn share(&mut self) -> Result<usize> {
        if let Some(place) = self.place.take() {
            self.place = self.leases.take(vec![place.name]).await?.pop();
        }
        let prefix = self.place_prefix();
        let mut live = Leases::live(&self.db, &prefix).await?;
        if self.place.is_none() {
            let Some(place) = self.vacant(&prefix, &live) else {
                return Ok(0); // Sixteen others work; this one waits.
            };
            self.place = self.leases.take(vec![place]).await?.pop();
            live = Leases::live(&self.db, &prefix).await?;
        }
        let Some(place) = &self.place else {
            return Ok(0); // Somebody was quicker.
        };
        let (all, count) = (usize::try_from(PARTITIONS).unwrap_or(16), live.len().max(1));
        let rank = live.iter().position(|(it, _)| it.name == place.name);
        Ok(all / count + usize::from(rank.unwrap_or(0) < all % count))
    }

    /// The place that was ours before an error, else the first that nobody has.
    fn vacant(&self, prefix: &str, live: &[(Lease, String)]) -> Option<String> {
        let own = live.iter().find(|(_, holder)| self.is_us(holder));
        if let Some((place, _)) = own {
            return Some(place.name.clone());
        }
        let mut places = (0..PARTITIONS).map(|number| format!("{prefix}{number:02}"));
        places.find(|name| live.iter().all(|(taken, _)| taken.name != *name))
    }

    fn is_us(&self, holder: &str) -> bool {
        holder == self.leases.holder()
    }

    async fn take(&mut self, missing: usize) -> Result<()> {
        let live = Leases::live(&self.db, PARTITION).await?;
        let is_held = |name: &String| self.held.iter().any(|(_, lease)| lease.name == *name);
        let is_others = |name: &String| {
            let mut others = live.iter().filter(|(_, holder)| !self.is_us(holder));
            others.any(|(lease, _)| lease.name == *name)
        };
        let lane = self.base..self.base + PARTITIONS;
        let names = lane.map(|number| format!("{PARTITION}{number:02}"));
        let free = names
            .filter(|it| !is_held(it) && !is_others(it))
            .take(missing)
            .collect();
        let taken = self.leases.take(free).await?;
        self.held.extend(taken.into_iter().filter_map(numbered));
        self.held.sort_by_key(|(number, _)| *number);
        Ok(())
    }
}

fn numbered(lease: Lease) -> Option<(i64, Lease)> {
    let number = lease.name.strip_prefix(PARTITION)?.parse().ok()?;
    Some((number, lease))
}
