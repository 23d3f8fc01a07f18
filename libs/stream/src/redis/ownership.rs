//! Leases of partitions: each in the slot of its partition, those who live beside the stream.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_valkey::Leases;

use super::{RedisLog, error};
use crate::{ConsumerName, Error, FailedEntry, Owner, Ownership, Subscription};

impl RedisLog {
    fn leases(&self, sub: &Subscription, length: Duration) -> Leases {
        Leases::new(self.leases.clone(), sub.consumer.as_str(), length)
    }
}

fn members_key(sub: &Subscription) -> String {
    format!("{}:members:{}", sub.lanes.tag(), sub.group)
}

fn lease_key(sub: &Subscription) -> String {
    format!("{}:lease:{}", sub.lanes.tag(), sub.group)
}

#[async_trait]
impl Ownership for RedisLog {
    async fn meet(&self, sub: &Subscription, length: Duration) -> Result<Vec<ConsumerName>, Error> {
        let leases = self.leases(sub, length);
        let names = leases.meet(&members_key(sub)).await.map_err(error)?;
        Ok(names.into_iter().map(ConsumerName::new).collect())
    }

    async fn leave(&self, sub: &Subscription) -> Result<(), Error> {
        let leases = self.leases(sub, Duration::ZERO);
        leases.leave(&members_key(sub)).await.map_err(error)
    }

    async fn lease(&self, sub: &Subscription, length: Duration) -> Result<Option<u64>, Error> {
        let leases = self.leases(sub, length);
        leases.take(&lease_key(sub)).await.map_err(error)
    }

    async fn give_back(&self, sub: &Subscription) -> Result<(), Error> {
        let leases = self.leases(sub, Duration::ZERO);
        leases.give_back(&lease_key(sub)).await.map_err(error)
    }

    async fn owner(&self, sub: &Subscription) -> Result<Option<Owner>, Error> {
        let found = Leases::find(&self.leases, &lease_key(sub)).await;
        let owner = |(member, epoch)| Owner {
            member: ConsumerName::new(member),
            epoch,
        };
        Ok(found.map_err(error)?.map(owner))
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
