//! The sender: every message once, some twice on purpose, and again whenever an answer got lost;
//! each append is written down.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use fastrand::Rng;
use ratebox_intake::{Item, Request};
use ratebox_kit::{Message, Stopwatch, id};
use ratebox_stream::{Append, Log as _, RedisLog, StreamName};
use ratebox_valkey::{Settings, Valkey};

use crate::journal::{Journal, Sent};
use crate::one_effect::{Plan, STREAM};

/// Messages of one round trip.
const BATCH: usize = 250;
/// Longest time for all of it.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// How far the sender is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Appends that were confirmed.
    pub(crate) confirmed: AtomicU64,
    /// Appends whose answer got lost.
    pub(crate) unknown: AtomicU64,
    /// Appends of messages that were on the bus already, on purpose.
    pub(crate) duplicates: AtomicU64,
}

/// Sends all messages of the plan, no faster than its rate.
///
/// # Errors
/// When the bus refuses a message for good, or the journal cannot be written.
pub(crate) async fn send_all(
    plan: Plan,
    url: String,
    journal: &Path,
    progress: Arc<Progress>,
) -> Result<()> {
    let mut rng = Rng::with_seed(plan.seed ^ 0x5E4D);
    let log = RedisLog::new(Valkey::lazy(&Settings::new(url))?);
    let mut journal = Journal::open(journal)?;
    let mut waiting: VecDeque<Append> = VecDeque::new();
    let (watch, mut made, mut appended) = (Stopwatch::start(), 0, 0);
    while made < plan.messages || !waiting.is_empty() {
        if watch.elapsed() > DEADLINE {
            bail!("the messages could not be sent in {DEADLINE:?}");
        }
        while made < plan.messages && waiting.len() < BATCH {
            waiting.push_back(append(made)?);
            made += 1;
        }
        let batch: Vec<Append> = waiting.drain(..waiting.len().min(BATCH)).collect();
        let answers = log.append(&batch).await;
        let mut failed = false;
        for (append, answer) in batch.into_iter().zip(answers) {
            let id = append.message.id.0.as_str();
            match answer {
                Ok(_) => {
                    journal.sent(id, Sent::Confirmed)?;
                    progress.confirmed.fetch_add(1, Ordering::SeqCst);
                    appended += 1;
                    if rng.f64() < plan.duplicates {
                        progress.duplicates.fetch_add(1, Ordering::SeqCst);
                        // Soon, beside others: now and then in one batch with its first entry.
                        let place = rng.usize(..=waiting.len());
                        waiting.insert(place, append);
                    }
                }
                Err(error) if error.is_retryable() => {
                    journal.sent(id, Sent::Unknown)?;
                    progress.unknown.fetch_add(1, Ordering::SeqCst);
                    waiting.push_back(append);
                    failed = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        journal.sync()?;
        let due = Duration::from_secs_f64(appended as f64 / plan.per_second.max(1) as f64);
        let rest = due.saturating_sub(watch.elapsed());
        tokio::time::sleep(rest.max(Duration::from_millis(if failed { 50 } else { 0 }))).await;
    }
    Ok(())
}

/// A request of one item, as a gateway puts it on the bus; every third is no good.
fn append(number: u64) -> Result<Append> {
    let mut request = Request::new(id::new(), "lab", "api");
    let account = if number % 3 == 2 { "12" } else { "12345678901" };
    let item = format!(
        "{{\"name\":\"Nguyen Van An\",\"phone\":\"0912{:06}\",\"bank_account\":\"{account}\"}}",
        number % 1_000_000
    );
    request.items.push(Item::parse(item.as_bytes())?);
    let message = Message::new(request.request_id.to_string(), request.to_message());
    Ok(Append::new(StreamName::new(STREAM), message))
}
