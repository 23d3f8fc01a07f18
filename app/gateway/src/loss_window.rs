//! How many accepted requests a power cut may take: said at the start, and followed where it is the
//! bus that decides, whose settings can change while it runs. What reads it are health and a gauge.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::Tasks;
use ratebox_stream::Admin;
use tokio::sync::watch;

use crate::settings::AcceptSettings;
use crate::stats;

/// A bus that takes longer to tell is asked again the next time.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// What was found last; `None` inside = it is not known.
#[derive(Debug)]
pub(crate) struct LossWindow {
    found: watch::Receiver<Option<Duration>>,
}

impl LossWindow {
    /// Says what the settings have, and follows the bus from then on where they say how often.
    pub(crate) fn start(accept: &AcceptSettings, admin: &Arc<dyn Admin>, tasks: &Tasks) -> Self {
        let mode = accept.mode.as_str();
        let (tell, found) = watch::channel(accept.loss_window);
        announce(mode, accept.loss_window);
        let Some(every) = accept.loss_window_every else {
            return Self { found };
        };
        let (admin, shutdown) = (Arc::clone(admin), tasks.shutdown());
        tasks.spawn("gateway-loss-window", async move {
            while shutdown.sleep(every).await {
                let look = tokio::time::timeout(LOOK_MAX, admin.loss_window());
                // A bus that is away has not changed its settings, and health tells of it anyway.
                let Some(Ok(Ok(window))) = shutdown.unless(look).await else {
                    continue;
                };
                let is_news = tell.send_if_modified(|known| {
                    let is_news = *known != window;
                    *known = window;
                    is_news
                });
                if is_news {
                    announce(mode, window);
                }
            }
        });
        Self { found }
    }

    /// What was found last.
    pub(crate) fn now(&self) -> Option<Duration> {
        *self.found.borrow()
    }
}

/// Says in the log and in a gauge what a 202 promises.
fn announce(mode: &'static str, window: Option<Duration>) {
    stats::loss_window(window);
    match window {
        Some(window) => tracing::info!(
            accept.mode = mode,
            accept.loss_window_s = window.as_secs_f64(),
            "a power cut may take accepted requests of the last {} s",
            window.as_secs_f64()
        ),
        None => tracing::warn!(
            accept.mode = mode,
            "it is unknown how many accepted requests a power cut may take"
        ),
    }
}
