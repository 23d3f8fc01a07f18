//! A Redis or Valkey server of one's own, that can be killed, frozen and brought back.

mod cluster;
mod resp;
mod sentinels;

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use cluster::{RedisCluster, Replicas};
pub use resp::read_reply;
pub use sentinels::WatchedRedis;

use crate::process::{Ending, Process};
use crate::wait::block_until;
use crate::{Certificates, TempDir, free_port, small_disk, tools};

/// Time for a server to answer after its start; loading a large file takes a while.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Time for a server to write its files and end.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// When the append-only file reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before every answer.
    Always,
    /// Once a second, the usual choice in the field.
    EverySecond,
    /// No append-only file at all: a restart forgets everything.
    NoFile,
}

/// Whether clients of a TLS port must prove who they are by a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsClients {
    /// They must.
    NeedCertificate,
    /// One that is shown is checked.
    MayShowOne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Redis,
    Redis8,
    Valkey,
}

/// How to start a server. The default: Redis, append-only file synced every second, no snapshots.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    flavour: Flavour,
    fsync: Fsync,
    settings: Vec<(String, String)>,
    tls: bool,
    disk_bytes: Option<u64>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            flavour: Flavour::Redis,
            fsync: Fsync::EverySecond,
            settings: Vec::new(),
            tls: false,
            disk_bytes: None,
        }
    }
}

impl RedisOptions {
    /// A Redis 8 server, with the commands for streams that came after 7.0.
    pub fn redis_8() -> Self {
        Self {
            flavour: Flavour::Redis8,
            ..Self::default()
        }
    }

    /// A Valkey server in place of a Redis one.
    pub fn valkey() -> Self {
        Self {
            flavour: Flavour::Valkey,
            ..Self::default()
        }
    }

    /// When writes reach the disk.
    #[must_use]
    pub fn fsync(mut self, fsync: Fsync) -> Self {
        self.fsync = fsync;
        self
    }

    /// Any setting of redis.conf, such as `maxmemory-policy`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A TLS port beside the plain one, with the server's certificate of `certificates`. Clients
    /// must show one of the same CA when `clients` says so.
    #[must_use]
    pub fn tls(mut self, certificates: &Certificates, clients: TlsClients) -> Self {
        self.tls = true;
        let path = |name: &str| certificates.path(name).display().to_string();
        let clients = match clients {
            TlsClients::NeedCertificate => "yes",
            TlsClients::MayShowOne => "optional",
        };
        self.set("tls-cert-file", &path("server.pem"))
            .set("tls-key-file", &path("server.key"))
            .set("tls-ca-cert-file", &path("ca.pem"))
            .set("tls-auth-clients", clients)
    }

    /// Its files on a disk of their own of so many bytes, which ends with the process. See
    /// [`RedisServer::fill_disk`]. Needs `unshare`, as root or where users may have name spaces.
    #[must_use]
    pub fn small_disk(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls
    }

    /// The command line, but for port and folder.
    fn arguments(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (file, fsync) = match self.fsync {
            Fsync::Always => ("yes", "always"),
            Fsync::EverySecond => ("yes", "everysec"),
            Fsync::NoFile => ("no", "no"),
        };
        let mut arguments = vec![
            pair("bind", "127.0.0.1"),
            pair("daemonize", "no"),
            pair("save", ""),
            pair("appendonly", file),
            pair("appendfsync", fsync),
            pair("enable-debug-command", "local"),
        ];
        arguments.extend(self.settings.iter().cloned());
        arguments
    }
}

/// A running server on a loopback port of its own; gone on drop, with its data.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisOptions,
    port: u16,
    tls_port: Option<u16>,
    process: Option<Process>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When the program is missing (the message says what to install) or does not answer in 20 s.
    pub fn start(options: RedisOptions) -> Result<Self> {
        let mut server = Self {
            port: free_port(),
            tls_port: options.has_tls().then(free_port),
            options,
            process: None,
            folder: TempDir::new()?,
        };
        server.launch()?;
        Ok(server)
    }

    /// Starts a server for many tests, which is never restarted: without a file that could hold it up.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_shared(options: RedisOptions) -> Result<Self> {
        Self::start(options.fsync(Fsync::NoFile))
    }

    /// The Redis that all tests of this process share: the one of `RATEBOX_TEST_REDIS_URL`, else
    /// one that is started on the first call. Use [`crate::unique_name`] for keys.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn shared() -> Result<&'static SharedRedis> {
        static SHARED: OnceLock<Result<SharedRedis, String>> = OnceLock::new();
        SharedRedis::once(&SHARED, "RATEBOX_TEST_REDIS_URL", RedisOptions::default())
    }

    /// The Valkey that all tests of this process share: the one of `RATEBOX_TEST_VALKEY_URL`, else
    /// one that is started on the first call.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn shared_valkey() -> Result<&'static SharedRedis> {
        static SHARED: OnceLock<Result<SharedRedis, String>> = OnceLock::new();
        SharedRedis::once(&SHARED, "RATEBOX_TEST_VALKEY_URL", RedisOptions::valkey())
    }

    /// The Redis 8 that all tests of this process share: the one of `RATEBOX_TEST_REDIS8_URL`, else
    /// one that is started on the first call.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn shared_redis_8() -> Result<&'static SharedRedis> {
        static SHARED: OnceLock<Result<SharedRedis, String>> = OnceLock::new();
        SharedRedis::once(&SHARED, "RATEBOX_TEST_REDIS8_URL", RedisOptions::redis_8())
    }

    /// Its address, `redis://127.0.0.1:PORT`; the same after a restart.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its address for TLS on a host name, `rediss://HOST:PORT`.
    ///
    /// # Panics
    /// When it was started without TLS.
    pub fn tls_url(&self, host: &str) -> String {
        let port = self.tls_port.expect("the server was started with TLS");
        format!("rediss://{host}:{port}")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its port for TLS, if it was started with one.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// Its process id, or `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Sends one command and returns the answer: a number, a text, a list or null.
    ///
    /// # Errors
    /// When the server is down or answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<Value> {
        resp::command(self.port, words)
    }

    /// Kills the server with -9. What was not on disk yet is lost, as after a crash of the process.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Ends the server in good order.
    ///
    /// # Errors
    /// When it does not end within 20 s.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM")?;
            process.wait(STOP_DEADLINE)?;
        }
        Ok(())
    }

    /// Starts the server again on its port and its data, after ending it if it still runs.
    ///
    /// # Errors
    /// When it does not end or does not answer.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Puts another server in its place, on its port and without its data, as a failover to an
    /// older version that had replicated nothing.
    ///
    /// # Errors
    /// When the old one does not end or the new one does not answer.
    pub fn replace(&mut self, options: RedisOptions) -> Result<()> {
        self.stop()?;
        self.folder = TempDir::new()?;
        self.options = options;
        self.launch()
    }

    /// Freezes the server: connections stay open, nothing is answered.
    ///
    /// # Errors
    /// When it is down.
    pub fn pause(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the server is down")?
            .signal("STOP")
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it is down.
    pub fn resume(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the server is down")?
            .signal("CONT")
    }

    /// Fills its small disk to the last byte.
    ///
    /// # Errors
    /// When it is down or has none.
    pub fn fill_disk(&self) -> Result<()> {
        let pid = self.pid().context("the server is down")?;
        self.options.disk_bytes.context("it has no small disk")?;
        small_disk::fill(pid, self.folder.path())
    }

    /// Makes room on it again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty_disk(&self) -> Result<()> {
        let pid = self.pid().context("the server is down")?;
        small_disk::empty(pid, self.folder.path())
    }

    /// What the server wrote to its log.
    pub fn logs(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn launch(&mut self) -> Result<()> {
        let program = match self.options.flavour {
            Flavour::Redis => tools::redis_server()?,
            Flavour::Redis8 => tools::redis_8_server()?,
            Flavour::Valkey if self.options.has_tls() => tools::valkey_tls_server()?,
            Flavour::Valkey => tools::valkey_server()?,
        };
        let mut command = match self.options.disk_bytes {
            Some(bytes) => small_disk::on_small_disk(&program, bytes, self.folder.path())?,
            None => Command::new(program),
        };
        command
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.folder.path());
        if let Some(port) = self.tls_port {
            command.args(["--tls-port", &port.to_string()]);
        }
        for (name, value) in self.options.arguments() {
            command.arg(format!("--{name}")).arg(value);
        }
        let ending = Ending {
            signal: "KILL",
            remove: Some(self.folder.path()),
        };
        let mut process = Process::spawn(&mut command, &self.folder.join("log"), ending)?;
        let port = self.port;
        let answered = block_until(START_DEADLINE, || {
            process.exited().is_some() || resp::is_up(port)
        });
        if !answered || process.exited().is_some() {
            bail!(
                "the server on port {} did not start:\n{}",
                self.port,
                process.logs()
            );
        }
        self.process = Some(process);
        Ok(())
    }
}

/// A server that many tests use at once; it is neither stopped nor emptied between them.
#[derive(Debug)]
pub struct SharedRedis {
    url: String,
    _own: Option<RedisServer>,
}

impl SharedRedis {
    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends one command and returns the answer.
    ///
    /// # Errors
    /// When the server is down or answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<Value> {
        let port = self
            .url
            .rsplit(':')
            .next()
            .and_then(|rest| rest.split('/').next());
        let port = port
            .and_then(|port| port.parse().ok())
            .context("the address has no port")?;
        resp::command(port, words)
    }

    fn once(
        cell: &'static OnceLock<Result<SharedRedis, String>>,
        variable: &str,
        options: RedisOptions,
    ) -> Result<&'static SharedRedis> {
        let shared = cell.get_or_init(|| {
            if let Ok(url) = std::env::var(variable) {
                return Ok(SharedRedis { url, _own: None });
            }
            let own = RedisServer::start_shared(options).map_err(|error| format!("{error:#}"))?;
            Ok(SharedRedis {
                url: own.url(),
                _own: Some(own),
            })
        });
        shared
            .as_ref()
            .map_err(|message| anyhow::anyhow!("{message}"))
    }
}

/// The loopback address of a port.
fn address(port: u16) -> std::net::SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
