//! What a consumer knows of the orders of operators.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::Tasks;
use tokio::sync::watch;

use crate::shared::Shared;
use crate::{Dispatcher, Entry, EntryId, Orders, StreamName, field, stats};

/// How often the orders are read. No read of entries and no batch waits for it.
const ORDERS_EVERY: Duration = Duration::from_millis(500);

/// The orders as they were read last, from a log that has the second port.
pub(crate) struct Standing {
    log: Arc<dyn Dispatcher>,
    orders: watch::Sender<Arc<Orders>>,
}

/// How a message is known: nobody spells it out for a batch of which nothing is cancelled.
enum Name {
    Given(Bytes),
    First(StreamName, EntryId),
}

// === impl Name ===

impl Name {
    fn of(entry: &Entry) -> Self {
        match entry.field(field::ID) {
            Some(id) if !id.is_empty() => Self::Given(id.clone()),
            _ => {
                let stream = match entry.first_stream() {
                    own if own == entry.stream.as_str() => entry.stream.clone(),
                    other => StreamName::new(other),
                };
                Self::First(stream, entry.first_entry())
            }
        }
    }

    fn is_cancelled(&self, orders: &Orders) -> bool {
        match self {
            Self::Given(id) => std::str::from_utf8(id).is_ok_and(|id| orders.is_cancelled(id)),
            Self::First(stream, entry) => orders.is_cancelled(&format!("{stream}/{entry}")),
        }
    }
}

// === impl Standing ===

impl Standing {
    pub(crate) fn new(log: Arc<dyn Dispatcher>) -> Self {
        let (orders, _) = watch::channel(Arc::default());
        Self { log, orders }
    }

    pub(crate) fn now(&self) -> Arc<Orders> {
        Arc::clone(&self.orders.borrow())
    }

    /// Returns once one of these messages is cancelled.
    async fn cancels(&self, names: &[Name]) {
        let mut orders = self.orders.subscribe();
        let any = |orders: &Arc<Orders>| {
            !orders.cancelled().is_empty() && names.iter().any(|it| it.is_cancelled(orders))
        };
        if orders.wait_for(any).await.is_err() {
            // The sender lives as long as this does.
            std::future::pending::<()>().await;
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Whether an operator ordered this group to take nothing.
    pub(crate) fn is_halted(&self) -> bool {
        let orders = self.standing.as_ref().map(Standing::now);
        orders.is_some_and(|orders| orders.is_paused(&self.sub.group))
    }

    /// Whether an operator ordered that this message is not worked on.
    pub(crate) fn is_cancelled(&self, orders: &Orders, entry: &Entry) -> bool {
        !orders.cancelled().is_empty() && orders.is_cancelled(&entry.message_id())
    }

    /// The orders as this consumer knows them; none without the second port.
    pub(crate) fn orders(&self) -> Option<Arc<Orders>> {
        self.standing.as_ref().map(Standing::now)
    }

    /// Returns once one of these entries is cancelled: never without the second port.
    pub(crate) fn cancels(&self, batch: &[Entry]) -> impl Future<Output = ()> + use<'_> {
        let standing = self.standing.as_ref();
        let names = standing.map(|_| batch.iter().map(Name::of));
        let names: Vec<Name> = names.into_iter().flatten().collect();
        async move {
            match standing {
                Some(standing) => standing.cancels(&names).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Reads the orders, where they can be read. What was known stays known while the log is away.
    pub(crate) async fn read_orders(&self) {
        let Some(standing) = &self.standing else {
            return;
        };
        match standing.log.orders(&self.sub.lanes).await {
            Ok(orders) => {
                let orders = Orders::of(orders);
                let before = standing.now().is_paused(&self.sub.group);
                let after = orders.is_paused(&self.sub.group);
                if before != after {
                    let does = if after { "pauses" } else { "goes on" };
                    tracing::info!(stream = %self.base(), group = %self.sub.group, "{does} by order");
                }
                standing.orders.send_if_modified(|known| {
                    let changes = **known != orders;
                    *known = Arc::new(orders);
                    changes
                });
            }
            Err(error) => {
                stats::failed(self.base(), "orders");
                tracing::debug!(stream = %self.base(), "cannot read orders: {error}");
            }
        }
    }

    /// Reads the orders again and again until the sender is dropped.
    pub(crate) fn follow_orders(self: &Arc<Self>, tasks: &Tasks) -> watch::Sender<()> {
        let (alive, mut stopped) = watch::channel(());
        let shared = Arc::clone(self);
        if self.standing.is_some() {
            tasks.spawn("stream.orders", async move {
                loop {
                    shared.read_orders().await;
                    tokio::select! {
                        _ = stopped.changed() => return,
                        () = tokio::time::sleep(ORDERS_EVERY) => {}
                    }
                }
            });
        }
        alive
    }
}
