//! The way to a server: TCP, TCP with TLS, or a socket file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::tls::{Encrypted, Trust};
use crate::Error;
use crate::settings::Address;

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// There, in plain text.
    Plain(Address),
    /// There, with TLS; the certificate must carry this name.
    Tls(Address, String),
    /// On this machine.
    File(PathBuf),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<Encrypted>),
    File(UnixStream),
}

// === impl Socket ===

impl Socket {
    pub(super) async fn open(place: &Place, trust: &Trust) -> Result<Self, Error> {
        match place {
            Place::Plain(address) => Ok(Self::Plain(tcp(address).await?)),
            Place::Tls(address, name) => {
                let tcp = tcp(address).await?;
                let encrypted = Encrypted::greet(tcp, name, trust).await?;
                Ok(Self::Tls(Box::new(encrypted)))
            }
            Place::File(path) => Ok(Self::File(file(path).await?)),
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes).await,
            Self::Tls(encrypted) => encrypted.write_all(bytes).await,
            Self::File(file) => file.write_all(bytes).await,
        }
    }

    /// Appends what comes next; 0 at the end.
    pub(super) async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read_buf(into).await,
            Self::Tls(encrypted) => encrypted.read(into).await,
            Self::File(file) => file.read_buf(into).await,
        }
    }

    /// Whether nothing came that nobody asked for, and nobody hung up.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let seen = match self {
            Self::Plain(tcp) => tcp.try_read(&mut byte),
            Self::Tls(encrypted) => return encrypted.is_quiet(),
            Self::File(file) => file.try_read(&mut byte),
        };
        seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Tries the addresses of a host one after the other.
async fn tcp(address: &Address) -> Result<TcpStream, Error> {
    let dialled = TcpStream::connect((address.host.as_str(), address.port)).await;
    let tcp = dialled.map_err(|error| Error::from_io(&error))?;
    tcp.set_nodelay(true)
        .map_err(|error| Error::from_io(&error))?;
    Ok(tcp)
}

async fn file(path: &Path) -> Result<UnixStream, Error> {
    let dialled = UnixStream::connect(path).await;
    dialled.map_err(|error| Error::from_io(&error))
}
