//! What a relay does now and then: tell how much waits, and keep the archive.

use std::time::Duration;

use ratebox_db::Db;
use ratebox_kit::{Causes, Stopwatch};

use super::{Relay, RelaySettings};
use crate::archive;

/// Time between looks at how much waits, for the gauges.
const GAUGES: Duration = Duration::from_secs(15);
/// Time between rounds through the archive.
const ARCHIVE: Duration = Duration::from_secs(3600);

/// When what was done last.
#[derive(Default)]
pub(super) struct Chores {
    gauges: Option<Stopwatch>,
    archive: Option<Stopwatch>,
}

impl Chores {
    /// Does what is due. What fails is done the next time; a database that is away is told by the
    /// relay's next step.
    pub(super) async fn look(&mut self, db: &Db, settings: &RelaySettings) {
        if is_due(&mut self.gauges, GAUGES) {
            let _ = Relay::pending(db).await;
        }
        if let Some(keep) = settings.archive
            && is_due(&mut self.archive, ARCHIVE)
            && let Err(error) = archive::tidy(db, keep).await
        {
            tracing::warn!(error = %Causes(&error), "the archive of sent events could not be tidied yet");
        }
    }
}

fn is_due(last: &mut Option<Stopwatch>, every: Duration) -> bool {
    let due = last.as_ref().is_none_or(|at| at.elapsed() >= every);
    if due {
        *last = Some(Stopwatch::start());
    }
    due
}
