//! Writes that are answered before the origin has them: a partitioned stream, in order by key,
//! tried again with backoff, and kept as dead letters in the end.

use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_cache::{QueuedWrite, WriteQueue};
use ratebox_db::{Db, SqliteSettings};
use ratebox_kit::{Clock, DeadLetterClass, DeadLetters, Message, PortError, Tasks};
use ratebox_origin::{PendingWrite, Service};
use ratebox_stream::{
    Backends, Chooser, ConsumerName, Entry, GroupName, Handler, Handlers, KeyOrder, Lane, Log,
    Outcome, Ownership, PartitionedConsumer, Partitions, Policy, RedisLog, SqliteLog, StreamName,
    Terms, field,
};
use ratebox_valkey::Valkey;

use super::WRITES_FILE;
use crate::config::Config;

/// Members share these; a key always goes to the same.
const PARTITIONS: u32 = 4;

/// Times that a write may be in work when the process dies before it is put aside. Far more than
/// usual: it is a few short texts, so it is hardly what takes the process down, and one put aside is
/// a write that was answered and does not reach its origin.
const DELIVERIES_MAX: u32 = 1_000;

/// The queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writes {
    /// Where they wait, for people.
    pub(super) place: String,
    log: Arc<dyn Log>,
    ownership: Arc<dyn Ownership>,
    partitions: Partitions,
    chooser: Arc<Chooser>,
}

/// Opens the queue: on the cache's server when that loses nothing of a stream, else in the data
/// folder.
///
/// # Errors
/// When the name of the stream or the folder cannot be used.
pub(super) async fn open(config: &Config, valkey: Option<&Valkey>) -> Result<Writes> {
    let name = StreamName::new(&config.cache.write_queue);
    let partitions = Partitions::new(name, PARTITIONS).context("cache.write_queue")?;
    let of = |place, log: Arc<dyn Log>, ownership: Arc<dyn Ownership>| Writes {
        place,
        log,
        ownership,
        chooser: Arc::new(Chooser::new(partitions.clone())),
        partitions: partitions.clone(),
    };
    if let Some(valkey) = valkey
        && keeps_streams(valkey).await
    {
        let log = Arc::new(RedisLog::new(valkey.separate()));
        return Ok(of(valkey.to_string(), log.clone(), log));
    }
    let path = super::super::in_data_dir(config, WRITES_FILE)?;
    let place = path.display().to_string();
    let db = Db::sqlite(&SqliteSettings::new(path)).context("the queue of writes")?;
    let log = Arc::new(SqliteLog::open(db, Clock::system()).await?);
    Ok(of(place, log.clone(), log))
}

/// A server that evicts would evict writes. One that is away now is believed.
async fn keeps_streams(valkey: &Valkey) -> bool {
    match valkey.server_info().await {
        Ok(info) => match info.check_for_bus() {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "writes are queued in the data folder");
                false
            }
        },
        Err(error) => {
            tracing::warn!(%error, "the cache's server does not answer yet");
            true
        }
    }
}

#[async_trait]
impl WriteQueue for Writes {
    async fn append(&self, write: QueuedWrite) -> Result<(), PortError> {
        let order = format!("{}/{}", write.cache, write.key);
        let body = write.value.unwrap_or_default();
        let message = Message::new(write.id.to_string(), body).with_header(field::KEY, order);
        let append = self.chooser.append(Lane::Normal, message);
        for stored in self.log.append(&[append]).await {
            stored.map_err(|error| PortError::new("the write was not kept for sure", error))?;
        }
        Ok(())
    }

    /// A stream is not asked by key. The service keeps a queued value in its cache instead.
    async fn newest(&self, _cache: &str, _key: &str) -> Result<Option<QueuedWrite>, PortError> {
        Ok(None)
    }
}

/// Applies what is queued, in a task.
///
/// # Errors
/// When the consumer's settings contradict themselves.
pub(super) fn apply(
    writes: &Writes,
    service: Service,
    dead_letters: Arc<dyn DeadLetters>,
    clock: Clock,
    tasks: &Tasks,
) -> Result<()> {
    let backends = Backends {
        log: writes.log.clone(),
        ownership: writes.ownership.clone(),
        dead_letters,
        limits: None,
    };
    let member = (
        GroupName::new("cache_writers"),
        ConsumerName::unique("cache"),
    );
    let terms = Terms {
        order: KeyOrder::PerKey,
        ..Terms::default()
    };
    let partitions = writes.partitions.clone();
    let policy = Policy {
        deliveries_max: DELIVERIES_MAX,
        ..Policy::default()
    };
    let policy = (policy, terms);
    let consumer = PartitionedConsumer::new(backends, partitions, member, policy, clock)?;
    let handler: Arc<dyn Handler> = Arc::new(Apply(service));
    let handlers: Arc<dyn Handlers> =
        Arc::new(move |_: &ratebox_stream::Fence| Arc::clone(&handler));
    let owned = tasks.clone();
    tasks.spawn("cache writes", async move {
        consumer.run(handlers, &owned).await;
    });
    Ok(())
}

/// Hands queued writes to the service.
struct Apply(Service);

#[async_trait]
impl Handler for Apply {
    /// All at once: a batch has one write of a key, and the resource bounds its calls of the origin.
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        join_all(batch.into_iter().map(|entry| self.one(entry))).await
    }
}

impl Apply {
    async fn one(&self, entry: Entry) -> Outcome {
        let body = entry.field(field::DATA).map(|it| it.as_ref());
        let read = |body| serde_json::from_slice::<PendingWrite>(body).ok();
        let Some(write) = body.and_then(read) else {
            return Outcome::Dead {
                entry,
                class: DeadLetterClass::Malformed,
                error: "the write cannot be read".to_owned(),
                code: "write.malformed".to_owned(),
            };
        };
        match self.0.apply(&write).await {
            Ok(proof) => Outcome::Done { entry, proof },
            // The origin is away for every write alike.
            Err(error) if error.is_retryable() => Outcome::Pause {
                entry,
                error: error.to_string(),
                code: "write.origin_away".to_owned(),
            },
            Err(error) => Outcome::Dead {
                entry,
                class: DeadLetterClass::Permanent,
                error: error.to_string(),
                code: "write.refused".to_owned(),
            },
        }
    }
}
