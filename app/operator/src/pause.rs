//! Pause and resume: consumers take nothing new from the requests' lanes.

use std::time::Duration;

use ratebox_stream::{Control, GroupName, Order};
use serde_json::json;

use crate::{By, Result, Streams};

/// What is written as the subject when every group is meant.
const EVERY_GROUP: &str = "*";

impl Streams {
    /// Consumers of a group, or of all, take nothing new within about a second; what is in work is
    /// finished. Ends by itself after `time`, or when resumed.
    ///
    /// # Errors
    /// When bus or store is away. The bus is told first: what it was told holds, written down or
    /// not.
    pub async fn pause(
        &self,
        control: &Control,
        group: Option<&GroupName>,
        time: Option<Duration>,
        by: &By,
    ) -> Result<()> {
        control.pause(group, time).await?;
        let detail = json!({ "seconds": time.map(|time| time.as_secs()) });
        self.note("stream.pause", subject(group), by, detail).await
    }

    /// Ends a pause as it was ordered: of one group, or of all. False when there was none.
    ///
    /// # Errors
    /// As for [`Streams::pause`].
    pub async fn resume(
        &self,
        control: &Control,
        group: Option<&GroupName>,
        by: &By,
    ) -> Result<bool> {
        let was_paused = control.resume(group).await?;
        let detail = json!({ "was_paused": was_paused });
        self.note("stream.resume", subject(group), by, detail)
            .await?;
        Ok(was_paused)
    }

    /// The pauses that stand.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn pauses(&self, control: &Control) -> Result<Vec<Order>> {
        Ok(control.orders().await?.pauses().to_vec())
    }
}

fn subject(group: Option<&GroupName>) -> &str {
    group.map_or(EVERY_GROUP, GroupName::as_str)
}
