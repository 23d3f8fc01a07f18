//! Looks what is due and fires it.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Clock, Shutdown, Timestamp};
use tokio::sync::Mutex;

use super::{Firings, Job};
use crate::{Error, stats};

/// The longest nap, so that a clock that is set forward is seen soon.
const NAP_MAX: Duration = Duration::from_secs(1);

/// The shortest, so that what is due in this very millisecond does not make a busy loop.
const NAP_MIN: Duration = Duration::from_millis(1);

/// Jobs, and the log that they fire on. Run it in every process.
pub struct Cron {
    firings: Arc<dyn Firings>,
    clock: Clock,
    jobs: Vec<Job>,
    /// Each job's last moment as far as this process knows.
    last: Mutex<Vec<Option<Timestamp>>>,
}

// === impl Cron ===

impl Cron {
    /// No jobs yet.
    pub fn new(firings: Arc<dyn Firings>, clock: Clock) -> Self {
        Self {
            firings,
            clock,
            jobs: Vec::new(),
            last: Mutex::default(),
        }
    }

    /// Adds a job.
    ///
    /// # Panics
    /// When a job of this name sends to the same stream already.
    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        let same = |other: &Job| other.name == job.name && other.stream == job.stream;
        assert!(
            !self.jobs.iter().any(same),
            "two jobs are called {}",
            job.name
        );
        self.jobs.push(job);
        self.last.get_mut().push(None);
        self
    }

    /// Fires what is due; returns the time until the next moment, `None` when none will come.
    ///
    /// # Errors
    /// When the log cannot be reached. What is due then is fired by the next step.
    pub async fn step(&self) -> Result<Option<Duration>, Error> {
        let now = self.clock.now();
        let mut last = self.last.lock().await;
        let mut next: Option<Timestamp> = None;
        for (job, last) in self.jobs.iter().zip(last.iter_mut()) {
            let known = match *last {
                Some(known) => known,
                None => {
                    self.firings
                        .begin(&job.stream, &job.name, whole(now))
                        .await?
                }
            };
            *last = Some(known);
            let (moments, over) = job.due(known, now);
            for moment in moments {
                let append = job.append(moment);
                let is_ours = self.firings.fire(&job.name, moment, &append).await?;
                *last = Some(moment);
                report(job, moment, is_ours);
            }
            *last = Some(over);
            let due_at = job.schedule.next(over).map(|moment| job.due_at(moment));
            next = next.into_iter().chain(due_at).min();
        }
        let until = |next: Timestamp| Duration::try_from(next.duration_since(now));
        Ok(next.map(|next| until(next).unwrap_or(Duration::ZERO)))
    }

    /// Steps until the process is asked to stop.
    pub async fn run(&self, shutdown: &Shutdown) {
        while !shutdown.is_stopping() {
            let nap = match self.step().await {
                Ok(next) => next.unwrap_or(NAP_MAX).clamp(NAP_MIN, NAP_MAX),
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "jobs could not be fired");
                    NAP_MAX
                }
            };
            shutdown.sleep(nap).await;
        }
    }
}

/// Logs keep milliseconds.
fn whole(now: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn report(job: &Job, moment: Timestamp, is_ours: bool) {
    if is_ours {
        stats::count(stats::CRON_FIRED, &job.stream, 1);
        tracing::info!(job = job.name, %moment, stream = %job.stream, "fired");
    } else {
        tracing::debug!(job = job.name, %moment, "fired by another process");
    }
}
