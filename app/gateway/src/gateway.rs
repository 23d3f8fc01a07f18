//! The gateway: what it needs, what its handlers share, and how it is started.

use std::sync::Arc;

use ratebox_kit::{Clock, Shutdown, Stopwatch, Tasks};
use ratebox_operator::{Letters, Sagas, Streams};
use ratebox_outbox::Outbox;
use ratebox_store::Store;
use ratebox_stream::{Admin, Control, Dispatcher, Lanes, Log};
use tokio::sync::Notify;

use crate::accept::{Backend, Durable, Publisher, Queue, Streamed};
use crate::answers::Answers;
use crate::auth::Auth;
use crate::health::{Health, Vitals};
use crate::idempotency::IdempotencyKeys;
use crate::limits::Limits;
use crate::lookups::{LookupDeps, Lookups};
use crate::loss_window::LossWindow;
use crate::router::Router;
use crate::settings::{AcceptMode, Settings};
use crate::statuses::Statuses;

/// What a gateway needs from the server.
pub struct Deps {
    /// Requests, tokens and keys.
    pub store: Store,
    /// Publishes what was committed (durable mode).
    pub outbox: Outbox,
    /// The bus.
    pub log: Arc<dyn Log>,
    /// The same bus, to look at single entries (stream mode).
    pub admin: Arc<dyn Admin>,
    /// The same bus, for orders to the consumers.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// The streams of requests.
    pub lanes: Lanes,
    /// Sagas, as operators see them.
    pub sagas: Sagas,
    /// Idempotency keys of stream mode; without it, a key is answered 503 in that mode.
    pub keys: Option<Arc<dyn IdempotencyKeys>>,
    /// What look-ups need.
    pub lookups: LookupDeps,
    /// Counts requests for all gateways; `None` = each counts for itself.
    pub limiter: Option<ratebox_cache::Limiter>,
    /// Told when an import was taken: who looks after imports may be in this process.
    pub imports: Arc<Notify>,
    /// Expiry of tokens is judged by this clock.
    pub clock: Clock,
    /// What `/api/health` looks at.
    pub health: Health,
    /// All settings.
    pub settings: Settings,
    /// Owns the background tasks.
    pub tasks: Tasks,
}

/// The doors. Its background tasks end when the last [`Gateway::router`] is gone as well; keep
/// neither longer than the listener does.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) letters: Letters,
    pub(crate) streams: Streams,
    pub(crate) sagas: Sagas,
    pub(crate) control: Control,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) lanes: Lanes,
    pub(crate) auth: Auth,
    pub(crate) limits: Limits,
    pub(crate) lookups: Lookups,
    pub(crate) statuses: Statuses,
    pub(crate) queue: Queue,
    pub(crate) loss_window: LossWindow,
    pub(crate) answers: Arc<Answers>,
    pub(crate) vitals: Vitals,
    pub(crate) tasks: Tasks,
    pub(crate) shutdown: Shutdown,
    /// Since when this process counts.
    pub(crate) began: Stopwatch,
}

impl Gateway {
    /// Starts what runs in the background. Says in the log and in a gauge what a 202 promises.
    pub fn new(deps: Deps) -> Self {
        let accept = &deps.settings.accept;
        let loss_window = LossWindow::start(accept, &deps.admin, &deps.tasks);
        let queue = Queue::start(backend(&deps), &deps.settings.accept, &deps.tasks);
        let Deps {
            store,
            settings,
            tasks,
            ..
        } = deps;
        let (waits, lookups) = (settings.answers.clone(), settings.lookups.clone());
        let clock = deps.clock.clone();
        let shared = Shared {
            statuses: Statuses::new(clock.clone(), settings.answers.statuses_max_bytes),
            lookups: Lookups::new(deps.lookups, lookups, (store.clone(), clock), &tasks),
            auth: Auth::new(store.clone(), deps.clock, settings.auth.clone()),
            limits: Limits::new(settings.limits.clone(), deps.limiter),
            queue,
            loss_window,
            answers: Answers::start(&deps.log, &settings.streams, waits, &tasks),
            vitals: Vitals::start(deps.health, &tasks),
            letters: Letters::new(store.clone(), deps.outbox),
            streams: Streams::new(
                deps.log,
                Arc::clone(&deps.admin),
                deps.lanes.clone(),
                store.clone(),
            ),
            sagas: deps.sagas,
            control: Control::new(deps.dispatcher, deps.lanes.clone()),
            store,
            admin: deps.admin,
            lanes: deps.lanes,
            shutdown: tasks.shutdown(),
            began: Stopwatch::start(),
            tasks,
            settings,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The routes, for [`crate::serve`].
    pub fn router(&self) -> Router {
        Router::new(Arc::clone(&self.shared))
    }
}

fn backend(deps: &Deps) -> Backend {
    let accept = &deps.settings.accept;
    match accept.mode {
        AcceptMode::Durable => Backend::Durable(Durable {
            store: deps.store.clone(),
            outbox: deps.outbox.clone(),
            lanes: deps.lanes.clone(),
            tells_owner: accept.tells_owner,
            imports: Arc::clone(&deps.imports),
            publisher: Publisher::start(deps.outbox.clone(), accept.publish_queue_max, &deps.tasks),
        }),
        AcceptMode::Stream => Backend::Stream(Streamed {
            log: Arc::clone(&deps.log),
            lanes: deps.lanes.clone(),
            clock: deps.clock.clone(),
            keys: deps.keys.clone(),
            keys_kept: accept.keys_kept,
            key_in_progress_max: accept.key_in_progress_max,
        }),
    }
}
