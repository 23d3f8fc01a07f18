//! Pause and resume: consumers take nothing new from the requests' lanes.

use std::time::Duration;

use ratebox_stream::{Control, GroupName, Order};
use serde_json::json;

use crate::{By, Result, Streams};

/// What is written as the subject when every group is meant.
const EVERY_GROUP: &str = "*";

impl Streams {
    /// Consumers of a group, or of all, take nothing new within about a second; what is in work is
    /// finished. Ends by itself after `time`, or when resumed. False when a pause of the same group
    /// stands that lasts longer: whoever ordered that relies on it, so it stays.
    ///
    /// # Errors
    /// When the bus is away. [`crate::Error::Unwritten`] when the store is: the pause stands then, because a
    /// store in trouble is a reason for one.
    pub async fn pause(
        &self,
        control: &Control,
        group: Option<&GroupName>,
        time: Option<Duration>,
        by: &By,
    ) -> Result<bool> {
        if self.lasts_longer(control, group, time).await? {
            return Ok(false);
        }
        control.pause(group, time).await?;
        let detail = json!({ "seconds": time.map(|time| time.as_secs()) });
        self.note("stream.pause", subject(group), by, detail)
            .await?;
        Ok(true)
    }

    /// Whether a pause of the same group stands that ends later than one that begins now.
    async fn lasts_longer(
        &self,
        control: &Control,
        group: Option<&GroupName>,
        time: Option<Duration>,
    ) -> Result<bool> {
        let Some(time) = time else {
            return Ok(false);
        };
        let orders = control.orders().await?;
        let standing = orders.pause_of(group);
        Ok(standing.is_some_and(|it| it.left.is_none_or(|left| left > time)))
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

    /// [`crate::Lookout::pauses`].
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn pauses(&self, control: &Control) -> Result<Vec<Order>> {
        self.lookout.pauses(control).await
    }
}

fn subject(group: Option<&GroupName>) -> &str {
    group.map_or(EVERY_GROUP, GroupName::as_str)
}
