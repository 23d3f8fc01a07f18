//! The accept loop: connections up to a cap, and a calm end.
//!
//! `axum::serve` has neither deadlines nor a cap, so this is our own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ratebox_kit::{Shutdown, Tasks};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::Door;
use crate::service::Service;
use crate::settings::ListenSettings;
use crate::stats;

/// What a connection beyond the cap gets to read.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";
/// After an accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted. Linux allows no more than `net.core.somaxconn`, 4096 since
/// 5.4. The 128 of the standard library are full within a burst: Linux drops what comes then, and
/// the client asks again after a second, or is reset.
const BACKLOG: u32 = 4096;

/// Listens where [`serve`] accepts, with room for a burst of connections. Port 0 takes a free one.
///
/// # Errors
/// When the address is in use, or is not one of this machine.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A process that starts anew need not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `service` on `listener` in a task of `tasks` until the process is asked to stop; then
/// lets open requests end, for [`ListenSettings::drain`] at most.
///
/// The service is dropped at the end of the task. What a [`crate::Gateway`] does in the background
/// ends when its last router is gone.
pub fn serve(
    listener: TcpListener,
    service: impl Service,
    settings: ListenSettings,
    tasks: &Tasks,
) {
    let shutdown = tasks.shutdown();
    tasks.spawn(
        "gateway-listener",
        run(listener, service, settings, shutdown),
    );
}

async fn run(
    listener: TcpListener,
    service: impl Service,
    settings: ListenSettings,
    mut shutdown: Shutdown,
) {
    let (closing, seen) = watch::channel(false);
    let door = Door::new(service, settings.clone(), seen);
    // Connections are owned by this set, which is owned by this task.
    let mut connections = JoinSet::new();
    let close = async {
        shutdown.wait().await;
        tokio::time::sleep(settings.close_after).await;
    };
    tokio::pin!(close);
    loop {
        tokio::select! {
            () = &mut close => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(stream, peer, &door, &settings, &mut connections),
                Err(error) => rest(&error).await,
            },
            Some(ended) = connections.join_next() => after(ended),
        }
    }
    drop((listener, door));
    closing.send_replace(true);
    let drained = tokio::time::timeout(settings.drain, async {
        while let Some(ended) = connections.join_next().await {
            after(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "open requests were cut at the stop"
        );
        connections.shutdown().await;
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    door: &Door<impl Service>,
    settings: &ListenSettings,
    connections: &mut JoinSet<()>,
) {
    if connections.len() >= settings.connections_max {
        stats::connection_closed("full");
        // It fits into the empty buffer of a new connection, or it is not worth a wait.
        let _ = stream.try_write(FULL);
        return;
    }
    connections.spawn(door.clone().serve(stream, peer));
    stats::connection_opened();
}

fn after(ended: Result<(), tokio::task::JoinError>) {
    stats::connection_ended();
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection panicked");
    }
}

/// Connections that were reset before they were accepted are nobody's concern; anything else
/// would come again at once.
async fn rest(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        tracing::error!(%error, "connections cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
