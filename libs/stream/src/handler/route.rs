//! A handler as a tower service, so that layers fit around it.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ratebox_db::Committed;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt as _};

use super::{Delivery, Failure, Handled, HandlerFn, IntoFailure};

/// A handler behind its layers: what [`tower::Layer`]s are put around.
#[derive(Clone)]
pub struct Route(BoxCloneSyncService<Delivery, Committed, Failure>);

type Working = Pin<Box<dyn Future<Output = Handled> + Send>>;

// === impl Route ===

impl Route {
    pub(crate) fn new<H, Args, S>(handler: H, state: Arc<S>) -> Self
    where
        H: HandlerFn<Args, S>,
        Args: 'static,
        S: Send + Sync + 'static,
    {
        Self(BoxCloneSyncService::new(Function {
            handler,
            state,
            _args: PhantomData,
        }))
    }

    pub(crate) fn layered<L>(self, layer: &L) -> Self
    where
        L: Layer<Self>,
        L::Service: Service<Delivery, Response = Committed> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
        <L::Service as Service<Delivery>>::Error: IntoFailure + 'static,
    {
        let service = layer.layer(self);
        Self(BoxCloneSyncService::new(
            service.map_err(IntoFailure::into_failure),
        ))
    }

    /// Waits until the layers let it through, then runs the handler.
    pub(crate) async fn run(&self, delivery: Delivery) -> Handled {
        self.0.clone().oneshot(delivery).await
    }
}

impl Service<Delivery> for Route {
    type Response = Committed;
    type Error = Failure;
    type Future = Working;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> Working {
        self.0.call(delivery)
    }
}

/// A function and its state.
struct Function<H, Args, S> {
    handler: H,
    state: Arc<S>,
    _args: PhantomData<fn(Args)>,
}

impl<H: Clone, Args, S> Clone for Function<H, Args, S> {
    fn clone(&self) -> Self {
        Self {
            handler: self.handler.clone(),
            state: Arc::clone(&self.state),
            _args: PhantomData,
        }
    }
}

impl<H, Args, S> Service<Delivery> for Function<H, Args, S>
where
    H: HandlerFn<Args, S>,
    Args: 'static,
    S: Send + Sync + 'static,
{
    type Response = Committed;
    type Error = Failure;
    type Future = Working;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Working {
        let (handler, state) = (self.handler.clone(), Arc::clone(&self.state));
        Box::pin(async move { handler.call(delivery, state).await })
    }
}
