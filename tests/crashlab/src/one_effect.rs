//! The experiment: every message has its effect once, whatever is killed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ratebox_kit::{Stopwatch, Tasks};
use tokio::sync::oneshot;

use crate::checker::Violation;
use crate::faults::Script;
use crate::lab::{Faults, Lab, Waits};
use crate::producer::{self, Progress};
use crate::sink;

/// The stream of the requests; the default of the settings.
pub(crate) const STREAM: &str = "validation_requests";
/// The group of the workers; the default, too.
pub(crate) const GROUP: &str = "validator_workers";
/// Workers at any time.
const WORKERS: usize = 2;

/// What is done, all of it drawn from one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where every decision comes from.
    pub seed: u64,
    /// Messages; each has one item.
    pub messages: u64,
    /// Appends a second at most.
    pub per_second: u64,
    /// Share of appends that are repeated on purpose, 0…1.
    pub duplicates: f64,
    /// A worker is killed with -9 so often, in the mean.
    pub kill_every: Duration,
    /// Redis restarts so often, with or without a kill.
    pub redis_every: Duration,
    /// PostgreSQL is killed so often.
    pub postgres_every: Duration,
    /// The run is given up when a message has no effect so long after the last was sent.
    pub patience: Duration,
}

impl Plan {
    /// A hundred thousand messages; a worker killed every 2 s, Redis restarted every 10 s,
    /// PostgreSQL killed every 25 s, one message of fifty sent twice.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            messages: 100_000,
            per_second: 4_000,
            duplicates: 0.02,
            kill_every: Duration::from_secs(2),
            redis_every: Duration::from_secs(10),
            postgres_every: Duration::from_secs(25),
            patience: Duration::from_secs(180),
        }
    }
}

/// What a run was and what it showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan.
    pub plan: Plan,
    /// The faults that were done.
    pub faults: Faults,
    /// Appends that the bus confirmed.
    pub entries: u64,
    /// Appends whose answer got lost.
    pub unknown: u64,
    /// Messages that were sent twice on purpose.
    pub injected: u64,
    /// Duplicates that the inbox kept from a second effect.
    pub suppressed: u64,
    /// From the first message to the last acknowledgement.
    pub took: Duration,
    /// What was broken; empty is good.
    pub violations: Vec<Violation>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { plan, faults, .. } = self;
        writeln!(
            to,
            "seed {}: {} messages in {:.1} s; {} entries, {} appends without an answer",
            plan.seed,
            plan.messages,
            self.took.as_secs_f64(),
            self.entries,
            self.unknown,
        )?;
        writeln!(
            to,
            "killed: {} workers, Redis {} times (and {} restarts in good order), PostgreSQL {} times",
            faults.workers_killed,
            faults.redis_killed,
            faults.redis_restarted,
            faults.postgres_killed,
        )?;
        writeln!(
            to,
            "{} duplicates injected, {} suppressed; {} violations",
            self.injected,
            self.suppressed,
            self.violations.len(),
        )?;
        for violation in self.violations.iter().take(20) {
            writeln!(to, "  {violation}")?;
        }
        Ok(())
    }
}

/// Runs the experiment.
///
/// # Errors
/// When a server or the binary cannot be started, or the system does not come to rest in time.
pub async fn run(plan: &Plan) -> Result<Report> {
    let mut lab = Lab::start(Waits::Short)?;
    for _ in 0..WORKERS {
        lab.add_worker()?;
    }
    let (watch, tasks) = (Stopwatch::start(), Tasks::new());
    let progress = Arc::new(Progress::default());
    let (tell, mut sent) = oneshot::channel();
    let (url, path) = (lab.redis.url(), lab.journal());
    let (of_plan, counted) = (plan.clone(), Arc::clone(&progress));
    tasks.spawn("sender", async move {
        let _ = tell.send(producer::send_all(of_plan, url, &path, counted).await);
    });
    strike_until_done(&mut lab, plan, &mut sent).await?;
    lab.look_at_all();
    lab.calm(plan.patience).await?;
    let took = watch.elapsed();
    let evidence = lab.evidence().await?;
    Ok(Report {
        plan: plan.clone(),
        faults: lab.faults,
        entries: progress.confirmed.load(Ordering::SeqCst),
        unknown: progress.unknown.load(Ordering::SeqCst),
        injected: progress.duplicates.load(Ordering::SeqCst),
        suppressed: evidence.suppressed(),
        took,
        violations: evidence.violations(),
    })
}

/// Does what the script says until everything was sent and every message has an effect.
async fn strike_until_done(
    lab: &mut Lab,
    plan: &Plan,
    sent: &mut oneshot::Receiver<Result<()>>,
) -> Result<()> {
    let (watch, mut script) = (Stopwatch::start(), Script::new(plan));
    let mut all_sent: Option<Stopwatch> = None;
    let mut looked = Duration::ZERO;
    loop {
        if let Some(fault) = script.due(watch.elapsed()) {
            lab.strike(fault, &mut script)?;
        }
        if all_sent.is_none() {
            match sent.try_recv() {
                Ok(outcome) => {
                    outcome.context("the sender gave up")?;
                    all_sent = Some(Stopwatch::start());
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(error) => return Err(error).context("the sender panicked"),
            }
        }
        // Counting costs the database something, so not all the time.
        let is_time = watch.elapsed() > looked + Duration::from_millis(500);
        if let Some(since) = &all_sent
            && is_time
        {
            looked = watch.elapsed();
            if sink::effects(&lab.postgres).is_some_and(|done| done >= plan.messages) {
                return Ok(());
            }
            if since.elapsed() > plan.patience {
                let done = sink::effects(&lab.postgres);
                let owed = lab.owed();
                bail!(
                    "{done:?} of {} messages have an effect, owed {owed:?}\n{}",
                    plan.messages,
                    lab.said(),
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
