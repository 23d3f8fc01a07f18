//! Sends each message to the handler of its type.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ratebox_db::Committed;
use ratebox_kit::DeadLetterClass;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::gather::Gathering;
use super::{
    BatchFn, Delivery, Failure, FailureKind, Gather, Handled, HandlerFn, IntoFailure, Meta,
    NoEffects, Proof as _, Route, TYPE_HEADER,
};
use crate::asyncapi::{About, Declared};
use crate::payload::Codecs;
use crate::{Entry, Handler, Outcome, stats};

/// Handlers of one router that run at the same time. Each holds memory and most of them a
/// connection, so more than a pool has only wait there.
pub const CONCURRENCY: usize = 32;

/// Handlers by message type. It is a [`Handler`]: give it to a [`super::Worker`] or a
/// [`crate::Consumer`].
///
/// Each message of a batch has its own outcome: one that fails, or whose handler panics, costs
/// its neighbours nothing.
#[derive(Clone)]
pub struct Router<S = ()> {
    state: Arc<S>,
    header: &'static str,
    targets: HashMap<&'static str, Target>,
    fallback: Option<Route>,
    others: Others,
    slots: Arc<Semaphore>,
    declared: Vec<Declared>,
    codecs: Option<Codecs>,
}

/// Where messages of a type go.
#[derive(Clone)]
enum Target {
    Route(Route),
    Gathering(Arc<Gathering>),
}

/// What becomes of messages that no handler wants.
#[derive(Clone, Copy)]
enum Others {
    Refuse,
    Ignore,
}

// === impl Router ===

impl Router<()> {
    /// A router whose handlers share no state.
    pub fn new() -> Self {
        Self::with_state(())
    }
}

impl Default for Router<()> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// A router whose handlers take `state`, or parts of it, through [`super::State`].
    pub fn with_state(state: S) -> Self {
        Self {
            state: Arc::new(state),
            header: TYPE_HEADER,
            targets: HashMap::new(),
            fallback: None,
            others: Others::Refuse,
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
            declared: Vec::new(),
            codecs: None,
        }
    }

    /// Sends messages of one type to a handler.
    ///
    /// # Panics
    /// When the type has a handler already.
    #[must_use]
    pub fn on<H, Args>(mut self, message_type: &'static str, handler: H) -> Self
    where
        H: HandlerFn<Args, S>,
        Args: 'static,
    {
        let mut about = About::default();
        H::describe(&mut about);
        let route = Route::new(handler, Arc::clone(&self.state));
        self.add(message_type, Target::Route(route), about);
        self
    }

    /// Gathers messages of one type and gives them to a handler together. Layers are not put
    /// around it.
    ///
    /// # Panics
    /// When the type has a handler already, or a bound of `gather` is zero.
    #[must_use]
    pub fn on_batch<H, Args>(
        mut self,
        message_type: &'static str,
        gather: Gather,
        handler: H,
    ) -> Self
    where
        H: BatchFn<Args, S>,
        Args: 'static,
    {
        let mut about = About::default();
        H::describe(&mut about);
        let gathering = Gathering::new(gather, handler, Arc::clone(&self.state));
        self.add(message_type, Target::Gathering(Arc::new(gathering)), about);
        self
    }

    /// Sends every message without a handler of its type to this one.
    #[must_use]
    pub fn otherwise<H, Args>(mut self, handler: H) -> Self
    where
        H: HandlerFn<Args, S>,
        Args: 'static,
    {
        self.fallback = Some(Route::new(handler, Arc::clone(&self.state)));
        self
    }

    /// Acknowledges messages that have no handler. Without this they become dead letters with
    /// code `message.unknown_type`.
    #[must_use]
    pub fn ignore_others(mut self) -> Self {
        self.others = Others::Ignore;
        self
    }

    /// Reads the type from another header than [`TYPE_HEADER`].
    #[must_use]
    pub fn by_header(mut self, header: &'static str) -> Self {
        self.header = header;
        self
    }

    /// At most so many handlers at once ([`CONCURRENCY`]). With 1 the messages of a batch are
    /// worked on in their order. The messages of a lane are so only when no other batch is at work
    /// beside it: set [`crate::Policy::batches_in_flight`] to 1, too (without
    /// [`crate::Policy::scaling`]).
    #[must_use]
    pub fn concurrency(mut self, max: usize) -> Self {
        self.slots = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Opens every body with these codecs before layers and handlers see it: those of the sender.
    #[must_use]
    pub fn codecs(mut self, codecs: Codecs) -> Self {
        self.codecs = Some(codecs);
        self
    }

    /// Puts a layer around every handler that was added before. The last one added is the
    /// outermost: it sees a message first and its outcome last.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route>,
        L::Service: Service<Delivery, Response = Committed> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
        <L::Service as Service<Delivery>>::Error: IntoFailure + 'static,
    {
        for target in self.targets.values_mut() {
            if let Target::Route(route) = target {
                *route = route.clone().layered(&layer);
            }
        }
        self.fallback = self.fallback.map(|route| route.layered(&layer));
        self
    }

    /// Says what a message of a type is, for [`crate::asyncapi`].
    ///
    /// # Panics
    /// When the type has no handler.
    #[must_use]
    pub fn describe(mut self, message_type: &str, describe: impl FnOnce(&mut About)) -> Self {
        let of_type = |declared: &&mut Declared| declared.message_type == message_type;
        let declared = self.declared.iter_mut().find(of_type);
        let declared = declared.unwrap_or_else(|| panic!("{message_type} has no handler"));
        describe(&mut declared.about);
        self
    }

    /// The declared handlers, in their order.
    pub(crate) fn declared(&self) -> &[Declared] {
        &self.declared
    }

    pub(crate) fn type_header(&self) -> &'static str {
        self.header
    }

    fn add(&mut self, message_type: &'static str, target: Target, about: About) {
        let before = self.targets.insert(message_type, target);
        assert!(before.is_none(), "{message_type} has a handler already");
        self.declared.push(Declared {
            message_type,
            about,
        });
    }

    async fn work(&self, entry: Entry) -> Outcome {
        let mut delivery = Delivery::new(entry);
        let meta = delivery.meta.clone();
        let target = meta
            .header(self.header)
            .and_then(|it| self.targets.get_key_value(it));
        delivery.route = target.map(|(message_type, _)| *message_type);
        let handled = self
            .dispatch(target.map(|(_, target)| target), delivery)
            .await;
        outcome(meta, handled)
    }

    async fn dispatch(&self, target: Option<&Target>, delivery: Delivery) -> Handled {
        let delivery = match &self.codecs {
            Some(codecs) => codecs.decode(delivery).await?,
            None => delivery,
        };
        match (target, &self.fallback, self.others) {
            (Some(Target::Gathering(gathering)), ..) => gathering.submit(delivery).await,
            (Some(Target::Route(route)), ..) | (None, Some(route), _) => {
                self.run(route, delivery).await
            }
            (None, None, Others::Ignore) => Ok(NoEffects.into_committed()),
            (None, None, Others::Refuse) => Err(unknown_type()),
        }
    }

    async fn run(&self, route: &Route, delivery: Delivery) -> Handled {
        let _slot = self.slots.acquire().await;
        let stream = delivery.meta.stream().clone();
        let work = AssertUnwindSafe(route.run(delivery)).catch_unwind();
        work.await.unwrap_or_else(|_| {
            stats::count(stats::PANICS, &stream, 1);
            tracing::error!(%stream, "a handler panicked");
            Err(panicked())
        })
    }
}

#[async_trait]
impl<S: Send + Sync + 'static> Handler for Router<S> {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let works = batch.into_iter().map(|entry| self.work(entry));
        let works: FuturesUnordered<_> = works.collect();
        works.collect().await
    }
}

/// The outcome of a message whose handler is through with it.
fn outcome(meta: Meta, handled: Handled) -> Outcome {
    let entry = meta.into_entry();
    match handled {
        Ok(proof) => Outcome::Done { entry, proof },
        Err(failure) => failure.outcome(entry),
    }
}

fn unknown_type() -> Failure {
    Failure::new(
        FailureKind::Dead(DeadLetterClass::Permanent),
        "message.unknown_type",
        "no handler for this type of message",
    )
}

pub(crate) fn panicked() -> Failure {
    Failure::retry("handler.panicked", "the handler panicked")
}
