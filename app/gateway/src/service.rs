//! What is served on a listener, as the connections see it.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::{Body, Incoming};

/// A response whose body is there as a whole: what all our routes answer.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// Answers requests. All connections of a listener share it.
pub trait Service: Send + Sync + 'static {
    /// The body of a response.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers one request of the client at `peer`. It is dropped unfinished when the client goes
    /// away.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = hyper::Response<Self::Body>> + Send;
}

/// For pages that are not worth a table of their own.
impl Service for axum::Router {
    type Body = axum::body::Body;

    async fn answer(
        &self,
        request: Request<Incoming>,
        _peer: SocketAddr,
    ) -> hyper::Response<Self::Body> {
        let answer: Result<_, Infallible> = tower::Service::call(&mut self.clone(), request).await;
        answer.unwrap_or_else(|never| match never {})
    }
}
