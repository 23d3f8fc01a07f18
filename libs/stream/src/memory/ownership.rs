//! Leases of partitions in memory, on the log's clock.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::MemoryLog;
use crate::{
    ConsumerName, Error, FailedEntry, GroupName, Owner, Ownership, StreamName, Subscription,
};

type Place = (StreamName, GroupName);

/// Who lives and who owns what.
#[derive(Default)]
pub(super) struct Owners {
    members: HashMap<Place, HashMap<ConsumerName, u64>>,
    leases: HashMap<Place, (Owner, u64)>,
}

fn place(sub: &Subscription) -> Place {
    (sub.lanes.base().clone(), sub.group.clone())
}

fn end_ms(now_ms: u64, length: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

#[async_trait]
impl Ownership for MemoryLog {
    async fn meet(&self, sub: &Subscription, length: Duration) -> Result<Vec<ConsumerName>, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let members = state.owners.members.entry(place(sub)).or_default();
        members.insert(sub.consumer.clone(), end_ms(now_ms, length));
        members.retain(|_, ends_ms| *ends_ms > now_ms);
        let mut alive: Vec<ConsumerName> = members.keys().cloned().collect();
        alive.sort_unstable();
        Ok(alive)
    }

    async fn leave(&self, sub: &Subscription) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(members) = state.owners.members.get_mut(&place(sub)) {
            members.remove(&sub.consumer);
        }
        Ok(())
    }

    async fn lease(&self, sub: &Subscription, length: Duration) -> Result<Option<u64>, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let ends_ms = end_ms(now_ms, length);
        let epoch = match state.owners.leases.get(&place(sub)) {
            Some((owner, _)) if owner.member == sub.consumer => owner.epoch,
            Some((_, until_ms)) if *until_ms > now_ms => return Ok(None),
            Some((owner, _)) => owner.epoch + 1,
            None => 1,
        };
        let member = sub.consumer.clone();
        let owner = Owner { member, epoch };
        state.owners.leases.insert(place(sub), (owner, ends_ms));
        Ok(Some(epoch))
    }

    async fn give_back(&self, sub: &Subscription) -> Result<(), Error> {
        let mut state = self.state();
        match state.owners.leases.get_mut(&place(sub)) {
            Some((owner, ends_ms)) if owner.member == sub.consumer => *ends_ms = 0,
            Some(_) | None => {}
        }
        Ok(())
    }

    async fn owner(&self, sub: &Subscription) -> Result<Option<Owner>, Error> {
        let now_ms = self.now_ms();
        let state = self.state();
        let lease = state.owners.leases.get(&place(sub));
        let live = lease.filter(|(_, ends_ms)| *ends_ms > now_ms);
        Ok(live.map(|(owner, _)| owner.clone()))
    }

    async fn keep_failures(
        &self,
        sub: &Subscription,
        failures: &[FailedEntry],
    ) -> Result<(), Error> {
        self.put_failures(sub, failures);
        Ok(())
    }

    async fn failures(&self, sub: &Subscription) -> Result<Vec<FailedEntry>, Error> {
        Ok(self.all_failures(sub))
    }
}
