//! Orders of operators to all consumers of a stream: pause, resume, cancel. And what handlers
//! report of their progress.
//!
//! Orders are kept on the bus, each under a name and with an end. A consumer that was given the
//! second port ([`crate::Consumer::with_dispatcher`]) reads them about once a second. Others do not
//! follow them: neither a [`crate::handler::Worker`] that runs by itself, of which
//! [`crate::handler::Worker::into_parts`] makes a consumer that can be given the port, nor a
//! [`crate::PartitionedConsumer`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::{Dispatcher, Error, GroupName, Lanes};

/// Orders that stand at the same time on one stream. More are refused.
pub const ORDERS_MAX: usize = 1_000;

/// How long a cancellation stands when nobody says otherwise: a message that comes within this
/// time is not worked on.
pub const CANCEL_FOR: Duration = Duration::from_secs(60 * 60);

/// Bytes of a progress value.
pub const PROGRESS_MAX: usize = 4_096;

/// How long a progress value is kept when nobody says otherwise.
pub const PROGRESS_FOR: Duration = Duration::from_secs(60 * 60);

pub(crate) const TOO_MANY_ORDERS: &str =
    "a thousand orders stand already: withdraw some, or let them end";

const PAUSE: &str = "pause";
const CANCEL: &str = "cancel/";

/// An order as a log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is ordered: `pause`, `pause/<group>` or `cancel/<message id>`.
    pub name: String,
    /// For how much longer; `None` until it is withdrawn.
    pub left: Option<Duration>,
}

/// The orders that stand.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Orders {
    pauses: Vec<Order>,
    cancelled: HashSet<String>,
}

// === impl Orders ===

impl Orders {
    pub(crate) fn of(orders: Vec<Order>) -> Self {
        let mut sorted = Self::default();
        for order in orders {
            match order.name.strip_prefix(CANCEL) {
                Some(id) => drop(sorted.cancelled.insert(id.to_owned())),
                None => sorted.pauses.push(order),
            }
        }
        sorted
    }

    /// Whether this group is to take nothing.
    pub fn is_paused(&self, group: &GroupName) -> bool {
        let covers = |order: &Order| order.name == PAUSE || order.name == pause_of(Some(group));
        self.pauses.iter().any(covers)
    }

    /// The pauses that stand: named `pause` for all groups, `pause/<group>` for one.
    pub fn pauses(&self) -> &[Order] {
        &self.pauses
    }

    /// The pause that was ordered of this group, or of all groups.
    pub fn pause_of(&self, group: Option<&GroupName>) -> Option<&Order> {
        let name = pause_of(group);
        self.pauses.iter().find(|order| order.name == name)
    }

    /// Messages that are not to be worked on any more.
    pub fn cancelled(&self) -> &HashSet<String> {
        &self.cancelled
    }

    /// Whether this message is not to be worked on any more.
    pub fn is_cancelled(&self, message_id: &str) -> bool {
        !self.cancelled.is_empty() && self.cancelled.contains(message_id)
    }
}

/// What a cancellation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The message waited for its time and is gone.
    Scheduled,
    /// Whoever holds or gets the message within the time stops it and makes it a dead letter of
    /// class `cancelled`. One that is done already stays done.
    Ordered,
}

/// What operators order and see, from anywhere. Cheap to clone.
///
/// `Ok` says that an order is kept, not that somebody follows it: consumers made with
/// [`crate::Consumer::with_dispatcher`] do, and no others (no [`crate::handler::Worker`] that runs by
/// itself, no [`crate::PartitionedConsumer`]).
#[derive(Clone)]
pub struct Control {
    log: Arc<dyn Dispatcher>,
    lanes: Lanes,
}

// === impl Control ===

impl Control {
    /// The control of one stream with its lanes.
    pub fn new(log: Arc<dyn Dispatcher>, lanes: Lanes) -> Self {
        Self { log, lanes }
    }

    /// Consumers take nothing new, within about a second: those of one group, or of all. What is
    /// in work is finished. Ends by itself after `time`, or when resumed. Only consumers with a
    /// dispatcher follow it ([`Control`]).
    ///
    /// # Errors
    /// When the log cannot be reached, or too many orders stand.
    pub async fn pause(
        &self,
        group: Option<&GroupName>,
        time: Option<Duration>,
    ) -> Result<(), Error> {
        self.log.order(&self.lanes, &pause_of(group), time).await
    }

    /// Ends a pause as it was ordered: of one group, or of all. False when there was none.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn resume(&self, group: Option<&GroupName>) -> Result<bool, Error> {
        self.log.withdraw(&self.lanes, &pause_of(group)).await
    }

    /// Cancels a message wherever it is: waiting for its time, on its stream, waiting for a retry,
    /// or in work. Stands for [`CANCEL_FOR`].
    ///
    /// # Errors
    /// When the log cannot be reached, or too many orders stand.
    pub async fn cancel(&self, message_id: &str) -> Result<Cancelled, Error> {
        self.cancel_for(message_id, CANCEL_FOR).await
    }

    /// The same for another time.
    ///
    /// # Errors
    /// As for [`Control::cancel`].
    pub async fn cancel_for(&self, message_id: &str, time: Duration) -> Result<Cancelled, Error> {
        // The order first: what is promoted in between is stopped by it.
        let name = format!("{CANCEL}{message_id}");
        self.log.order(&self.lanes, &name, Some(time)).await?;
        if !self.log.unschedule(&self.lanes, message_id).await? {
            return Ok(Cancelled::Ordered);
        }
        self.log.withdraw(&self.lanes, &name).await?;
        Ok(Cancelled::Scheduled)
    }

    /// Takes a cancellation back; false when it does not stand. What was stopped stays stopped.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn uncancel(&self, message_id: &str) -> Result<bool, Error> {
        let name = format!("{CANCEL}{message_id}");
        self.log.withdraw(&self.lanes, &name).await
    }

    /// The orders that stand.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn orders(&self) -> Result<Orders, Error> {
        Ok(Orders::of(self.log.orders(&self.lanes).await?))
    }

    /// What the handler of a message reported last; `None` when it never did, or too long ago.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn progress(&self, message_id: &str) -> Result<Option<String>, Error> {
        self.log.noted(&self.lanes, message_id).await
    }
}

/// What a handler reports while it works on a message that takes long. Cheap to clone.
///
/// A handler that gets the message again, after a crash or a retry, can read what it reported and
/// go on from there.
#[derive(Clone)]
pub struct Progress {
    log: Arc<dyn Dispatcher>,
    lanes: Lanes,
    keep: Duration,
}

// === impl Progress ===

impl Progress {
    /// Keeps each report for [`PROGRESS_FOR`].
    pub fn new(log: Arc<dyn Dispatcher>, lanes: Lanes) -> Self {
        let keep = PROGRESS_FOR;
        Self { log, lanes, keep }
    }

    /// Keeps each report for this long.
    #[must_use]
    pub fn keep_for(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Replaces what was reported of a message. One round trip: report steps, not every row. Never
    /// personal data: operators see it.
    ///
    /// # Errors
    /// [`Error::Refused`] above [`PROGRESS_MAX`] bytes, or when the log cannot be reached.
    pub async fn report(&self, message_id: &str, value: &str) -> Result<(), Error> {
        if value.len() > PROGRESS_MAX {
            return Err(Error::refused("a progress value has at most 4096 bytes"));
        }
        let note = self.log.note(&self.lanes, message_id, value, self.keep);
        note.await
    }

    /// What was reported last.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn last(&self, message_id: &str) -> Result<Option<String>, Error> {
        self.log.noted(&self.lanes, message_id).await
    }
}

fn pause_of(group: Option<&GroupName>) -> String {
    group.map_or_else(|| PAUSE.to_owned(), |group| format!("{PAUSE}/{group}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_one_group_leaves_the_others_alone() {
        let order = |name: &str| Order {
            name: name.to_owned(),
            left: None,
        };
        let orders = Orders::of(vec![order("pause/g"), order("cancel/a/b")]);
        assert!(orders.is_paused(&GroupName::new("g")));
        assert!(!orders.is_paused(&GroupName::new("h")));
        assert!(orders.is_cancelled("a/b") && !orders.is_cancelled("b"));
        let all = Orders::of(vec![order("pause")]);
        assert!(all.is_paused(&GroupName::new("h")));
    }
}
