//! The log in memory, with a switch that makes it refuse, and a broker for the outbox over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Clock;
use ratebox_outbox::{Broker, Outgoing, PublishError};
use ratebox_stream::{
    Admin, Append, ClaimScope, Claimed, ConsumerName, Delayed, Entry, EntryId, Error, GroupName,
    Lane, LaneFloor, LaneQuota, Log, MemoryLog, Retention, Settlement, StreamInfo, StreamName,
    Subscription, Tail, Trimmed, Wait,
};

pub(crate) struct Bus {
    log: MemoryLog,
    full: AtomicBool,
    denied: AtomicBool,
    silent: AtomicBool,
    appends: AtomicUsize,
}

impl Bus {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            log: MemoryLog::new(Clock::system()),
            full: AtomicBool::new(false),
            denied: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            appends: AtomicUsize::new(0),
        })
    }

    /// From now on appends are refused for want of memory, or no longer.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// From now on the user of those who append has no right to.
    pub(crate) fn deny(&self) {
        self.denied.store(true, Ordering::SeqCst);
    }

    /// From now on nobody can read answers, or they can again.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// Calls of `append` so far.
    pub(crate) fn appends(&self) -> usize {
        self.appends.load(Ordering::SeqCst)
    }

    /// Empties a stream.
    pub(crate) fn forget(&self, stream: &StreamName) {
        self.log.lose_stream(stream);
    }

    /// All entries of a stream.
    pub(crate) async fn entries(&self, stream: &str) -> Vec<Entry> {
        self.log
            .peek(&stream.into(), EntryId::MIN, 100_000)
            .await
            .unwrap()
    }
}

#[async_trait]
impl Log for Bus {
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        if self.full.load(Ordering::SeqCst) {
            return entries
                .iter()
                .map(|_| Err(Error::Full("OOM".into())))
                .collect();
        }
        if self.denied.load(Ordering::SeqCst) {
            let denied = |_| Error::Refused {
                what: "the server refused the user (NOPERM)".to_owned(),
                source: None,
            };
            return entries.iter().map(denied).map(Err).collect();
        }
        self.log.append(entries).await
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        self.log.ensure_group(sub).await
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        self.log.read(sub, quotas, wait).await
    }

    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        self.log.claim(sub, lane, cursor, scope, max).await
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        self.log.touch(sub, held).await
    }

    async fn settle(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        self.log.settle(sub, settlements).await
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        self.log.promote(sub, max).await
    }

    async fn tail(
        &self,
        stream: &StreamName,
        after: Option<EntryId>,
        max: usize,
        wait: Duration,
    ) -> Result<Tail, Error> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(Error::Connection("refused".into()));
        }
        self.log.tail(stream, after, max, wait).await
    }
}

#[async_trait]
impl Admin for Bus {
    async fn info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, Error> {
        self.log.info(stream).await
    }

    async fn floor(&self, sub: &Subscription) -> Result<Vec<LaneFloor>, Error> {
        self.log.floor(sub).await
    }

    async fn trim_but(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<Trimmed, Error> {
        self.log.trim_but(stream, retention, ignored).await
    }

    async fn bytes(&self, stream: &StreamName) -> Result<u64, Error> {
        self.log.bytes(stream).await
    }

    async fn make_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: EntryId,
    ) -> Result<bool, Error> {
        self.log.make_group(stream, group, from).await
    }

    async fn peek(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.log.peek(stream, from, max).await
    }

    async fn delayed(&self, sub: &Subscription) -> Result<Delayed, Error> {
        self.log.delayed(sub).await
    }

    async fn remove_dead_consumers(
        &self,
        sub: &Subscription,
        idle: Duration,
    ) -> Result<Vec<ConsumerName>, Error> {
        self.log.remove_dead_consumers(sub, idle).await
    }

    async fn loss_window(&self) -> Result<Option<Duration>, Error> {
        self.log.loss_window().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.log.ping().await
    }
}

/// Publishes events of the outbox.
pub(crate) struct BusBroker(pub(crate) Arc<Bus>);

#[async_trait]
impl Broker for BusBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let appends: Vec<Append> = messages
            .into_iter()
            .map(|it| Append::carried(StreamName::new(it.topic), it.message))
            .collect();
        let answers = self.0.append(&appends).await;
        let down = |error: Error| PublishError::Down(error.to_string());
        answers
            .into_iter()
            .map(|answer| answer.map(drop).map_err(down))
            .collect()
    }
}
