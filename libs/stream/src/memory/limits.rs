//! Limits in memory.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryLog;
use crate::limits::{self, Ask, AtWork, Limit, Limits, Moment, Permits, Rules, Scope};
use crate::{Error, Subscription};

#[async_trait]
impl Limits for MemoryLog {
    async fn set_limit(
        &self,
        sub: &Subscription,
        scope: &Scope,
        limit: Limit,
    ) -> Result<(), Error> {
        limits::check(limit)?;
        let mut state = self.state();
        let (rules, _) = state.limits.entry(sub.lanes.base().clone()).or_default();
        if limit == Limit::default() {
            rules.remove(scope);
        } else {
            rules.insert(scope.clone(), limit);
        }
        Ok(())
    }

    async fn rules(&self, sub: &Subscription) -> Result<Rules, Error> {
        let state = self.state();
        let found = state.limits.get(sub.lanes.base());
        Ok(found.map(|(rules, _)| rules.clone()).unwrap_or_default())
    }

    async fn acquire(
        &self,
        sub: &Subscription,
        asks: &[Ask],
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<Vec<Permits>, Error> {
        let now_ms = self.now_ms();
        let member = sub.consumer.as_str();
        let at = Moment {
            member,
            now_ms,
            lease,
        };
        let mut state = self.state();
        let (rules, usage) = state.limits.entry(sub.lanes.base().clone()).or_default();
        usage.forget(rules, now_ms);
        Ok(usage.acquire(rules, asks, at_work, &at))
    }

    async fn renew(
        &self,
        sub: &Subscription,
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<(), Error> {
        self.acquire(sub, &[], at_work, lease).await.map(drop)
    }
}
