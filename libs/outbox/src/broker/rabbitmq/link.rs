//! A connection to RabbitMQ and the channel on it.
//!
//! lapin sets no limit to a handshake: its thread waits for ever for a server that takes the connection
//! and says nothing. So the socket of an attempt that is given up is shut down, which ends the thread.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::tcp::{AMQPUriTcpExt as _, AsyncTcpStream};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus};

/// How long a connection that is given up may take for its goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// Code of a calm end (AMQP 0-9-1, "reply-success").
const CALM: u16 = 200;

/// A connection and its channel, which confirms.
pub(super) struct Link {
    connection: Connection,
    pub(super) channel: Channel,
}

// === impl Link ===

impl Link {
    /// Connects; nothing is left behind of what takes longer than `limit`, or is dropped.
    pub(super) async fn open(uri: AMQPUri, limit: Duration) -> Result<Self, lapin::Error> {
        let connection = connect(uri, limit).await?;
        match open(&connection).await {
            Ok(channel) => Ok(Self {
                connection,
                channel,
            }),
            Err(error) => {
                close(&connection).await;
                Err(error)
            }
        }
    }

    /// Whether it takes messages; the broker may have ended the channel, which is then replaced.
    pub(super) async fn is_ready(&mut self) -> bool {
        if !self.connection.status().connected() {
            return false;
        }
        if self.channel.status().connected() {
            return true;
        }
        // The numbers of channels that the broker ended are used up in time: only another connection
        // has new ones.
        let Ok(channel) = open(&self.connection).await else {
            return false;
        };
        self.channel = channel;
        true
    }

    pub(super) fn status(&self) -> &ConnectionStatus {
        self.connection.status()
    }

    /// Says goodbye, for a moment at most.
    pub(super) async fn close(self) {
        close(&self.connection).await;
    }
}

async fn close(connection: &Connection) {
    let closing = connection.close(CALM, "OK".into());
    let _ = tokio::time::timeout(GOODBYE, closing).await;
}

async fn open(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

async fn connect(uri: AMQPUri, limit: Duration) -> Result<Connection, lapin::Error> {
    let attempt = Arc::new(Mutex::new(Attempt::default()));
    let given_up = GivenUp(Arc::clone(&attempt));
    let runtime = lapin::runtime::default_runtime()?;
    let options = ConnectionProperties::default().with_connection_name("ratebox-outbox".into());
    let connecting = Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            let dialled = tokio::time::timeout(limit, uri.connect_async(&runtime)).await;
            let stream = dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if let AsyncTcpStream::Plain(plain) = &stream {
                let socket = plain.get_ref().as_fd().try_clone_to_owned()?;
                begin(&attempt, socket.into())?;
            }
            Ok::<_, lapin::Error>(stream)
        },
        options,
    );
    let connection = Box::pin(connecting).await?;
    given_up.not();
    Ok(connection)
}

/// The socket of an attempt, once there is one.
#[derive(Default)]
struct Attempt {
    socket: Option<TcpStream>,
    is_over: bool,
}

/// Notes the socket, unless nobody waits for it any more.
fn begin(attempt: &Mutex<Attempt>, socket: TcpStream) -> io::Result<()> {
    let mut attempt = attempt.lock().unwrap_or_else(PoisonError::into_inner);
    if attempt.is_over {
        return Err(io::ErrorKind::TimedOut.into());
    }
    attempt.socket = Some(socket);
    Ok(())
}

/// Shuts the socket down when it is dropped before the attempt came to its end.
struct GivenUp(Arc<Mutex<Attempt>>);

// === impl GivenUp ===

impl GivenUp {
    /// The connection is there: nothing is shut down.
    fn not(self) {
        let mut attempt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempt.socket = None;
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        let mut attempt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempt.is_over = true;
        if let Some(socket) = attempt.socket.take() {
            // The other side may have been quicker.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
