//! The nodes of the correctness cases, from outside: a process with caches (`node.rs`), and a handle
//! to each of them.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::node::{self, NO_TAG};
use crate::servers::Servers;

/// Who waits for which answer.
type Asked = HashMap<u64, oneshot::Sender<String>>;

/// A process with one cache or more. It ends when this is dropped.
pub(super) struct Process {
    child: Child,
    input: Mutex<ChildStdin>,
    asked: Arc<Mutex<Asked>>,
    next: AtomicU64,
    nodes: usize,
}

/// One cache of a process.
#[derive(Clone, Copy)]
pub(super) struct Seat<'a> {
    process: &'a Process,
    node: usize,
}

/// What a node has counted since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) fills_refused: u64,
    /// Loads that began before a change and ended after it was acknowledged.
    pub(super) outrun: u64,
    /// Reads that found nothing and saw to a load.
    pub(super) misses: u64,
    /// Reads that found nothing and waited for the load of another read.
    pub(super) joined: u64,
    pub(super) loads: u64,
}

/// Where the caches are, and where the rows behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Urls<'a> {
    pub(super) rows: &'a str,
    pub(super) tier: &'a str,
}

// === impl Urls ===

impl<'a> Urls<'a> {
    /// Both on the server itself.
    pub(super) fn direct(servers: &'a Servers) -> Self {
        let url = servers.redis_url.as_str();
        Self {
            rows: url,
            tier: url,
        }
    }
}

// === impl Figures ===

impl Figures {
    /// Those of two nodes together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            fills_refused: self.fills_refused + other.fills_refused,
            outrun: self.outrun + other.outrun,
            misses: self.misses + other.misses,
            joined: self.joined + other.joined,
            loads: self.loads + other.loads,
        }
    }
}

// === impl Process ===

impl Process {
    /// Starts one with so many caches, and waits until all of them hear the server.
    pub(super) async fn start(urls: Urls<'_>, nodes: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([node::WORD, urls.rows, urls.tier, &nodes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a node does not start")?;
        let input = child.stdin.take().context("a node has an input")?;
        let output = child.stdout.take().context("a node has an output")?;
        let asked: Arc<Mutex<Asked>> = Arc::default();
        let answered = Arc::clone(&asked);
        std::thread::spawn(move || hand_out(output, &answered));
        let process = Self {
            child,
            input: Mutex::new(input),
            asked,
            next: AtomicU64::new(0),
            nodes,
        };
        try_join_all(process.seats().map(|seat| seat.hear(true))).await?;
        Ok(process)
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = Seat<'_>> {
        (0..self.nodes).map(|node| Seat {
            process: self,
            node,
        })
    }

    /// Its only cache.
    pub(super) fn seat(&self) -> Seat<'_> {
        Seat {
            process: self,
            node: 0,
        }
    }

    async fn ask(&self, what: &str) -> Result<String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.asked).insert(id, answer);
        writeln!(lock(&self.input), "{id} {what}").context("a node is gone")?;
        let answer = answered.await.context("a node is gone")?;
        match answer.strip_prefix('!') {
            Some(error) => bail!("a node: {what}: {error}"),
            None => Ok(answer),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Gives each answer to who waits for it, until the process ends.
fn hand_out(output: ChildStdout, asked: &Mutex<Asked>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let (id, answer) = line.split_once(' ').unwrap_or((&line, ""));
        let asker = id.parse().ok().and_then(|id| lock(asked).remove(&id));
        if let Some(asker) = asker {
            // Who asked may have given up.
            let _ = asker.send(answer.to_owned());
        }
    }
    // Who still waits is told that the process is gone.
    lock(asked).clear();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}

// === impl Seat ===

impl Seat<'_> {
    /// Reads through the cache; a load takes so long once it has read the row.
    pub(super) async fn read(self, key: &str, takes_ms: u32) -> Result<u64> {
        self.ask(&format!("read {key} {takes_ms} {NO_TAG}")).await
    }

    /// The same of a row whose entry carries a tag, which only the load tells.
    pub(super) async fn read_tagged(self, key: &str, tag: &str) -> Result<u64> {
        self.ask(&format!("read {key} 0 {tag}")).await
    }

    /// Writes the next version of the row and invalidates its entry; answers the version.
    pub(super) async fn write(self, key: &str) -> Result<u64> {
        self.ask(&format!("write {key}")).await
    }

    /// Writes the next version of the row and invalidates the tag; answers the version.
    pub(super) async fn write_tagged(self, key: &str, tag: &str) -> Result<u64> {
        self.ask(&format!("tag {key} {tag}")).await
    }

    /// Reads until the value is in its process' memory.
    pub(super) async fn hold(self, key: &str, tag: &str) -> Result<u64> {
        self.ask(&format!("hold {key} {tag}")).await
    }

    /// Waits until the value is answered no longer.
    pub(super) async fn gone(self, key: &str) -> Result<()> {
        self.tell(&format!("gone {key}")).await
    }

    /// Waits until it hears changes, or knows that it does not.
    pub(super) async fn hear(self, whether: bool) -> Result<()> {
        self.tell(&format!("hear {whether}")).await
    }

    /// Reads all keys as soon as it hears changes.
    pub(super) async fn sweep(self, keys: &[String], tag: &str) -> Result<Vec<u64>> {
        let keys = keys.join(",");
        numbers(&self.text(&format!("sweep {keys} {tag}")).await?)
    }

    /// So many readers of one key at once.
    pub(super) async fn crowd(self, key: &str, readers: usize, takes_ms: u32) -> Result<()> {
        self.tell(&format!("crowd {key} {readers} {takes_ms}"))
            .await
    }

    pub(super) async fn figures(self) -> Result<Figures> {
        match numbers(&self.text("figures").await?)?.as_slice() {
            [fills_refused, outrun, misses, joined, loads] => Ok(Figures {
                fills_refused: *fills_refused,
                outrun: *outrun,
                misses: *misses,
                joined: *joined,
                loads: *loads,
            }),
            figures => bail!("a node has other figures: {figures:?}"),
        }
    }

    /// Whether both are the same cache.
    pub(super) fn is(self, other: Seat<'_>) -> bool {
        std::ptr::eq(self.process, other.process) && self.node == other.node
    }

    async fn ask(self, what: &str) -> Result<u64> {
        let answer = self.text(what).await?;
        u64::from_str(&answer).with_context(|| format!("{what}: {answer}"))
    }

    async fn tell(self, what: &str) -> Result<()> {
        self.text(what).await.map(drop)
    }

    async fn text(self, what: &str) -> Result<String> {
        self.process.ask(&format!("{} {what}", self.node)).await
    }
}

impl fmt::Display for Seat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cache {} of process {}",
            self.node,
            self.process.child.id()
        )
    }
}

fn numbers(text: &str) -> Result<Vec<u64>> {
    let numbers = text.split(',').map(u64::from_str);
    numbers
        .collect::<Result<_, _>>()
        .with_context(|| format!("no numbers: {text}"))
}
