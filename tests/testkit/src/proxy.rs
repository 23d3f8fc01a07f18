//! A proxy on loopback that breaks connections in the ways that networks do.
//!
//! It runs on a thread of its own, so that it keeps working while a test blocks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::free_port;

/// Connections carried at once; one more is refused.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes carried at once in one direction of one connection.
const CHUNK: usize = 16 * 1024;

/// What the proxy does with bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Carries everything.
    Forward,
    /// Carries every piece this much later.
    Delay(Duration),
    /// Takes connections and bytes, and carries nothing.
    BlackHole,
    /// Carries what clients send, and holds what servers answer.
    Mute,
    /// Resets what is open and everything new.
    Cut,
    /// The proxy goes away.
    End,
}

/// Who sends the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Mode {
    /// Whether what this side says goes no further.
    fn holds(self, speaker: Side) -> bool {
        match self {
            Self::BlackHole | Self::Cut => true,
            Self::Mute => speaker == Side::Server,
            Self::Forward | Self::Delay(_) | Self::End => false,
        }
    }
}

/// A proxy in front of one server. Stays in the way it was told to behave until told otherwise.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    mode: watch::Sender<Mode>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl TcpProxy {
    /// Starts a proxy to a port on loopback.
    ///
    /// # Errors
    /// When the thread or the listener cannot be made.
    pub fn to(target_port: u16) -> Result<Self> {
        let port = free_port();
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let (mode, told) = watch::channel(Mode::Forward);
        let open = Arc::new(AtomicUsize::new(0));
        let carried = Carried {
            target: (Ipv4Addr::LOCALHOST, target_port).into(),
            told,
            open: open.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(serve(listener, carried)))?;
        Ok(Self {
            port,
            mode,
            open,
            thread: Some(thread),
        })
    }

    /// The port to connect to in place of the server's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `url` with its port replaced by the proxy's, be it a Redis URL or a PostgreSQL address.
    pub fn url(&self, url: &str) -> String {
        let Some((head, tail)) = url.rsplit_once(':') else {
            return url.to_owned();
        };
        let rest = tail.trim_start_matches(|letter: char| letter.is_ascii_digit());
        format!("{head}:{}{rest}", self.port)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Resets all connections (RST) and every new one until [`TcpProxy::resume`].
    pub fn cut(&self) {
        self.tell(Mode::Cut);
    }

    /// Resets all connections; new ones work at once.
    pub fn cut_once(&self) {
        self.tell(Mode::Cut);
        crate::wait::block_until(Duration::from_secs(5), || self.open() == 0);
        self.tell(Mode::Forward);
    }

    /// Swallows everything: connections stay open and silent, as behind a firewall that drops.
    pub fn black_hole(&self) {
        self.tell(Mode::BlackHole);
    }

    /// Carries what clients send, and holds what servers answer: what is asked for is done, and
    /// nobody hears of it.
    pub fn mute(&self) {
        self.tell(Mode::Mute);
    }

    /// Carries every piece later by `by`, in each direction.
    pub fn delay(&self, by: Duration) {
        self.tell(Mode::Delay(by));
    }

    /// Carries everything again. What was held is delivered, as by a network that comes back.
    pub fn resume(&self) {
        self.tell(Mode::Forward);
    }

    fn tell(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.tell(Mode::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What every connection needs to know.
#[derive(Clone)]
struct Carried {
    target: SocketAddr,
    told: watch::Receiver<Mode>,
    open: Arc<AtomicUsize>,
}

async fn serve(listener: StdListener, carried: Carried) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut end = carried.told.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if *carried.told.borrow() == Mode::Cut || connections.len() >= CONNECTIONS_MAX {
                    reset(&client);
                } else {
                    connections.spawn(carry(client, carried.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = end.wait_for(|mode| *mode == Mode::End) => return,
        }
    }
}

/// Carries one connection until an end closes it or it is cut.
async fn carry(client: TcpStream, carried: Carried) {
    carried.open.fetch_add(1, Ordering::SeqCst);
    carry_open(client, &carried).await;
    carried.open.fetch_sub(1, Ordering::SeqCst);
}

async fn carry_open(mut client: TcpStream, carried: &Carried) {
    let mut told = carried.told.clone();
    let Ok(mut server) = TcpStream::connect(carried.target).await else {
        reset(&client);
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (client_in, client_out) = client.split();
    let (server_in, server_out) = server.split();
    let both = async {
        tokio::join!(
            pump(Side::Client, client_in, server_out, carried.told.clone()),
            pump(Side::Server, server_in, client_out, carried.told.clone())
        )
    };
    let was_cut = tokio::select! {
        _ = both => false,
        _ = told.wait_for(|mode| matches!(mode, Mode::Cut | Mode::End)) => true,
    };
    if was_cut {
        reset(&client);
        reset(&server);
    }
}

/// Carries one direction until it ends.
async fn pump(
    speaker: Side,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut told: watch::Receiver<Mode>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let mode = told
            .wait_for(|mode| !mode.holds(speaker))
            .await
            .map(|mode| *mode);
        match mode {
            Ok(Mode::Delay(by)) => tokio::time::sleep(by).await,
            Ok(_) => {}
            Err(_) => return,
        }
        if to
            .write_all(chunk.get(..read).unwrap_or_default())
            .await
            .is_err()
        {
            break;
        }
    }
    // An orderly end travels on as one; the other direction may still have something to carry.
    let _ = to.shutdown().await;
}

/// Makes the stream end in a reset instead of an orderly close as soon as it is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
