//! Layers for a router's handlers: what happens around every message.
//!
//! A layer is a [`tower::Layer`] over [`Route`]; layers of others fit too, as long as their errors
//! turn into a failure. The ones here, from the outside in as they are best stacked (the last one
//! that is added is the outermost):
//!
//! ```
//! use std::time::Duration;
//! use ratebox_stream::handler::{NoEffects, Router};
//! use ratebox_stream::layers::{Count, Timeout, Trace};
//!
//! async fn ping() -> NoEffects { NoEffects }
//!
//! let router = Router::new()
//!     .on("ping", ping)
//!     .layer(Timeout::after(Duration::from_secs(30)))
//!     .layer(Count)
//!     .layer(Trace);
//! ```
//!
//! One of your own is a function: [`from_fn`].

mod count;
mod once;
mod results;
mod timeout;
mod trace;

use std::pin::Pin;
use std::task::{Context, Poll};

use ratebox_db::Committed;
use tower::{Layer, Service};

use crate::handler::{Delivery, Failure, Handled, Route};

pub use count::Count;
pub use once::Once;
pub use results::SqlResults;
pub use timeout::Timeout;
pub use trace::Trace;

/// The rest of the way to the handler.
pub struct Next(Route);

/// What a layer does with a message before and after the rest of its way.
pub trait Middleware: Clone + Send + Sync + 'static {
    /// Runs around [`Next::run`].
    fn handle(&self, delivery: Delivery, next: Next) -> impl Future<Output = Handled> + Send;
}

/// A layer made of a function.
///
/// ```
/// use ratebox_stream::handler::{Delivery, Failure, NoEffects, Router};
/// use ratebox_stream::layers::{Next, from_fn};
///
/// async fn ping() -> NoEffects { NoEffects }
///
/// let only_ours = from_fn(|delivery: Delivery, next: Next| async move {
///     match delivery.meta.header("source") {
///         Some("shop") => next.run(delivery).await,
///         _ => Err(Failure::dead("source.foreign", "not sent by the shop")),
///     }
/// });
/// let router = Router::new().on("ping", ping).layer(only_ours);
/// ```
pub fn from_fn<F, Fut>(function: F) -> FromFn<F>
where
    F: Fn(Delivery, Next) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Handled> + Send,
{
    FromFn(function)
}

/// A function as a layer: [`from_fn`].
#[derive(Clone, Copy, Debug)]
pub struct FromFn<F>(F);

/// A handler with a layer around it.
#[derive(Clone)]
pub struct Wrapped<M> {
    middleware: M,
    next: Route,
}

// === impl Next ===

impl Next {
    /// Goes on to the handler, and comes back with what became of the message.
    ///
    /// # Errors
    /// The handler's failure.
    pub async fn run(self, delivery: Delivery) -> Handled {
        self.0.run(delivery).await
    }
}

impl<F, Fut> Middleware for FromFn<F>
where
    F: Fn(Delivery, Next) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Handled> + Send,
{
    async fn handle(&self, delivery: Delivery, next: Next) -> Handled {
        (self.0)(delivery, next).await
    }
}

// === impl Wrapped ===

impl<M: Middleware> Service<Delivery> for Wrapped<M> {
    type Response = Committed;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Handled> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // The rest of the way is waited for when it is gone.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let (middleware, next) = (self.middleware.clone(), Next(self.next.clone()));
        Box::pin(async move { middleware.handle(delivery, next).await })
    }
}

macro_rules! layers {
    ($($layer:ident $(<$parameter:ident>)?)*) => {
        $(
            impl$(<$parameter>)? Layer<Route> for $layer$(<$parameter>)?
            where
                Self: Middleware,
            {
                type Service = Wrapped<Self>;

                fn layer(&self, next: Route) -> Wrapped<Self> {
                    let middleware = self.clone();
                    Wrapped { middleware, next }
                }
            }
        )*
    };
}

layers!(Count Once Timeout Trace FromFn<F>);
