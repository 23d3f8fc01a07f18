//! One connection: hyper's HTTP/1 on a followed socket, with a watchdog beside it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::pulse::Pulse;
use crate::service::Service;
use crate::settings::ListenSettings;
use crate::socket::Socket;
use crate::stats;

/// The smallest buffer that hyper allows is 8 KiB.
const HEAD_MIN_BYTES: usize = 8 * 1024;
/// Unread input of a refused request is read out for this long, so that a client which writes all
/// of it before it reads gets to see its answer.
const LINGER: Duration = Duration::from_secs(5);
/// A client that sends nothing for this long has seen it.
const LINGER_PAUSE: Duration = Duration::from_secs(1);
/// And at most so much is read: 16 times the longest body that is taken unless told otherwise.
const LINGER_MAX_BYTES: usize = 32 * 1024 * 1024;
/// In pieces of this size.
const LINGER_PIECE_BYTES: usize = 64 * 1024;

/// What all connections of a listener share.
pub(crate) struct Door<S> {
    service: Arc<S>,
    settings: Arc<ListenSettings>,
    http: http1::Builder,
    /// How often the watchdog looks: a quarter of the shortest deadline.
    look_every: Duration,
    /// True once connections are to end after the request that they are at.
    closing: watch::Receiver<bool>,
}

// A derive would ask it of the service as well.
impl<S> Clone for Door<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            settings: Arc::clone(&self.settings),
            http: self.http.clone(),
            look_every: self.look_every,
            closing: self.closing.clone(),
        }
    }
}

impl<S: Service> Door<S> {
    pub(crate) fn new(
        service: S,
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
            service: Arc::new(service),
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
        // One count for all that a request needs: it is this connection's own, and no other
        // thread's cache line.
        let visit = Arc::new((self.service, Arc::clone(&pulse)));
        let service = service_fn(move |request| {
            let visit = Arc::clone(&visit);
            async move {
                let (service, pulse) = &*visit;
                let _busy = pulse.busy();
                Ok::<_, Infallible>(service.answer(request, peer).await)
            }
        });
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
            dismiss(stream).await;
        }
    }
}

/// Lets a client that still writes see what it was told.
pub(crate) async fn dismiss(stream: TcpStream) {
    let _ = tokio::time::timeout(LINGER, read_out(stream)).await;
}

/// Says that nothing more will be written, and reads until the client has seen it.
async fn read_out(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut scratch = vec![0; LINGER_PIECE_BYTES];
    let mut total = 0;
    while total < LINGER_MAX_BYTES {
        let piece = tokio::time::timeout(LINGER_PAUSE, stream.read(&mut scratch));
        match piece.await {
            Ok(Ok(read)) if read > 0 => total += read,
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => break,
        }
    }
    Ok(())
}
