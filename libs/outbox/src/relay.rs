//! The safety net and the keeper of order: sends what its sender left.
//!
//! Rows are read by existence and in id order, within partitions that are leased to one relay
//! each. There is no remembered id: ids are drawn before commits, so a reader that remembers the
//! last id loses what commits late.
//!
//! A broker beside the first one ([`Router`](crate::Router)) has a lane of its own, with partitions
//! of its own: an outage of one holds up no event that goes to another.

mod chores;
mod due;
mod ear;
mod first;
mod ground;
mod health;
mod lane;
mod outage;
mod postgres;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use ratebox_db::{Db, Leases};
use ratebox_kit::{Backoff, Shutdown};
use tokio::sync::Notify;
use uuid::Uuid;

use self::lane::Lane;
use crate::{Broker, OutboxAdmin, Result, broker, sql, stats};

pub use self::health::{Lack, RelayHealth};

pub(crate) use self::due::{Due, read, waves};
pub(crate) use self::ear::Bell;
pub(crate) use self::outage::{NO_ANSWER, Outage};
pub(crate) use self::postgres::OUTBOX_FILE;

/// How a relay works.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Rows that one read takes from one partition at most; it begins with few.
    pub batch_max: i64,
    /// How often it looks without being woken.
    pub poll: Duration,
    /// How long a partition is leased; renewed at a third of it.
    pub lease: Duration,
    /// Tries before an event is dead.
    pub attempts_max: i64,
    /// Waits between tries of one event.
    pub backoff: Backoff,
    /// A broker that has not answered for so long is away.
    pub publish_timeout: Duration,
    /// How long sent events are kept in the archive; `None` for not at all.
    pub archive: Option<Duration>,
    /// Topics whose events leave nothing in the archive; as in [`Settings::unarchived`](crate::Settings::unarchived).
    pub unarchived: Arc<[String]>,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            batch_max: 500,
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            attempts_max: 10,
            backoff: Backoff {
                first: Duration::from_secs(2),
                max: Duration::from_secs(3600),
            },
            publish_timeout: Duration::from_secs(10),
            archive: Some(Duration::from_secs(7 * 86_400)),
            unarchived: Arc::default(),
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sent this many events.
    Did(usize),
    /// Nothing to send, or other relays have the partitions.
    Idle,
    /// The broker is away; nothing was charged.
    Down,
}

/// First wait after work; it doubles up to the poll, since more often follows than not.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Is told the ids of events that were sent.
type Told = Arc<dyn Fn(&[Uuid]) + Send + Sync>;

/// Sends waiting events.
pub struct Relay {
    lanes: Vec<Lane>,
    wake: Arc<Notify>,
    /// The lanes' own, in their order.
    wakes: Vec<Arc<Notify>>,
}

impl Relay {
    /// A relay under a name that no other process has. `wake` is [`crate::Outbox::wake`] of the
    /// same process, if there is one.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a relay owns what it works with, be it one lane or several"
    )]
    pub fn new(
        db: Db,
        broker: Arc<dyn Broker>,
        holder: &str,
        settings: RelaySettings,
        wake: Arc<Notify>,
    ) -> Self {
        let mut bases = vec![0];
        bases.extend(broker.routes().into_iter().map(broker::base));
        bases.sort_unstable();
        bases.dedup();
        let wakes: Vec<Arc<Notify>> = bases.iter().map(|_| Arc::default()).collect();
        let lane = |(base, wake): (&i64, &Arc<Notify>)| {
            let holder = match base {
                0 => holder.to_owned(),
                base => format!("{holder}@{base}"),
            };
            let (db, broker, wake) = (db.clone(), broker.clone(), wake.clone());
            Lane::new(db, broker, &holder, settings.clone(), (*base, wake))
        };
        Self {
            lanes: bases.iter().zip(&wakes).map(lane).collect(),
            wake,
            wakes,
        }
    }

    /// Calls back with the ids of events that the broker has confirmed. What the callback does, a
    /// panic included, is its own business.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(&[Uuid]) + Send + Sync + 'static) -> Self {
        let told: Told = Arc::new(told);
        for lane in &mut self.lanes {
            lane.told = Some(told.clone());
        }
        self
    }

    /// What it lacks while it runs, for whoever answers for the process.
    pub fn health(&self) -> RelayHealth {
        // The lane of the first broker, and of all that have none of their own, is the first one.
        let home = self.lanes.first().map(|lane| lane.health.clone());
        home.unwrap_or_default()
    }

    /// How many relays live now.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn alive(db: &Db) -> Result<u64> {
        Ok(Leases::holders(db, "outbox-relay/").await?)
    }

    /// Works until it is asked to stop, then gives its partitions back.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { lanes, wake, wakes } = self;
        let passing_on = async {
            while shutdown.unless(wake.notified()).await.is_some() {
                wakes.iter().for_each(|it| it.notify_one());
            }
        };
        let running = lanes.into_iter().map(|it| it.run(shutdown.clone()));
        join(passing_on, join_all(running)).await;
    }

    /// One pass over the partitions that are ours.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn step(&mut self) -> Result<Step> {
        let steps = join_all(self.lanes.iter_mut().map(Lane::step)).await;
        let mut all = Step::Idle;
        for step in steps {
            all = match (all, step?) {
                (Step::Did(one), Step::Did(other)) => Step::Did(one + other),
                (Step::Did(one), _) | (_, Step::Did(one)) => Step::Did(one),
                (Step::Down, _) | (_, Step::Down) => Step::Down,
                (Step::Idle, Step::Idle) => Step::Idle,
            };
        }
        Ok(all)
    }

    /// Events that wait; also keeps the gauges.
    ///
    /// # Errors
    /// When the database is away or has no tables; those of `ratebox_db::Leases` are needed, too.
    pub async fn pending(db: &Db) -> Result<u64> {
        let admin = OutboxAdmin::new(db.clone());
        let status = Box::pin(admin.status()).await?;
        stats::status(&status);
        Ok(status.pending + status.claimed)
    }

    /// Whether an event was due `by` ago and is still here: the broker is away, or no relay runs.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn is_behind(db: &Db, by: Duration) -> Result<bool> {
        let values = vec![(by.as_secs_f64() * 1000.0).into()];
        let rows = db.query(sql::BEHIND.with(values)).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.get(0))?)
    }
}
