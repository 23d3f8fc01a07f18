//! What goes wrong by chance while clients are at work.

use std::collections::BTreeMap;
use std::time::Duration;

use ratebox_testkit::{RedisServer, TcpProxy};

const MS: Duration = Duration::from_millis(1);

/// A server behind one breakable link for each process, and how often it was broken in which way.
pub(super) struct Faults {
    pub(super) server: RedisServer,
    pub(super) links: Vec<TcpProxy>,
    pub(super) chance: fastrand::Rng,
    pub(super) done: BTreeMap<&'static str, usize>,
}

// === impl Faults ===

impl Faults {
    /// Breaks things until it is dropped; [`Faults::end`] mends them.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::time::sleep(MS * u32::from(self.chance.u16(30..300))).await;
            let what = match self.chance.u8(0..20) {
                0..6 => self.cut().await,
                6..9 => self.silence().await,
                9..13 => self.kill_connections(),
                13..17 => self.freeze().await,
                17..19 => self.flush(),
                _ => self.restart_empty().await,
            };
            *self.done.entry(what).or_default() += 1;
        }
    }

    /// A link is reset and stays down.
    async fn cut(&mut self) -> &'static str {
        let link = self.chance.usize(0..self.links.len());
        self.links[link].cut();
        tokio::time::sleep(MS * u32::from(self.chance.u8(1..200))).await;
        self.links[link].resume();
        "link cut"
    }

    /// A link carries nothing for a while, then what it held back.
    async fn silence(&mut self) -> &'static str {
        let link = self.chance.usize(0..self.links.len());
        self.links[link].black_hole();
        tokio::time::sleep(MS * u32::from(self.chance.u16(50..1_000))).await;
        self.links[link].resume();
        "link silent"
    }

    /// The server closes every connection.
    fn kill_connections(&self) -> &'static str {
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        let _ = self.server.command(&kill);
        "connections killed"
    }

    /// The server stops, longer than leases live or not, and goes on.
    async fn freeze(&mut self) -> &'static str {
        self.server.pause().unwrap();
        tokio::time::sleep(MS * u32::from(self.chance.u16(10..700))).await;
        self.server.resume().unwrap();
        "server frozen"
    }

    /// Somebody removes everything.
    fn flush(&self) -> &'static str {
        let _ = self.server.command(&["FLUSHALL"]);
        "server flushed"
    }

    /// The server is killed and comes back with nothing.
    async fn restart_empty(&mut self) -> &'static str {
        self.server.kill9();
        tokio::time::sleep(MS * u32::from(self.chance.u16(10..400))).await;
        self.server.restart().unwrap();
        "server killed, back empty"
    }

    /// Mends what is broken still.
    pub(super) fn end(&mut self) {
        for link in &self.links {
            link.resume();
        }
        match self.server.pid() {
            Some(_) => self.server.resume().unwrap(),
            None => self.server.restart().unwrap(),
        }
    }
}
