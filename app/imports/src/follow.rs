//! The step `follow`: counts the requests of an import as they reach their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ratebox_intake::Tally;
use ratebox_saga::{Ctx, StepError, StepResult};
use ratebox_store::{CountedPart, FinishedPart, ImportPulse};
use uuid::Uuid;

use crate::Desk;
use crate::cut::cancelled;
use crate::desk::{failed, in_doubt, unknown};

/// The first look comes soon: a small import has its verdicts within milliseconds. The wait grows
/// while nothing happens.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// While a process follows more imports than this, it looks at each of them less often, so that the
/// store is asked no more than about as many times in [`follow_every`](crate::Settings::follow_every).
const FOLLOWED_MAX: u32 = 256;
/// Requests whose responses are read at once.
const PARTS_MAX: u32 = 8;

impl Desk {
    /// Looks until every request is counted.
    pub(crate) async fn follow(self: Arc<Self>, ctx: Ctx, import: Uuid) -> StepResult {
        let following = Following::of(&self.followed);
        let mut wait = FIRST_WAIT;
        loop {
            let counted = self.count(import).await?;
            let pulse = self.pulse(import).await?;
            if pulse.cancel_asked {
                return Err(cancelled());
            }
            if pulse.open == 0 {
                return Ok(());
            }
            wait = match counted {
                0 => (wait * 3 / 2).min(self.settings.follow_every * following.share()),
                _ => FIRST_WAIT.min(self.settings.follow_every),
            };
            let rested = tokio::select! {
                rested = self.shutdown.sleep(wait) => rested,
                () = ctx.cancelled() => false,
            };
            if !rested {
                return Err(StepError::retryable("told to stop; somebody else follows"));
            }
        }
    }

    /// Counts what has reached its end since the last time; returns how many requests that were.
    pub(crate) async fn count(&self, import: Uuid) -> StepResult<usize> {
        let _turn = self.counting.acquire().await;
        let mut total = 0;
        loop {
            let finished = self.store.finished_parts(import, PARTS_MAX).await;
            let finished = finished.map_err(failed)?;
            let counted: Vec<CountedPart> = finished.iter().map(count).collect();
            if counted.is_empty() {
                return Ok(total);
            }
            total += counted.len();
            let kept = self.store.count_parts(import, &counted).await;
            kept.map_err(in_doubt)?;
        }
    }

    pub(crate) async fn pulse(&self, import: Uuid) -> StepResult<ImportPulse> {
        let pulse = self.store.import_pulse(import).await.map_err(failed)?;
        pulse.ok_or_else(unknown)
    }
}

/// Counts whoever follows, as long as it does.
struct Following<'a>(&'a AtomicU32);

impl<'a> Following<'a> {
    fn of(followed: &'a AtomicU32) -> Self {
        followed.fetch_add(1, Ordering::Relaxed);
        Self(followed)
    }

    /// How much rarer than usual a look is to be.
    fn share(&self) -> u32 {
        self.0.load(Ordering::Relaxed).div_ceil(FOLLOWED_MAX).max(1)
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn count(part: &FinishedPart) -> CountedPart {
    let tally = part.response.as_deref().and_then(Tally::of);
    let tally = tally.unwrap_or_default();
    CountedPart {
        number: part.number,
        state: part.state,
        done: tally.done,
        failed: tally.failed,
        codes: tally.codes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_get_rarer_beyond_so_many_imports() {
        let followed = AtomicU32::new(0);
        let first = Following::of(&followed);
        assert_eq!(first.share(), 1);
        let many: Vec<_> = (0..FOLLOWED_MAX)
            .map(|_| Following::of(&followed))
            .collect();
        assert_eq!(first.share(), 2);
        drop(many);
        assert_eq!((first.share(), followed.load(Ordering::Relaxed)), (1, 1));
    }
}
