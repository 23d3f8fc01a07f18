//! Limits on the server: one hash of rules, and for each scope what is used of it. All of it lies in
//! the slot of the stream.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;

use super::{RedisLog, error, reply};
use crate::limits::{self, Ask, AtWork, Limit, Limits, Permits, Rate, Rules, Scope};
use crate::{Error, Subscription};

/// Asks in one call of the script.
const ASKS_MAX: usize = 200;

fn rules_key(sub: &Subscription) -> String {
    format!("{}:limits", sub.lanes.tag())
}

fn rate_key(sub: &Subscription, scope: &Scope) -> String {
    format!("{}:rate:{}:{}", sub.lanes.tag(), sub.group, scope.as_str())
}

fn work_key(sub: &Subscription, scope: &Scope) -> String {
    format!(
        "{}:at-work:{}:{}",
        sub.lanes.tag(),
        sub.group,
        scope.as_str()
    )
}

/// `max/window/at work`; -1 is no limit.
fn written(limit: Limit) -> String {
    let rate = limit
        .rate
        .map_or((-1, 0), |rate| (i64::from(rate.max), rate.window_ms));
    let at_work = limit.at_work.map_or(-1, i64::from);
    format!("{}/{}/{at_work}", rate.0, rate.1)
}

fn read(text: &str) -> Option<Limit> {
    let mut parts = text.split('/');
    let max: i64 = parts.next()?.parse().ok()?;
    let window_ms = parts.next()?.parse().ok()?;
    let at_work: i64 = parts.next()?.parse().ok()?;
    let rate = u32::try_from(max).ok().map(|max| Rate { max, window_ms });
    let at_work = u32::try_from(at_work).ok();
    Some(Limit { rate, at_work })
}

impl RedisLog {
    async fn lease_permits(
        &self,
        sub: &Subscription,
        asks: &[Ask],
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<Vec<Permits>, Error> {
        let mut places: HashMap<&Scope, usize> = HashMap::new();
        let mut scopes: Vec<&Scope> = Vec::new();
        for scope in asks
            .iter()
            .flat_map(|ask| &ask.scopes)
            .chain(at_work.keys())
        {
            places.entry(scope).or_insert_with(|| {
                scopes.push(scope);
                scopes.len()
            });
        }
        let mut call = self.scripts.acquire.call().key(&rules_key(sub));
        for scope in &scopes {
            call = call.key(&rate_key(sub, scope)).key(&work_key(sub, scope));
        }
        call.push(sub.consumer.as_str());
        call.push(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        call.push(scopes.len());
        for scope in &scopes {
            call.push(scope.as_str());
            call.push(scope.kind().as_ref().map_or("", Scope::as_str));
            call.push(at_work.get(*scope).map_or(-1, |count| i64::from(*count)));
        }
        for ask in asks {
            call.push(ask.count);
            call.push(ask.scopes.len());
            for scope in &ask.scopes {
                call.push(places.get(scope).copied().unwrap_or(0));
            }
        }
        let answer = self.leases.run(&call).await.and_then(reply::array);
        let answers = answer.map_err(error)?.into_iter();
        answers
            .map(|answer| permits(answer).map_err(error))
            .collect()
    }
}

fn permits(answer: redis::Value) -> Result<Permits, ratebox_valkey::Error> {
    let parts = reply::array(answer)?;
    let numbers: Vec<u64> = parts.iter().map(reply::number).collect::<Result<_, _>>()?;
    let &[granted, wait_ms, place] = numbers.as_slice() else {
        return Err(ratebox_valkey::Error::answer("permits"));
    };
    Ok(Permits {
        granted: u32::try_from(granted).unwrap_or(u32::MAX),
        wait: Duration::from_millis(wait_ms),
        limited_by: usize::try_from(place)
            .ok()
            .and_then(|place| place.checked_sub(1)),
    })
}

#[async_trait]
impl Limits for RedisLog {
    async fn set_limit(
        &self,
        sub: &Subscription,
        scope: &Scope,
        limit: Limit,
    ) -> Result<(), Error> {
        limits::check(limit)?;
        let mut set = if limit == Limit::default() {
            cmd("HDEL")
        } else {
            cmd("HSET")
        };
        set.arg(rules_key(sub)).arg(scope.as_str());
        if limit != Limit::default() {
            set.arg(written(limit));
        }
        self.valkey.query(&set).await.map_err(error).map(drop)
    }

    async fn rules(&self, sub: &Subscription) -> Result<Rules, Error> {
        let mut get = cmd("HGETALL");
        get.arg(rules_key(sub));
        let flat = self.valkey.query(&get).await.and_then(reply::array);
        let mut flat = flat.map_err(error)?.into_iter();
        let mut rules = Rules::new();
        while let (Some(scope), Some(limit)) = (flat.next(), flat.next()) {
            let scope = reply::text(scope).map_err(error)?;
            let limit = reply::text(limit).map_err(error)?;
            if let Some(limit) = read(&limit) {
                rules.insert(Scope::read(&scope), limit);
            }
        }
        Ok(rules)
    }

    async fn acquire(
        &self,
        sub: &Subscription,
        asks: &[Ask],
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<Vec<Permits>, Error> {
        let mut permits = Vec::with_capacity(asks.len());
        // What is at work is told with the first chunk: afterwards its own permits count, too.
        let (told, none) = (at_work, AtWork::new());
        for (index, chunk) in asks.chunks(ASKS_MAX).enumerate() {
            let at_work = if index == 0 { told } else { &none };
            permits.extend(self.lease_permits(sub, chunk, at_work, lease).await?);
        }
        Ok(permits)
    }

    async fn renew(
        &self,
        sub: &Subscription,
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<(), Error> {
        self.lease_permits(sub, &[], at_work, lease).await.map(drop)
    }
}
