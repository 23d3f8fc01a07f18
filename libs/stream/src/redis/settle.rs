//! Settles worked-on entries: one acknowledgement for many, scripts only for what failed.

use std::time::Duration;

use ratebox_kit::{Causes, Timestamp};
use ratebox_valkey::{Ability, Error as ValkeyError};

use super::reader::Reader;
use super::{RedisLog, delayed, reply};
use crate::policy::FIELDS_MAX;
use crate::retry::{retry_fields, snooze_fields};
use crate::{Append, Entry, EntryId, Error, HandTo, Lane, Settlement, Subscription};

/// Ids in one `XACK`.
const ACKS_MAX: usize = 1_000;

/// Ids of bulk work in one `XACK`, each with a round trip of its own.
const BULK_ACKS_MAX: usize = 125;

/// Entries in one call of a script.
pub(super) const CHUNK_MAX: usize = 100;

/// Bytes in one call of a script; one entry may be larger.
pub(super) const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// A released entry looks untouched for this long. No sensible claim idle time is longer.
const RELEASED_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Settlements of one lane, by kind.
#[derive(Default)]
struct Sorted<'a> {
    acks: Vec<EntryId>,
    /// Entry, wait, and when it failed; one that is put off did not.
    delays: Vec<(&'a Entry, Duration, Option<Timestamp>)>,
    burials: Vec<(EntryId, Option<&'a Append>)>,
    releases: Vec<(EntryId, u32, HandTo)>,
}

// === impl Sorted ===

impl<'a> Sorted<'a> {
    fn of(lane: Lane, settlements: &'a [Settlement<'_>]) -> Self {
        let mut sorted = Self::default();
        for settlement in settlements {
            match settlement {
                Settlement::Ack { lane: of, id } if *of == lane => sorted.acks.push(*id),
                Settlement::Delay {
                    entry,
                    wait,
                    failed_at,
                } if entry.lane == lane => {
                    sorted.delays.push((entry, *wait, Some(*failed_at)));
                }
                Settlement::Snooze { entry, wait } if entry.lane == lane => {
                    sorted.delays.push((entry, *wait, None));
                }
                Settlement::Bury { entry, view } if entry.lane == lane => {
                    sorted.burials.push((entry.id, *view));
                }
                Settlement::Release {
                    lane: of,
                    id,
                    deliveries,
                    to,
                } if *of == lane => {
                    let before = deliveries.saturating_sub(1);
                    sorted.releases.push((*id, before, *to));
                }
                Settlement::Ack { .. }
                | Settlement::Delay { .. }
                | Settlement::Snooze { .. }
                | Settlement::Bury { .. }
                | Settlement::Release { .. } => {}
            }
        }
        sorted
    }
}

/// Sends the acknowledgements that were written.
async fn flush(reader: &mut Reader) -> Result<(), ValkeyError> {
    for reply in reader.exchange(Duration::ZERO).await? {
        reply?;
    }
    reader.requests.clear();
    Ok(())
}

// === impl RedisLog ===

impl RedisLog {
    pub(super) async fn settle_all(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        let lanes: Vec<(Lane, Sorted<'_>)> = sub
            .lanes
            .iter()
            .map(|(lane, _)| (lane, Sorted::of(lane, settlements)))
            .collect();
        self.ack(sub, &lanes).await?;
        for (lane, sorted) in &lanes {
            self.delay(sub, *lane, &sorted.delays).await?;
            self.bury(sub, *lane, &sorted.burials).await?;
            self.release(sub, *lane, &sorted.releases).await?;
        }
        Ok(())
    }

    async fn ack(&self, sub: &Subscription, lanes: &[(Lane, Sorted<'_>)]) -> Result<(), Error> {
        if lanes.iter().all(|(_, sorted)| sorted.acks.is_empty()) {
            return Ok(());
        }
        let acked = self.readers.with(&self.valkey, async |reader| {
            for (lane, sorted) in lanes {
                // Bulk work in steps, so that nobody on the server waits for a whole batch of it.
                let is_bulk = *lane == Lane::Low && sorted.acks.len() > BULK_ACKS_MAX;
                let at_once = if is_bulk { BULK_ACKS_MAX } else { ACKS_MAX };
                for ids in sorted.acks.chunks(at_once) {
                    reader.requests.command("XACK", |words| {
                        words.key(sub.lanes.stream(*lane).as_str());
                        words.word(sub.group.as_str());
                        for id in ids {
                            words.pair(id.ms, id.seq);
                        }
                    });
                    if is_bulk {
                        flush(reader).await?;
                    }
                }
            }
            flush(reader).await
        });
        acked.await.map_err(super::error)
    }

    async fn delay(
        &self,
        sub: &Subscription,
        lane: Lane,
        delays: &[(&Entry, Duration, Option<Timestamp>)],
    ) -> Result<(), Error> {
        let stream = sub.lanes.stream(lane);
        let (set, entries) = super::delayed_keys(sub);
        let mut left = delays.iter().peekable();
        while left.peek().is_some() {
            let mut call = self
                .scripts
                .delay
                .call()
                .key(stream.as_str())
                .key(&set)
                .key(&entries);
            call.push(sub.group.as_str());
            call.push(sub.consumer.as_str());
            let (mut count, mut bytes) = (0, 0);
            while count < CHUNK_MAX
                && bytes < CHUNK_BYTES_MAX
                && let Some((entry, wait, failed_at)) = left.next()
            {
                let fields = entry.fields.len();
                if fields > FIELDS_MAX {
                    return Err(Error::TooManyFields {
                        fields,
                        max: FIELDS_MAX,
                    });
                }
                let copy = match failed_at {
                    Some(failed_at) => retry_fields(entry, &sub.group, *failed_at),
                    None => snooze_fields(entry, &sub.group),
                };
                let packed = delayed::pack(&copy);
                (count, bytes) = (count + 1, bytes + packed.len());
                call.push(entry.id.to_string());
                call.push(delayed::member(
                    lane,
                    entry.first_entry(),
                    entry.id,
                    &sub.group,
                ));
                call.push(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                call.push(packed);
            }
            self.valkey.run(&call).await.map_err(super::error)?;
        }
        Ok(())
    }

    /// Acknowledges first: a view that a crash costs is no letter lost.
    async fn bury(
        &self,
        sub: &Subscription,
        lane: Lane,
        burials: &[(EntryId, Option<&Append>)],
    ) -> Result<(), Error> {
        for chunk in burials.chunks(CHUNK_MAX) {
            let mut call = self
                .scripts
                .ack_own
                .call()
                .key(sub.lanes.stream(lane).as_str());
            call.push(sub.group.as_str());
            call.push(sub.consumer.as_str());
            for (id, _) in chunk {
                call.push(id.to_string());
            }
            let acked = self
                .valkey
                .run(&call)
                .await
                .and_then(reply::ids)
                .map_err(super::error)?;
            let buried = chunk.iter().filter(|(id, _)| acked.contains(id));
            let views: Vec<&Append> = buried.filter_map(|(_, view)| *view).collect();
            for answer in self.append_all(&views).await {
                if let Err(error) = answer {
                    tracing::warn!(error = %Causes(&error), "a dead letter is kept, but its view is missing");
                }
            }
        }
        Ok(())
    }

    async fn release(
        &self,
        sub: &Subscription,
        lane: Lane,
        releases: &[(EntryId, u32, HandTo)],
    ) -> Result<(), Error> {
        let to_who_waits = |one: &(_, _, HandTo)| one.2 == HandTo::WhoeverWaits;
        let by_nack = releases.iter().any(to_who_waits) && self.valkey.has(Ability::Nack).await;
        for chunk in releases.chunks(CHUNK_MAX) {
            let mut call = self
                .scripts
                .release
                .call()
                .key(sub.lanes.stream(lane).as_str());
            call.push(sub.group.as_str());
            call.push(sub.consumer.as_str());
            call.push(RELEASED_IDLE.as_millis().to_string());
            for (id, count, to) in chunk {
                call.push(id.to_string());
                call.push(*count);
                call.push(u8::from(by_nack && *to == HandTo::WhoeverWaits));
            }
            let answer = self.valkey.run(&call).await;
            let took = answer.and_then(|value| reply::number(&value));
            if took.map_err(super::error)? == 0 {
                self.valkey.do_without(Ability::Nack);
            }
        }
        Ok(())
    }
}
