//! Leases of partitions in the file, by the database's own leases. They end on the machine's
//! clock, whatever clock the log was given.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::Leases;

use super::SqliteLog;
use crate::{ConsumerName, Error, FailedEntry, Owner, Ownership, Subscription};

impl SqliteLog {
    fn leases(&self, sub: &Subscription, length: Duration) -> Leases {
        Leases::new(self.db.clone(), sub.consumer.as_str(), length)
    }
}

fn members_prefix(sub: &Subscription) -> String {
    format!("stream/{}/{}/member/", sub.lanes.base(), sub.group)
}

fn member(sub: &Subscription) -> String {
    format!("{}{}", members_prefix(sub), sub.consumer)
}

fn lease_name(sub: &Subscription) -> String {
    format!("stream/{}/{}/lease", sub.lanes.base(), sub.group)
}

fn epoch(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}

#[async_trait]
impl Ownership for SqliteLog {
    async fn meet(&self, sub: &Subscription, length: Duration) -> Result<Vec<ConsumerName>, Error> {
        self.leases(sub, length).take(vec![member(sub)]).await?;
        let prefix = members_prefix(sub);
        let live = Leases::live(&self.db, &prefix).await?;
        let ours = live
            .into_iter()
            .filter(|(lease, _)| lease.name.starts_with(&prefix));
        let mut alive: Vec<ConsumerName> =
            ours.map(|(_, holder)| ConsumerName::new(holder)).collect();
        alive.sort_unstable();
        Ok(alive)
    }

    async fn leave(&self, sub: &Subscription) -> Result<(), Error> {
        let leases = self.leases(sub, Duration::ZERO);
        Ok(leases.give_back_some(vec![member(sub)]).await?)
    }

    async fn lease(&self, sub: &Subscription, length: Duration) -> Result<Option<u64>, Error> {
        let leases = self.leases(sub, length);
        let taken = leases.take(vec![lease_name(sub)]).await?;
        Ok(taken.first().map(|lease| epoch(lease.epoch)))
    }

    async fn give_back(&self, sub: &Subscription) -> Result<(), Error> {
        let leases = self.leases(sub, Duration::ZERO);
        Ok(leases.give_back_some(vec![lease_name(sub)]).await?)
    }

    async fn owner(&self, sub: &Subscription) -> Result<Option<Owner>, Error> {
        let name = lease_name(sub);
        let live = Leases::live(&self.db, &name).await?;
        let found = live.into_iter().find(|(lease, _)| lease.name == name);
        Ok(found.map(|(lease, holder)| Owner {
            member: ConsumerName::new(holder),
            epoch: epoch(lease.epoch),
        }))
    }

    async fn keep_failures(
        &self,
        sub: &Subscription,
        failures: &[FailedEntry],
    ) -> Result<(), Error> {
        self.put_failures(sub, failures).await
    }

    async fn failures(&self, sub: &Subscription) -> Result<Vec<FailedEntry>, Error> {
        self.all_failures(sub).await
    }
}
