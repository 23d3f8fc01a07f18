//! Knowing when nothing was heard, and telling a tier that is back what it missed.

use std::time::Duration;

use ratebox_kit::{Causes, Shutdown};

use super::{Store, Tier};
use crate::Error;

/// Between two tries to reach a tier that is away.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// How long raised counts of late repairs live at least.
const REPAIR_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// Asks for signs of life until the process stops.
pub(super) async fn run(tier: &Tier, store: &dyn Store, heartbeat: Duration, shutdown: Shutdown) {
    let view = &tier.view;
    // Not the same as whether it is away: whoever could not tell it of a change knows before.
    let mut is_said = false;
    while !shutdown.is_stopping() {
        let losses = view.losses();
        let looked = shutdown.unless(look(tier, store)).await;
        let pause = match looked {
            None => return,
            Some(Ok(())) if view.found(losses) => {
                if is_said {
                    tracing::info!("the cache's shared tier is back");
                    is_said = false;
                }
                let doubt = tokio::time::timeout(heartbeat, view.doubted());
                let _ = shutdown.unless(doubt).await;
                continue;
            }
            // The connection was made by this very look.
            Some(Ok(())) => Duration::ZERO,
            Some(Err(error)) => {
                if !is_said {
                    tracing::warn!(error = %Causes(&error), "the cache's shared tier is away");
                    is_said = true;
                }
                view.fall_behind();
                RETRY_EVERY
            }
        };
        shutdown.sleep(pause).await;
    }
}

/// Asks for a sign of life, and tells the tier what it missed, or may have lost with a connection.
pub(super) async fn look(tier: &Tier, store: &dyn Store) -> Result<(), Error> {
    // At once, or an outage that lasts would make them too old; and what this look itself dials.
    suspect_recent(tier);
    store.ping().await?;
    tier.view.answers();
    suspect_recent(tier);
    let _turn = tier.repairs.turn().await;
    loop {
        let telling = tier.repairs.take();
        if telling.is_empty() {
            return Ok(());
        }
        let (names, tags) = telling.lists();
        store.remove(&names, &tags, REPAIR_LIFE).await?;
        // Whoever could not wait for it meanwhile has said that it is behind: it takes changes.
        tier.view.answers();
        telling.told();
        tier.keep(&names, &tags);
        // Not all of it was known here: one change may stand for many.
        tier.tell_here(&names, &tags);
    }
}

/// With a connection the server may have lost what it was told of late.
fn suspect_recent(tier: &Tier) {
    if tier.view.take_loss() {
        tier.recent
            .hand_over(|names, tags| tier.repairs.add(names, tags));
    }
}
