//! One connection: hyper's HTTP/1 on a followed socket, with a watchdog beside it.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::pulse::Pulse;
use crate::settings::ListenSettings;
use crate::socket::Socket;
use crate::stats;

/// The smallest buffer that hyper allows is 8 KiB.
const HEAD_MIN_BYTES: usize = 8 * 1024;
/// Unread input of a refused request is read out for this long, so that the client gets to see
/// its answer.
const LINGER: Duration = Duration::from_secs(1);
/// And at most so much of it.
const LINGER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The address at the other end of the connection. A proxy's header is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What all connections of a listener share.
#[derive(Clone)]
pub(crate) struct Door {
    router: Router,
    settings: Arc<ListenSettings>,
    http: http1::Builder,
    /// How often the watchdog looks: a quarter of the shortest deadline.
    look_every: Duration,
    /// True once connections are to end after the request that they are at.
    closing: watch::Receiver<bool>,
}

impl Door {
    pub(crate) fn new(
        router: Router,
        settings: ListenSettings,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let head_max = settings.head_max_bytes.max(HEAD_MIN_BYTES);
        let mut http = http1::Builder::new();
        // The watchdog does what hyper's header timeout does, without a timer a request.
        http.header_read_timeout(None)
            .max_header_size(head_max)
            .max_buf_size(head_max.max(64 * 1024))
            // Answers are small: one buffer and one plain write are cheaper than two pieces.
            .writev(false);
        let shortest = [
            settings.first_byte_timeout,
            settings.head_timeout,
            settings.body_timeout,
            settings.idle_timeout,
            settings.write_timeout,
        ];
        let shortest = shortest.into_iter().min().unwrap_or(Duration::from_secs(4));
        Self {
            router,
            settings: Arc::new(settings),
            http,
            look_every: (shortest / 4).max(Duration::from_millis(5)),
            closing,
        }
    }

    /// Serves a connection until it ends, is overdue, or the process stops and its request is
    /// answered.
    pub(crate) async fn serve(mut self, stream: TcpStream, peer: SocketAddr) {
        let pulse = Arc::new(Pulse::new());
        // Answers are small and complete: waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream, self.settings.head_max_bytes, Arc::clone(&pulse));
        let service = Handler {
            router: self.router,
            peer: Peer(peer),
            pulse: Arc::clone(&pulse),
        };
        let mut connection = Box::pin(self.http.serve_connection(TokioIo::new(socket), service));
        let mut look = tokio::time::interval(self.look_every);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended with an error");
                    }
                    break;
                }
                // An error means that the listener is gone, which is a stop as well.
                _ = self.closing.wait_for(|closing| *closing), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = look.tick() => if let Some(overdue) = pulse.overdue(&self.settings) {
                    stats::connection_closed(overdue.as_str());
                    return;
                }
            }
        }
        drop(connection);
        if let Some(stream) = pulse.leftover() {
            let _ = tokio::time::timeout(LINGER, read_out(stream)).await;
        }
    }
}

/// Says that nothing more will be written, and reads until the client has seen it.
async fn read_out(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut scratch = [0; 8 * 1024];
    let mut total = 0;
    while total < LINGER_MAX_BYTES {
        match stream.read(&mut scratch).await? {
            0 => break,
            read => total += read,
        }
    }
    Ok(())
}

/// The router, for the requests of one connection.
struct Handler {
    router: Router,
    peer: Peer,
    pulse: Arc<Pulse>,
}

/// Marks the connection as busy until it is dropped.
struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

impl Service<Request<Incoming>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.pulse.set_busy(true);
        let busy = Busy(Arc::clone(&self.pulse));
        request.extensions_mut().insert(self.peer);
        let answer = tower::Service::call(&mut self.router.clone(), request);
        Box::pin(async move {
            let _busy = busy;
            answer.await
        })
    }
}
