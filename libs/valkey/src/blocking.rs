//! Connections of their own: for reads that block, and for a caller that sends much.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::Stopwatch;
use redis::{Cmd, Pipeline, Value};

use crate::cluster::{HOPS_MAX, Plan, Redirect};
use crate::home::Home;
use crate::link::DIAL_PAUSE;
use crate::settings::Address;
use crate::source::{Dialled, Source};
use crate::wire::{Connection, Replies, Reply, Requests};
use crate::{Error, answered};

/// What a blocking read may take beyond its own wait before the connection is given up. The
/// server may have handed out entries by then, so it must be generous.
pub(crate) const BLOCKING_GRACE: Duration = Duration::from_secs(5);

/// Connections of their own, for one caller at a time: reads that block (`XREADGROUP … BLOCK`,
/// `XREAD … BLOCK`), or much traffic. On a cluster, one to each node that was asked.
///
/// A read that blocks owns its connection, and its answer must not be given up early: the server
/// hands out entries with it. The answer may therefore take the block time and five seconds more.
pub struct Blocking {
    way: Way,
}

enum Way {
    /// One server, or the primary that Sentinels name.
    One(Box<Wire>),
    /// A cluster.
    Cluster(Box<Wires>),
}

/// One connection that dials again by itself.
struct Wire {
    source: Source,
    connect_timeout: Duration,
    connection: Option<Dialled<Connection>>,
    failures: u32,
    not_before: Duration,
    last_error: Option<Error>,
    running: Stopwatch,
}

/// Connections to the nodes of a cluster, dialled when first used.
struct Wires {
    plan: Arc<Plan>,
    wires: HashMap<Arc<Address>, Wire>,
}

// === impl Blocking ===

impl Blocking {
    pub(crate) fn to(source: Source, connect_timeout: Duration) -> Self {
        Self {
            way: Way::One(Box::new(Wire::new(source, connect_timeout))),
        }
    }

    pub(crate) fn to_cluster(plan: Arc<Plan>) -> Self {
        let wires = HashMap::new();
        Self {
            way: Way::Cluster(Box::new(Wires { plan, wires })),
        }
    }

    /// Sends commands in one go and returns the reply to each, in order. They may block up to
    /// `block` together. When the future is dropped before the replies, the connection is dropped
    /// with it, so that the next command does not queue behind.
    ///
    /// On a cluster the first key says which node is asked; keys of one call should lie in one
    /// slot. A command that was redirected is sent on, after the others.
    ///
    /// # Errors
    /// After [`Error::Connection`] or [`Error::Timeout`] entries may have been handed out that
    /// nobody saw.
    pub async fn exchange(
        &mut self,
        requests: &Requests,
        block: Duration,
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let timeout = block + BLOCKING_GRACE;
        match &mut self.way {
            Way::One(wire) => {
                wire.exchange(requests.bytes(), requests.len(), timeout)
                    .await
            }
            Way::Cluster(wires) => wires.exchange(requests, timeout).await,
        }
    }

    /// Runs one command that blocks up to `block`; otherwise as [`Blocking::exchange`].
    ///
    /// # Errors
    /// As [`Blocking::exchange`].
    pub async fn query(&mut self, cmd: &Cmd, block: Duration) -> Result<Value, Error> {
        let mut requests = Requests::new();
        requests.add(cmd);
        let reply = self.exchange(&requests, block).await?.pop();
        value(reply.unwrap_or_else(|| Err(Error::answer("one reply"))))
    }

    /// Sends commands that do not block; otherwise as [`Blocking::exchange`].
    ///
    /// # Errors
    /// As [`Blocking::exchange`].
    pub async fn pipeline(&mut self, pipe: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let mut requests = Requests::new();
        for cmd in pipe.cmd_iter() {
            requests.add(cmd);
        }
        let replies = self.exchange(&requests, Duration::ZERO).await?;
        Ok(replies.into_iter().map(value).collect())
    }
}

fn value(reply: Result<Reply, Error>) -> Result<Value, Error> {
    let value = redis::parse_redis_value(reply?.bytes());
    answered(value.map_err(|_| Error::answer("the reply does not parse"))?)
}

// === impl Wire ===

impl Wire {
    fn new(source: Source, connect_timeout: Duration) -> Self {
        Self {
            source,
            connect_timeout,
            connection: None,
            failures: 0,
            not_before: Duration::ZERO,
            last_error: None,
            running: Stopwatch::start(),
        }
    }

    async fn exchange(
        &mut self,
        commands: &[u8],
        count: usize,
        timeout: Duration,
    ) -> Result<Replies, Error> {
        // Taken out: whatever ends early leaves no connection with half a reply in it.
        let quiet = self
            .connection
            .take_if(|(connection, _)| connection.is_quiet());
        self.connection = None;
        let (mut connection, home) = match quiet {
            Some(dialled) => dialled,
            None => self.dial().await?,
        };
        let exchange = connection.exchange(commands, count);
        let exchange = tokio::time::timeout(timeout, exchange);
        // A read that blocks is quiet until its end.
        let block = timeout.saturating_sub(BLOCKING_GRACE);
        let Ok(replies) = Home::while_kept(home.as_deref(), block, exchange).await? else {
            return Err(Error::Timeout { waited: timeout });
        };
        let replies = replies?;
        let demoted = |reply: &Result<Reply, Error>| reply.as_ref().is_err_and(Error::is_demotion);
        if !replies.iter().any(demoted) {
            self.connection = Some((connection, home));
        }
        Ok(replies)
    }

    /// Dials, unless the last try failed just now.
    async fn dial(&mut self) -> Result<Dialled<Connection>, Error> {
        if let Some(error) = &self.last_error
            && self.running.elapsed() < self.not_before
        {
            return Err(error.clone());
        }
        match self.source.dial_wire(self.connect_timeout).await {
            Ok(dialled) => {
                (self.failures, self.last_error) = (0, None);
                Ok(dialled)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = self.running.elapsed() + DIAL_PAUSE.bound(self.failures);
                self.last_error = Some(error.clone());
                Err(error)
            }
        }
    }
}

// === impl Wires ===

impl Wires {
    async fn exchange(&mut self, requests: &Requests, timeout: Duration) -> Result<Replies, Error> {
        let home = self.plan.owners().await?.of(requests.slot())?;
        let (bytes, count) = (requests.bytes(), requests.len());
        let replies = self.ask(&home, bytes, count, timeout).await;
        let mut replies = self.learned(replies)?;
        for (index, reply) in replies.iter_mut().enumerate() {
            if reply.is_err() {
                let refused = std::mem::replace(reply, Err(Error::NoGroup));
                let command = requests.only(index);
                *reply = self.follow(&home, command, refused, timeout).await;
            }
        }
        Ok(replies)
    }

    /// Goes where the server says that the key is.
    async fn follow(
        &mut self,
        asked: &Arc<Address>,
        command: &[u8],
        mut reply: Result<Reply, Error>,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let mut asked = Arc::clone(asked);
        for _ in 0..HOPS_MAX {
            let redirect = match &reply {
                Err(error) => Redirect::read(error, &asked),
                Ok(_) => None,
            };
            match redirect {
                None => return self.learned(reply),
                Some(Redirect::Moved(node)) => {
                    self.plan.outdated();
                    asked = Arc::new(node);
                    reply = last(self.ask(&asked, command, 1, timeout).await);
                }
                Some(Redirect::Ask(node)) => {
                    asked = Arc::new(node);
                    let asking = [b"*1\r\n$6\r\nASKING\r\n", command].concat();
                    reply = last(self.ask(&asked, &asking, 2, timeout).await);
                }
            }
        }
        Err(Error::Unavailable {
            code: "MOVED".to_owned(),
        })
    }

    async fn ask(
        &mut self,
        node: &Arc<Address>,
        commands: &[u8],
        count: usize,
        timeout: Duration,
    ) -> Result<Replies, Error> {
        if !self.wires.contains_key(node) {
            let source = Source::at(self.plan.dialer().at(node)?);
            let wire = Wire::new(source, self.plan.connect_timeout());
            // Nodes that have left are forgotten.
            let owners = self.plan.known();
            self.wires
                .retain(|node, _| owners.primaries().contains(node));
            self.wires.insert(Arc::clone(node), wire);
        }
        match self.wires.get_mut(node) {
            Some(wire) => wire.exchange(commands, count, timeout).await,
            None => Err(Error::answer("a node that was added just now")),
        }
    }

    /// An error after which the slots may be elsewhere.
    fn learned<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().is_err_and(Error::may_have_moved) {
            self.plan.outdated();
        }
        result
    }
}

fn last(replies: Result<Replies, Error>) -> Result<Reply, Error> {
    let last = replies?.pop();
    last.unwrap_or_else(|| Err(Error::answer("one reply")))
}
