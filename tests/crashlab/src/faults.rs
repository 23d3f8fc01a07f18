//! The script of faults: what happens when, all drawn from one seed.

use std::time::Duration;

use fastrand::Rng;

use crate::one_effect::Plan;

/// Something that is done to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A worker is killed with -9, and another one starts.
    KillWorker,
    /// Redis is killed with -9 and started again on its file.
    KillRedis,
    /// Redis ends in good order and starts again.
    RestartRedis,
    /// PostgreSQL and all its processes are killed with -9, and it recovers.
    KillPostgres,
}

/// Draws the next fault; every kind has its own clock.
pub(crate) struct Script {
    rng: Rng,
    next: [(Duration, Kind); 3],
    every: [Duration; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Worker,
    Redis,
    Postgres,
}

// === impl Script ===

impl Script {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut script = Self {
            rng: Rng::with_seed(plan.seed ^ 0xFA17),
            next: [
                (Duration::ZERO, Kind::Worker),
                (Duration::ZERO, Kind::Redis),
                (Duration::ZERO, Kind::Postgres),
            ],
            every: [plan.kill_every, plan.redis_every, plan.postgres_every],
        };
        for kind in 0..3 {
            script.plan(kind, Duration::ZERO);
        }
        script
    }

    /// What is due at this time since the start, the one that is longest due first.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Fault> {
        let (place, _) = (0..3)
            .zip(&self.next)
            .filter(|(_, (at, _))| *at <= now)
            .min_by_key(|(_, (at, _))| *at)?;
        let (at, kind) = self.next[place];
        self.plan(place, at.max(now.saturating_sub(self.every[place])));
        Some(match kind {
            Kind::Worker => Fault::KillWorker,
            Kind::Redis if self.rng.bool() => Fault::KillRedis,
            Kind::Redis => Fault::RestartRedis,
            Kind::Postgres => Fault::KillPostgres,
        })
    }

    /// A quarter earlier or later than the mean, so that the kinds meet in every way.
    fn plan(&mut self, place: usize, from: Duration) {
        let share = 0.75 + self.rng.f64() / 2.0;
        self.next[place].0 = from + self.every[place].mul_f64(share);
    }

    /// Which of so many.
    pub(crate) fn choose(&mut self, count: usize) -> usize {
        self.rng.usize(..count.max(1))
    }
}
