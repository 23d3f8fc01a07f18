//! A router, or any handler, as a running member of a group.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Clock, DeadLetters, Tasks};

use super::LetterStream;
use crate::{
    Consumer, ConsumerName, GroupName, Handler, Lanes, Log, Policy, StreamName, Subscription,
};

/// How long a stop waits for handlers that are at work.
pub const STOP_WITHIN: Duration = Duration::from_secs(25);

/// A handler, the stream that it works on, and the group that it belongs to.
///
/// Every process that runs one under the same group takes a share of the messages.
///
/// One that runs by itself does not follow the orders of [`crate::Control`]. Where operators pause and
/// cancel, run its parts: `let (consumer, handler) = worker.into_parts();`, then
/// `consumer.with_dispatcher(log).run(handler, &tasks)`.
pub struct Worker {
    log: Arc<dyn Log>,
    handler: Arc<dyn Handler>,
    lanes: Lanes,
    group: GroupName,
    name: String,
    policy: Policy,
    clock: Clock,
    letters: Option<Arc<dyn DeadLetters>>,
}

// === impl Worker ===

impl Worker {
    /// A member of `group` that gives the messages of `stream` to `handler`. Its dead letters go
    /// to the stream of [`LetterStream::of`].
    pub fn new(
        log: Arc<dyn Log>,
        stream: &str,
        group: &str,
        handler: impl Handler + 'static,
    ) -> Self {
        Self {
            log,
            handler: Arc::new(handler),
            lanes: Lanes::of(&StreamName::new(stream)),
            group: GroupName::new(group),
            name: group.to_owned(),
            policy: Policy::default(),
            clock: Clock::system(),
            letters: None,
        }
    }

    /// What its name among the members begins with, for example the host's. Default: the group.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Keeps dead letters elsewhere, for example in a database.
    #[must_use]
    pub fn dead_letters(mut self, letters: Arc<dyn DeadLetters>) -> Self {
        self.letters = Some(letters);
        self
    }

    /// Other limits than the default. With some that cannot work ([`Policy::check`]) it does not run:
    /// [`Worker::run`] and [`Worker::run_until`] return at once, with an error in the log.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Only the plain stream, without lanes of higher and lower priority.
    #[must_use]
    pub fn without_lanes(mut self) -> Self {
        self.lanes = Lanes::only(self.lanes.base());
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The member, and the handler to run it with.
    pub fn into_parts(self) -> (Consumer, Arc<dyn Handler>) {
        let letters = self
            .letters
            .unwrap_or_else(|| Arc::new(LetterStream::of(Arc::clone(&self.log), &self.lanes)));
        let name = ConsumerName::unique(&self.name);
        let sub = Subscription::new(self.lanes, self.group, name);
        let consumer = Consumer::new(self.log, letters, sub, self.policy, self.clock);
        (consumer, self.handler)
    }

    /// Works until `tasks` are asked to stop, then finishes what is in work and hands back the
    /// rest.
    pub async fn run(self, tasks: &Tasks) {
        let (consumer, handler) = self.into_parts();
        consumer.run(handler, tasks).await;
    }

    /// Works until `signal` completes, for example `tokio::signal::ctrl_c()`; then finishes what
    /// is in work, for at most [`STOP_WITHIN`].
    pub async fn run_until<T>(self, signal: impl Future<Output = T>) {
        let tasks = Tasks::new();
        let (consumer, handler) = self.into_parts();
        if !consumer.has_sound_policy() {
            return;
        }
        let running = tasks.clone();
        tasks.spawn("stream.worker", async move {
            consumer.run(handler, &running).await;
        });
        signal.await;
        let late = tasks.join(STOP_WITHIN).await;
        if !late.is_empty() {
            tracing::warn!(
                "stopped before {} was through; others take over",
                late.join(", ")
            );
        }
    }
}
