//! A connection that only listens: notifications need one of their own.

use std::future::poll_fn;

use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};

use crate::{Error, Result};

/// Hears the notifications of one channel of PostgreSQL.
pub struct Listener {
    /// Its end would end the connection.
    _client: Client,
    connection: Connection<Socket, NoTlsStream>,
}

impl Listener {
    pub(super) async fn open(config: &Config, channel: &str) -> Result<Self> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let text = format!("LISTEN {channel}");
        {
            let mut listen = std::pin::pin!(client.batch_execute(&text));
            loop {
                tokio::select! {
                    done = &mut listen => break done?,
                    // The connection works only while it is polled.
                    heard = heard(&mut connection) => drop(heard?),
                }
            }
        }
        Ok(Self {
            _client: client,
            connection,
        })
    }

    /// Waits for the next notification. Cancel-safe.
    ///
    /// # Errors
    /// When the link broke; listen anew.
    pub async fn next(&mut self) -> Result<()> {
        while !heard(&mut self.connection).await? {}
        Ok(())
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// Waits for a message; true when it is a notification.
async fn heard(connection: &mut Connection<Socket, NoTlsStream>) -> Result<bool> {
    match poll_fn(|context| connection.poll_message(context)).await {
        Some(message) => Ok(matches!(message?, AsyncMessage::Notification(_))),
        None => Err(Error::Connection {
            what: "PostgreSQL ended the connection that listens".to_owned(),
        }),
    }
}
