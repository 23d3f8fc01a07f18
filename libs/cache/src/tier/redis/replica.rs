//! Reads from a replica of the server, for names of which nothing was heard lately.
//!
//! A replica is behind its primary. It serves a name only if nothing was heard of that name since a
//! moment up to which the replica is known to have everything: so a writer reads its own writes, and
//! what was heard to have changed is never read as it was before. All else, and every name while the
//! replica is away, is read from the primary.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use ratebox_kit::Shutdown;
use ratebox_valkey::Valkey;
use redis::cmd;

use super::gather::Gather;
use super::{get, read};
use crate::Error;
use crate::generations::Moment;
use crate::view::View;

/// How often it is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A replica, and what is known of it.
pub(super) struct Replica {
    valkey: Valkey,
    gather: Gather,
    timeout: Duration,
    view: Arc<View>,
    /// It has every change up to this one.
    has: Mutex<Option<Moment>>,
    reads: Counter,
}

/// How far a server is in a history of changes.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    history: String,
    offset: u64,
}

// === impl Replica ===

impl Replica {
    pub(super) fn new(valkey: Valkey, timeout: Duration, view: Arc<View>) -> Self {
        Self {
            valkey,
            gather: Gather::new(),
            timeout,
            view,
            has: Mutex::new(None),
            reads: metrics::counter!("ratebox_cache_replica_reads_total"),
        }
    }

    /// Whether it has everything that was heard of a name.
    pub(super) fn may_serve(&self, name: &str) -> bool {
        let has = *self.has.lock().unwrap_or_else(PoisonError::into_inner);
        has.is_some_and(|then| {
            let generations = &self.view.generations;
            generations.heard_since(then) && generations.key_holds(name, then)
        })
    }

    /// Reads one key; `None` when it did not answer, and it is not asked again before it is known
    /// how far it is.
    pub(super) async fn get(&self, key: &str) -> Option<Option<Bytes>> {
        let asked = get(&self.gather, &self.valkey, key);
        let asked = tokio::time::timeout(self.timeout, asked);
        match asked.await {
            Ok(Ok(entry)) => {
                self.reads.increment(1);
                Some(entry)
            }
            Ok(Err(_)) | Err(_) => {
                self.set(None);
                None
            }
        }
    }

    /// Serves reads together until the process stops.
    pub(super) async fn run(&self, shutdown: Shutdown) {
        self.gather.run(&self.valkey, shutdown).await;
    }

    /// Asks how far it is until the process stops.
    pub(super) async fn follow(&self, primary: &Valkey, shutdown: Shutdown) {
        while shutdown.sleep(ASK_EVERY).await {
            // What is heard from here on may not be there yet.
            let then = self.view.generations.now();
            let caught_up = tokio::time::timeout(self.timeout, self.has_caught_up(primary));
            match caught_up.await {
                Ok(Ok(true)) => self.set(Some(then)),
                // It will be; what it has already stays true.
                Ok(Ok(false)) => {}
                Ok(Err(_)) | Err(_) => self.set(None),
            }
        }
    }

    /// Whether it has all that the primary has now.
    ///
    /// # Errors
    /// When one of them does not answer, or it does not follow this primary.
    async fn has_caught_up(&self, primary: &Valkey) -> Result<bool, Error> {
        let wanted = progress(&information(primary).await?, "master", "master_repl_offset");
        let there = information(&self.valkey).await?;
        let there = progress(&there, "slave", "slave_repl_offset");
        match (wanted, there) {
            (Some(wanted), Some(there)) if wanted.history == there.history => {
                Ok(there.offset >= wanted.offset)
            }
            _ => Err(Error::Away),
        }
    }

    fn set(&self, has: Option<Moment>) {
        *self.has.lock().unwrap_or_else(PoisonError::into_inner) = has;
    }
}

async fn information(valkey: &Valkey) -> Result<String, Error> {
    let mut info = cmd("INFO");
    info.arg("replication");
    read(valkey.query(&info).await?)
}

/// What a server in that role says of itself; `None` for one in another role.
fn progress(info: &str, role: &str, offset: &str) -> Option<Progress> {
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key == name).then(|| value.trim()))
    };
    let is_whole = field("master_link_status").is_none_or(|status| status == "up");
    if field("role")? != role || !is_whole {
        return None;
    }
    Some(Progress {
        history: field("master_replid")?.to_owned(),
        offset: field(offset)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_replica_that_follows_says_how_far_it_is() {
        let of = |role: &str, link: &str| {
            let info = format!(
                "# Replication\r\nrole:{role}\r\nmaster_link_status:{link}\r\n\
                 slave_repl_offset:42\r\nmaster_replid:abc\r\n"
            );
            progress(&info, "slave", "slave_repl_offset")
        };
        let progress = Progress {
            history: "abc".to_owned(),
            offset: 42,
        };
        assert_eq!(of("slave", "up"), Some(progress));
        assert_eq!(of("slave", "down"), None);
        assert_eq!(of("master", "up"), None);
    }
}
