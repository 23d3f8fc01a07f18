//! Who looks into which buckets, and telling them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_cache::Cache;
use ratebox_gateway::{LookupWatch, lookup_tag};
use ratebox_intake::LOOKUP_BUCKETS;
use ratebox_kit::Clock;
use ratebox_valkey::Marks;
use ratebox_worker::{LookupCaches, Watched};

/// More buckets than this at once, and everything that is cached is forgotten: it is one command
/// instead of so many, and lives for a second anyway.
const FORGET_MAX: usize = 64;

/// A server that has not answered for this long is passed over.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// How long it is passed over.
const AWAY_FOR: Duration = Duration::from_secs(2);

/// Where the marks are.
pub(super) enum Field {
    /// On a server.
    Server(Marks),
    /// In this process, for its own worker.
    Here(LocalMarks),
}

/// Where gateways say which buckets they look into.
pub(super) struct Board {
    field: Field,
    caches: Cache<str, ()>,
    clock: Clock,
    /// What this process said, so that it is not said again with each load.
    said: Mutex<Said>,
    said_for: Duration,
    /// Until then the server is left alone; milliseconds of the steady clock.
    away_until_ms: AtomicU64,
    /// Whether it was said in the log that the server is away.
    is_lamented: AtomicBool,
}

#[derive(Default)]
struct Said {
    since: Duration,
    buckets: HashSet<u16>,
}

// === impl Board ===

impl Board {
    /// What is said is not said again for `said_for`; marks must last twice as long.
    pub(super) fn new(
        field: Field,
        caches: Cache<str, ()>,
        clock: Clock,
        said_for: Duration,
    ) -> Self {
        Self {
            field,
            caches,
            clock,
            said: Mutex::default(),
            said_for,
            away_until_ms: AtomicU64::new(0),
            is_lamented: AtomicBool::new(false),
        }
    }

    /// The buckets that were not said lately.
    fn unsaid(&self, buckets: &[u16]) -> Vec<u16> {
        let now = self.clock.steady_time();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(said.since) >= self.said_for {
            said.buckets.clear();
            said.since = now;
        }
        let unsaid = buckets.iter().filter(|it| !said.buckets.contains(it));
        unsaid.copied().collect()
    }

    fn remember(&self, buckets: &[u16]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.buckets.extend(buckets);
    }

    /// The server's answer; nothing while it is away.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, ratebox_valkey::Error>>,
    ) -> Option<T> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if ms(self.clock.steady_time()) < self.away_until_ms.load(Ordering::Relaxed) {
            return None;
        }
        let error = match tokio::time::timeout(ANSWER_MAX, question).await {
            Ok(Ok(answer)) => {
                self.is_lamented.store(false, Ordering::Relaxed);
                return Some(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let until_ms = ms(self.clock.steady_time() + AWAY_FOR);
        self.away_until_ms.store(until_ms, Ordering::Relaxed);
        if !self.is_lamented.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error,
                "the cache's server does not say who looks values up: answers live for their longest age"
            );
        }
        None
    }
}

#[async_trait]
impl LookupWatch for Board {
    async fn watch(&self, buckets: &[u16]) {
        match &self.field {
            Field::Here(marks) => marks.mark(buckets),
            Field::Server(marks) => {
                let unsaid = self.unsaid(buckets);
                if !unsaid.is_empty() && self.ask(marks.mark(&unsaid)).await.is_some() {
                    self.remember(&unsaid);
                }
            }
        }
    }
}

#[async_trait]
impl LookupCaches for Board {
    async fn watched(&self) -> Watched {
        match &self.field {
            Field::Here(marks) => marks.marked(),
            Field::Server(marks) => self
                .ask(marks.marked())
                .await
                .map(Watched::new)
                .unwrap_or_default(),
        }
    }

    async fn forget(&self, buckets: &[u16]) {
        let told = if buckets.len() > FORGET_MAX {
            self.caches.invalidate_all().await
        } else {
            let tags: Vec<String> = buckets.iter().map(|it| lookup_tag(*it)).collect();
            self.caches.invalidate_tags(&tags).await
        };
        if let Err(error) = told {
            // The cache tells it as soon as it can.
            tracing::debug!(%error, "a cache could not be told of what was recorded");
        }
    }
}

/// Marks of this process, which fade like those of a server: not before a period, and after two.
pub(super) struct LocalMarks {
    clock: Clock,
    period: Duration,
    fields: Mutex<Fields>,
}

#[derive(Default)]
struct Fields {
    since: Duration,
    now: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
}

// === impl LocalMarks ===

impl LocalMarks {
    pub(super) fn new(clock: Clock, period: Duration) -> Self {
        Self {
            clock,
            period,
            fields: Mutex::default(),
        }
    }

    fn mark(&self, buckets: &[u16]) {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        fields.turn(self.clock.steady_time(), self.period);
        let field = fields
            .now
            .get_or_insert_with(|| vec![0; LOOKUP_BUCKETS / 8]);
        for bucket in buckets {
            if let Some(byte) = field.get_mut(usize::from(bucket / 8)) {
                *byte |= 0x80 >> (bucket % 8);
            }
        }
    }

    fn marked(&self) -> Watched {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        fields.turn(self.clock.steady_time(), self.period);
        let there = [&fields.before, &fields.now];
        Watched::new(there.into_iter().flatten().cloned().collect())
    }
}

impl Fields {
    fn turn(&mut self, now: Duration, period: Duration) {
        let age = now.saturating_sub(self.since);
        if age >= period {
            self.before = self.now.take().filter(|_| age < period * 2);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_this_process_lasts_a_period_and_not_three() {
        let clock = Clock::manual(ratebox_kit::Timestamp::UNIX_EPOCH);
        let period = Duration::from_secs(10);
        let marks = LocalMarks::new(clock.clone(), period);
        assert!(marks.marked().is_empty());
        marks.mark(&[7, 65_535]);
        for _ in 0..10 {
            let watched = marks.marked();
            assert!(watched.has(7) && watched.has(65_535) && !watched.has(8));
            clock.advance(Duration::from_secs(1));
        }
        clock.advance(period * 2);
        assert!(marks.marked().is_empty());
        marks.mark(&[8]);
        clock.advance(period * 3);
        assert!(marks.marked().is_empty());
    }
}
