//! TLS over a TCP connection that one caller uses at a time: it writes, then it reads.

use std::io::{self, BufRead as _, Read, Write};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;

use crate::Error;
use crate::settings::Tls;

/// Who is trusted and what is shown, read when it is first needed.
#[derive(Debug)]
pub(crate) struct Trust {
    tls: Tls,
    config: OnceLock<Result<Arc<ClientConfig>, Error>>,
}

/// An encrypted connection.
#[derive(Debug)]
pub(super) struct Encrypted {
    tcp: TcpStream,
    session: ClientConnection,
}

/// Reads and writes what can be without waiting.
struct Ready<'a>(&'a TcpStream);

// === impl Trust ===

impl Trust {
    pub(crate) fn new(tls: &Tls) -> Self {
        Self {
            tls: tls.clone(),
            config: OnceLock::new(),
        }
    }

    /// Whether the certificates and the key can be used, and fit.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let config = self
            .config
            .get_or_init(|| configure(&self.tls).map(Arc::new));
        config.clone()
    }
}

fn configure(tls: &Tls) -> Result<ClientConfig, Error> {
    let wrong = |what: &str| Error::Url {
        what: what.to_owned(),
    };
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|_| wrong("the CA is no valid PEM"))?;
                let added = roots.add(certificate);
                added.map_err(|_| wrong("the CA is no certificate"))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let Some(client) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(client.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| wrong("the client certificate is no valid PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(client.key.reveal().as_bytes());
    let key = key.map_err(|_| wrong("the key of the client certificate is no valid PEM"))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|_| wrong("the client certificate and its key do not fit"))
}

// === impl Encrypted ===

impl Encrypted {
    /// Greets the server and checks who it is.
    pub(super) async fn greet(tcp: TcpStream, name: &str, trust: &Trust) -> Result<Self, Error> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Error::Url {
            what: "the host is no name that a certificate can carry".to_owned(),
        })?;
        let session = ClientConnection::new(trust.config()?, name).map_err(|error| Error::Tls {
            what: error.to_string(),
        })?;
        let mut encrypted = Self { tcp, session };
        let greeted = encrypted.handshake().await;
        greeted.map_err(|error| Error::from_io(&error))?;
        Ok(encrypted)
    }

    async fn handshake(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            self.flush().await?;
            if self.session.is_handshaking() && self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush().await
    }

    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.session.writer().write(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            self.flush().await?;
        }
        Ok(())
    }

    /// Appends what comes next; 0 at the end.
    pub(super) async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        loop {
            if let Some(count) = self.take_plain(into)? {
                return Ok(count);
            }
            if self.fill().await? == 0 {
                return Ok(0);
            }
            self.flush().await?;
        }
    }

    /// Whether nothing came that nobody asked for, and nobody hung up.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self.session.read_tls(&mut Ready(&self.tcp)) {
            Ok(0) => false,
            // A ticket for the next time is no reason to hang up, but data is.
            Ok(_) => match self.session.process_new_packets() {
                Ok(state) => state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed(),
                Err(_) => false,
            },
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Moves what is decrypted already; `None` when there is nothing, and no end.
    fn take_plain(&mut self, into: &mut BytesMut) -> io::Result<Option<usize>> {
        let mut reader = self.session.reader();
        let mut taken = 0;
        loop {
            match reader.fill_buf() {
                Ok([]) => return Ok(Some(taken)),
                Ok(plain) => {
                    let count = plain.len();
                    into.extend_from_slice(plain);
                    reader.consume(count);
                    taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((taken > 0).then_some(taken));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Ready(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes and decrypts what comes next; 0 at the end of the connection.
    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.session.read_tls(&mut Ready(&self.tcp)) {
                Ok(count) => {
                    if let Err(error) = self.session.process_new_packets() {
                        // Tells the other end why, if it still listens.
                        let _told = self.session.write_tls(&mut Ready(&self.tcp));
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

// === impl Ready ===

impl Read for Ready<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
