//! Writes that are answered before the origin has them: a partitioned stream, in order by key,
//! tried again with backoff, and kept as dead letters in the end. Beside it stands what waits of each
//! key, for those who read meanwhile, and so that one call of the origin brings all of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_cache::{
    Due, Place, QueuedWrite, SqliteWaiting, Tier, ValkeyWaiting, Waiting, WriteQueue,
};
use ratebox_db::{Committed, Db, SqliteSettings};
use ratebox_kit::{Clock, DeadLetterClass, DeadLetters, Message, PortError, Tasks};
use ratebox_origin::{NotApplied, PendingWrite, Service};
use ratebox_store::CACHE_WRITERS;
use ratebox_stream::{
    Backends, Chooser, ConsumerName, Entry, EntryId, GroupName, Handler, Handlers, KeyOrder, Lane,
    Log, Outcome, Ownership, PartitionedConsumer, Partitions, Policy, RedisLog, SqliteLog,
    StreamName, Terms, field,
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
    waiting: Arc<dyn Waiting>,
}

/// Opens the queue: on the cache's server when that loses nothing of a stream, else in the data
/// folder.
///
/// # Errors
/// When the name of the stream or the folder cannot be used.
pub(super) async fn open(config: &Config, valkey: Option<&Valkey>, tier: &Tier) -> Result<Writes> {
    let name = StreamName::new(&config.cache.write_queue);
    let partitions = Partitions::new(name, PARTITIONS).context("cache.write_queue")?;
    let of = |place, log: Arc<dyn Log>, ownership: Arc<dyn Ownership>, waiting| Writes {
        place,
        log,
        ownership,
        waiting,
        chooser: Arc::new(Chooser::new(partitions.clone())),
        partitions: partitions.clone(),
    };
    if let Some(valkey) = valkey
        && keeps_streams(valkey).await
    {
        let log = Arc::new(RedisLog::new(valkey.separate()));
        let prefix = format!("{}:waiting:", config.cache.write_queue);
        let answer_max = Duration::from_millis(config.cache.away_after_ms);
        let waiting = ValkeyWaiting::new(valkey.separate(), prefix, tier.clone(), answer_max);
        return Ok(of(valkey.to_string(), log.clone(), log, Arc::new(waiting)));
    }
    let path = super::super::in_data_dir(config, WRITES_FILE)?;
    let place = path.display().to_string();
    let db = Db::sqlite(&SqliteSettings::new(path)).context("the queue of writes")?;
    let log = Arc::new(SqliteLog::open(db.clone(), Clock::system()).await?);
    let waiting = SqliteWaiting::open(db, Clock::system()).await?;
    Ok(of(place, log.clone(), log, Arc::new(waiting)))
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
        let order = order(&write.cache, &write.key);
        let texts = texts(write.id.to_string(), write.value.as_deref());
        let body = write.value.unwrap_or_default();
        let message = Message::new(write.id.to_string(), body).with_header(field::KEY, &order);
        let append = self.chooser.append(Lane::Normal, message);
        for stored in self.log.append(&[append]).await {
            let id =
                stored.map_err(|error| PortError::new("the write was not kept for sure", error))?;
            self.waiting.note(&order, place(id), &texts).await?;
        }
        Ok(())
    }

    /// All that waits of the key as one write.
    async fn newest(&self, cache: &str, key: &str) -> Result<Option<QueuedWrite>, PortError> {
        let known = self.waiting.known(&order(cache, key)).await?;
        let mut waiting = known.waiting().into_iter();
        let id = waiting.next().flatten().and_then(|id| id.parse().ok());
        let fields: Vec<_> = waiting.collect();
        if fields.iter().all(Option::is_none) {
            return Ok(None);
        }
        let write = PendingWrite {
            resource: cache.to_owned(),
            key: key.to_owned(),
            fields,
        };
        let queued = write.queued();
        let queued = queued.map_err(|error| PortError::new("what waits is no JSON", error))?;
        let id = id.unwrap_or(queued.id);
        Ok(Some(QueuedWrite { id, ..queued }))
    }
}

/// What must stay in order.
fn order(resource: &str, key: &str) -> String {
    format!("{resource}/{key}")
}

fn place(entry: EntryId) -> Place {
    Place::new(entry.ms, entry.seq)
}

/// What waits of a write: its id, then its fields.
fn texts(id: String, value: Option<&[u8]>) -> Vec<Option<String>> {
    let fields = value.and_then(PendingWrite::read).map(|it| it.fields);
    let mut texts = vec![Some(id)];
    texts.extend(fields.unwrap_or_default());
    texts
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
    let member = (GroupName::new(CACHE_WRITERS), ConsumerName::unique("cache"));
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
    let waiting = Arc::clone(&writes.waiting);
    let handler: Arc<dyn Handler> = Arc::new(Apply { service, waiting });
    let handlers: Arc<dyn Handlers> =
        Arc::new(move |_: &ratebox_stream::Fence| Arc::clone(&handler));
    let owned = tasks.clone();
    tasks.spawn("cache writes", async move {
        consumer.run(handlers, &owned).await;
    });
    Ok(())
}

/// Hands queued writes to the service.
struct Apply {
    service: Service,
    waiting: Arc<dyn Waiting>,
}

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
        let Some(write) = body.and_then(PendingWrite::read) else {
            return Outcome::Dead {
                entry,
                class: DeadLetterClass::Malformed,
                error: "the write cannot be read".to_owned(),
                code: "write.malformed".to_owned(),
            };
        };
        match self.bring(&entry, &write).await {
            Ok(Ok(proof)) => Outcome::Done { entry, proof },
            Ok(Err(error)) => Outcome::Dead {
                entry,
                class: DeadLetterClass::Permanent,
                error: error.to_string(),
                code: "write.refused".to_owned(),
            },
            // It is away for every write alike.
            Err(error) => Outcome::Pause {
                entry,
                error: error.to_string(),
                code: "write.origin_away".to_owned(),
            },
        }
    }

    /// Brings a write with all that waits of its key behind it, or alone when that is refused. What
    /// was brought, or never will be, waits no longer.
    async fn bring(
        &self,
        entry: &Entry,
        write: &PendingWrite,
    ) -> Result<Result<Committed, NotApplied>, Away> {
        let (order, place) = (order(&write.resource, &write.key), place(entry.id));
        let texts = texts(
            entry.message_id().into_owned(),
            entry.field(field::DATA).map(|it| it.as_ref()),
        );
        let known = self.waiting.known(&order).await?;
        let Some(own) = known.own(place, &texts) else {
            let why = "the origin has all of it: it went along with one before it";
            return Ok(Ok(Committed::outside(why)));
        };
        let all = known.due(place, &texts).unwrap_or_else(|| own.clone());
        let mut brought = (self.apply(write, &all).await?, &all);
        if brought.0.is_err() && all != own {
            brought = (self.apply(write, &own).await?, &own);
        }
        let (applied, due) = brought;
        self.waiting.applied(&order, &due.places).await?;
        self.service.settled(write).await;
        Ok(applied)
    }

    async fn apply(
        &self,
        write: &PendingWrite,
        due: &Due,
    ) -> Result<Result<Committed, NotApplied>, Away> {
        let mut fields = due.texts.get(1..).unwrap_or_default().to_vec();
        fields.resize(fields.len().max(write.fields.len()), None);
        let write = PendingWrite {
            fields,
            ..write.clone()
        };
        match self.service.apply(&write).await {
            Err(error) if error.is_retryable() => Err(Away::Origin(error)),
            applied => Ok(applied),
        }
    }
}

/// Nothing can be said of any write just now.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error("the origin does not take writes")]
    Origin(#[source] NotApplied),
    #[error("what waits for the origin cannot be asked for")]
    Waiting(#[from] PortError),
}
