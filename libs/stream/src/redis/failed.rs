//! What failed entries that stay pending carry: a hash in the slot of their lanes.

use redis::cmd;

use super::{RedisLog, error, reply};
use crate::FailedEntry;
use crate::{EntryId, Error, Lane, Subscription};

fn key(sub: &Subscription) -> String {
    format!("{}:failed:{}", sub.lanes.tag(), sub.group)
}

fn name(failure: &FailedEntry) -> String {
    format!("{}/{}", failure.lane, failure.id)
}

fn place(name: &str) -> Option<(Lane, EntryId)> {
    let (lane, id) = name.split_once('/')?;
    Some((Lane::parse(lane)?, id.parse().ok()?))
}

// === impl RedisLog ===

impl RedisLog {
    pub(super) async fn put_failures(
        &self,
        sub: &Subscription,
        failures: &[FailedEntry],
    ) -> Result<(), Error> {
        let (mut set, mut delete) = (cmd("HSET"), cmd("HDEL"));
        set.arg(key(sub));
        delete.arg(key(sub));
        let (mut sets, mut deletes) = (false, false);
        for failure in failures {
            match &failure.text {
                Some(text) => {
                    set.arg(name(failure)).arg(text);
                    sets = true;
                }
                None => {
                    delete.arg(name(failure));
                    deletes = true;
                }
            }
        }
        if sets {
            self.valkey.query(&set).await.map_err(error)?;
        }
        if deletes {
            self.valkey.query(&delete).await.map_err(error)?;
        }
        Ok(())
    }

    pub(super) async fn all_failures(&self, sub: &Subscription) -> Result<Vec<FailedEntry>, Error> {
        let mut all = cmd("HGETALL");
        all.arg(key(sub));
        let answer = self.valkey.query(&all).await.map_err(error)?;
        let pairs = reply::pairs(answer).map_err(error)?;
        let mut failures = Vec::with_capacity(pairs.len());
        for (name, text) in pairs {
            let text = Some(reply::text(text).map_err(error)?);
            if let Some((lane, id)) = place(&name) {
                failures.push(FailedEntry { lane, id, text });
            }
        }
        Ok(failures)
    }
}
