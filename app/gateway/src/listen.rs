//! The accept loop: connections up to a cap, and a calm end.
//!
//! `axum::serve` has neither deadlines nor a cap, so this is our own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ratebox_kit::{Shutdown, Stopwatch, Tasks, Trouble, open_files};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::{Door, dismiss};
use crate::service::Service;
use crate::settings::ListenSettings;
use crate::{refusal, stats};

/// File descriptors that are left for all but clients: store, bus, logs, listeners. It is what the
/// server asks the system for beside its clients; were it more, nobody would get `connections_max`.
const OTHER_FILES: usize = 200;
/// Refused connections that are read out at once, so that clients see why; of more, those that still
/// write may not. They take of the descriptors that are left.
const LEAVING_MAX: usize = 32;
/// After an accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the system says when the process, or the whole machine, has no file descriptor left: `EMFILE`
/// and `ENFILE`, the same numbers on every Unix.
const NO_DESCRIPTORS: [i32; 2] = [24, 23];
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
    mut settings: ListenSettings,
    mut shutdown: Shutdown,
) {
    settings.connections_max = room(settings.connections_max, open_files::allow(0));
    let (closing, seen) = watch::channel(false);
    let door = Door::new(service, settings.clone(), seen);
    // Connections are owned by this set, which is owned by this task.
    let mut connections = JoinSet::new();
    let mut leaving = JoinSet::new();
    let mut refused = Refused::of(&listener);
    let close = async {
        shutdown.wait().await;
        tokio::time::sleep(settings.close_after).await;
    };
    tokio::pin!(close);
    loop {
        tokio::select! {
            () = &mut close => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    refused.ended();
                    let full = admit(stream, peer, &door, &settings, &mut connections);
                    if let Some(stream) = full && leaving.len() < LEAVING_MAX {
                        leaving.spawn(dismiss(stream));
                    }
                }
                Err(error) => refused.rest(&error).await,
            },
            Some(ended) = connections.join_next() => after(ended),
            Some(_) = leaving.join_next() => {}
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

/// Connections at once, where so many files may be open. What the system does not let us accept
/// waits unanswered; with some descriptors left, it is accepted and told to come again.
fn room(connections_max: usize, open_files_max: Option<u64>) -> usize {
    let Some(files) = open_files_max else {
        return connections_max;
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    // Of very few, half.
    connections_max.min(files - OTHER_FILES.min(files / 2))
}

/// Serves a connection, or says that there is no room and gives it back.
fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    door: &Door<impl Service>,
    settings: &ListenSettings,
    connections: &mut JoinSet<()>,
) -> Option<TcpStream> {
    if connections.len() >= settings.connections_max {
        stats::connection_closed("full");
        // It fits into the empty buffer of a new connection, or it is not worth a wait.
        let _ = stream.try_write(&refusal::full());
        return Some(stream);
    }
    connections.spawn(door.clone().serve(stream, peer));
    stats::connection_opened();
    None
}

fn after(ended: Result<(), tokio::task::JoinError>) {
    stats::connection_ended();
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection panicked");
    }
}

/// Connections that the system does not hand over: what the log is told of them.
struct Refused {
    /// The address, for the log.
    listen: String,
    began: Stopwatch,
    trouble: Trouble,
}

// === impl Refused ===

impl Refused {
    fn of(listener: &TcpListener) -> Self {
        let listen = listener.local_addr();
        Self {
            listen: listen.map_or_else(|_| String::new(), |listen| listen.to_string()),
            began: Stopwatch::start(),
            trouble: Trouble::default(),
        }
    }

    /// Connections that were reset before they were accepted are nobody's concern; anything else
    /// would come again at once.
    async fn rest(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if !matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset
        ) {
            self.note(error, self.began.elapsed());
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// Tells the log now and then, for it comes again ten times a second. True when it was told.
    fn note(&mut self, error: &io::Error, now: Duration) -> bool {
        let Some(spell) = self.trouble.failed(now) else {
            return false;
        };
        let (failures, listen) = (spell.failures, self.listen.as_str());
        tracing::error!(%error, listen, failures, "connections cannot be accepted{}", advice(error));
        true
    }

    /// One was accepted.
    fn ended(&mut self) {
        if self.trouble.row() > 0
            && let Some(spell) = self.trouble.ended(self.began.elapsed())
        {
            let (listen, lasted_s) = (self.listen.as_str(), spell.lasted.as_secs());
            tracing::info!(listen, lasted_s, "connections are accepted again");
        }
    }
}

/// What somebody can do about it.
fn advice(error: &io::Error) -> &'static str {
    let code = error.raw_os_error();
    if code.is_some_and(|code| NO_DESCRIPTORS.contains(&code)) {
        ": no file descriptor is free; raise the limit (LimitNOFILE= of systemd, `ulimit -n`), or \
         lower gateway.connections_max"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        for (connections_max, files, served) in [
            (10_000, None, 10_000),
            (10_000, Some(1 << 20), 10_000),
            (10_000, Some(10_200), 10_000),
            (10_000, Some(1_024), 824),
            (10_000, Some(250), 125),
            (100, Some(250), 100),
            (3, Some(0), 0),
        ] {
            assert_eq!(room(connections_max, files), served, "{files:?}");
        }
    }

    #[tokio::test]
    async fn without_file_descriptors_the_log_is_told_once_a_minute_and_what_to_do() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut refused = Refused::of(&listener);
        let error = io::Error::from_raw_os_error(NO_DESCRIPTORS[0]);
        let told = (0..=1_200_u32).filter(|tenth| refused.note(&error, ACCEPT_PAUSE * *tenth));
        assert_eq!(told.count(), 3, "in two minutes");
        assert!(advice(&error).contains("LimitNOFILE"));
        let other = io::Error::from_raw_os_error(12);
        assert!(advice(&other).is_empty(), "memory is another matter");
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_before_is_told_to_nobody() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut refused = Refused::of(&listener);
        refused.rest(&io::ErrorKind::ConnectionReset.into()).await;
        assert_eq!(refused.trouble.row(), 0);
    }
}
