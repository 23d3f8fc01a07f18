//! Streams: their dead consumers' work handed on, trimmed, replayed into new groups; each deed is
//! written down. Looking at them is in `lookout.rs`, carrying them away and back in `carry.rs`.

use std::sync::Arc;
use std::time::Duration;

use ratebox_store::{NewDeed, Store};
use ratebox_stream::{
    Admin, ClaimScope, ConsumerName, Delayed, Entry, EntryId, GroupName, HandTo, Lane, Lanes, Log,
    Settlement, StreamName, Subscription, TrimOrder, Trimmed, trim,
};
use serde_json::{Value, json};

use crate::{By, Error, Lookout, Result, StreamSeen};

/// Entries of a dead consumer that are handed on in one round trip.
const CLAIM_BATCH: usize = 100;

/// What operators do with streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) lookout: Lookout,
    pub(crate) store: Store,
}

/// What is to be handed on.
#[derive(Clone, Debug)]
pub struct ClaimOrder {
    /// The group.
    pub group: GroupName,
    /// The consumer that is dead.
    pub consumer: ConsumerName,
    /// It must have been silent for so long, unless forced.
    pub idle_min: Duration,
    /// Even if it is alive: what it works on is worked on twice then.
    pub force: bool,
}

/// A trim, and what it may ignore.
#[derive(Clone, Debug, Default)]
pub struct TrimWish {
    /// What is to be kept.
    pub order: TrimOrder,
    /// No group is waited for: unread and unacknowledged entries go, too.
    pub force: bool,
}

// === impl Streams ===

impl Streams {
    /// Streams of a bus; `lanes` are the requests'. Deeds are written into `store`.
    pub fn new(log: Arc<dyn Log>, admin: Arc<dyn Admin>, lanes: Lanes, store: Store) -> Self {
        Self {
            log,
            lookout: Lookout::new(admin, lanes),
            store,
        }
    }

    /// What can be seen while the store is away.
    pub fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// [`Lookout::look`].
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn look(&self, name: &StreamName) -> Result<StreamSeen> {
        self.lookout.look(name).await
    }

    /// [`Lookout::delayed`].
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn delayed(&self, group: &GroupName) -> Result<Delayed> {
        self.lookout.delayed(group).await
    }

    /// Takes what a dead consumer of the requests holds and puts it where the next claim of any
    /// consumer takes it at once; returns how many entries that were. The delivery to the dead
    /// one counts: what kills its consumers must become poison.
    ///
    /// # Errors
    /// [`Error::Alive`] when it was seen lately, or when the store is away. When the bus is away;
    /// what was handed on before stays so.
    pub async fn claim(&self, order: &ClaimOrder, by: &By) -> Result<u64> {
        self.can_note().await?;
        let lanes = self.lanes_of_dead(order).await?;
        let consumer = order.consumer.as_str();
        let dead = self.lookout.as_member(&order.group, consumer);
        let mut count = 0;
        for lane in lanes {
            count += self.hand_on(&dead, lane).await?;
        }
        let detail =
            json!({ "group": order.group.as_str(), "count": count, "forced": order.force });
        self.note("stream.claim", order.consumer.as_str(), by, detail)
            .await?;
        Ok(count)
    }

    /// The lanes on which the consumer holds something.
    async fn lanes_of_dead(&self, order: &ClaimOrder) -> Result<Vec<Lane>> {
        let (mut lanes, mut idle) = (Vec::new(), None);
        for (lane, stream) in self.lookout.lanes.iter() {
            let info = self.lookout.admin.info(stream).await?;
            let groups = info.iter().flat_map(|info| &info.groups);
            let members = groups
                .filter(|group| group.name == order.group)
                .flat_map(|group| &group.consumers);
            for member in members.filter(|member| member.name == order.consumer) {
                idle = idle.into_iter().chain([member.idle]).min();
                lanes.extend((member.pending > 0).then_some(lane));
            }
        }
        match idle {
            None => Err(Error::UnknownConsumer),
            Some(idle) if idle < order.idle_min && !order.force => Err(Error::Alive {
                idle_s: idle.as_secs(),
            }),
            Some(_) => Ok(lanes),
        }
    }

    async fn hand_on(&self, dead: &Subscription, lane: Lane) -> Result<u64> {
        let mut count = 0;
        let mut handed: Vec<EntryId> = Vec::new();
        loop {
            let scope = ClaimScope::Own { except: &handed };
            let claimed = self
                .log
                .claim(dead, lane, EntryId::MIN, scope, CLAIM_BATCH)
                .await?;
            if claimed.entries.is_empty() {
                return Ok(count);
            }
            let release = |entry: &Entry| Settlement::Release {
                lane,
                id: entry.id,
                // One is taken off by a release.
                deliveries: entry.deliveries.saturating_add(1),
                to: HandTo::WhoeverWaits,
            };
            let releases: Vec<_> = claimed.entries.iter().map(release).collect();
            self.log.settle(dead, &releases).await?;
            count += releases.len() as u64;
            // Still owned by the dead one until somebody claims them.
            handed.extend(claimed.entries.iter().map(|entry| entry.id));
        }
    }

    /// Removes what the order does not keep. Entries that a group still needs stay, unless the
    /// group is ignored by name or the wish is forced.
    ///
    /// # Errors
    /// When the store is away, before anything is removed. When the bus is away; what was removed
    /// before stays so.
    pub async fn trim(&self, name: &StreamName, wish: &TrimWish, by: &By) -> Result<Trimmed> {
        self.can_note().await?;
        let mut order = wish.order.clone();
        if wish.force {
            let info = self.lookout.admin.info(name).await?;
            let groups = info.into_iter().flat_map(|info| info.groups);
            order.ignored = groups.map(|group| group.name).collect();
        }
        let trimmed = trim(&*self.lookout.admin, name, &order).await?;
        let ignored: Vec<&str> = order.ignored.iter().map(GroupName::as_str).collect();
        let detail =
            json!({ "removed": trimmed.removed, "ignored": ignored, "forced": wish.force });
        self.note("stream.trim", name.as_str(), by, detail).await?;
        Ok(trimmed)
    }

    /// Makes a new group that reads from `from` on: a replay for somebody else. Groups that read
    /// the streams already notice nothing.
    ///
    /// # Errors
    /// [`Error::GroupExists`] when there is one of that name on any of the streams, or when bus or
    /// store is away.
    pub async fn replay(
        &self,
        names: &[StreamName],
        group: &GroupName,
        from: EntryId,
        by: &By,
    ) -> Result<()> {
        self.can_note().await?;
        for name in names {
            let info = self.lookout.admin.info(name).await?;
            let there = info.iter().flat_map(|info| &info.groups);
            if there.into_iter().any(|it| it.name == *group) {
                return Err(Error::GroupExists);
            }
        }
        for name in names {
            if !self.lookout.admin.make_group(name, group, from).await? {
                return Err(Error::GroupExists);
            }
        }
        for name in names {
            let detail = json!({ "group": group.as_str(), "from": from.to_string() });
            self.note("stream.replay", name.as_str(), by, detail)
                .await?;
        }
        Ok(())
    }

    /// Writes into the audit log that somebody sees payloads of a stream as they are. Call it
    /// before showing.
    ///
    /// # Errors
    /// When the store is away: then nothing may be shown.
    pub async fn note_unmasking(&self, name: &StreamName, by: &By) -> Result<()> {
        let unmask = "payload.unmask";
        Ok(self.write(unmask, name.as_str(), by, Value::Null).await?)
    }

    /// Makes sure that the store takes lines, before anything is done that needs one.
    ///
    /// # Errors
    /// When it does not: then nothing is to be done.
    pub(crate) async fn can_note(&self) -> Result<()> {
        let reached = self.store.db().ping().await;
        Ok(reached.map_err(ratebox_store::Error::from)?)
    }

    /// Writes down what was done.
    ///
    /// # Errors
    /// [`Error::Unwritten`]; it is done all the same.
    pub(crate) async fn note(
        &self,
        action: &'static str,
        subject: &str,
        by: &By,
        detail: Value,
    ) -> Result<()> {
        let written = self.write(action, subject, by, detail).await;
        written.map_err(Error::Unwritten)
    }

    async fn write(
        &self,
        action: &'static str,
        subject: &str,
        by: &By,
        detail: Value,
    ) -> ratebox_store::Result<()> {
        let deed = NewDeed {
            actor: by.actor(),
            action,
            subject: subject.to_owned(),
            reason: by.reason(),
            detail: Some(detail.to_string()),
        };
        self.store.record_deed(deed).await
    }
}
