//! One plain connection to Redis: pipelines for preloading, and small questions that cost the
//! server next to nothing while a measurement runs. Blocks the thread.

use std::io::{BufReader, BufWriter, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ratebox_testkit::read_reply;
use serde_json::Value;

/// Longer than any answer takes, a whole flush included.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to the server on a port of this machine.
#[derive(Debug)]
pub(crate) struct Resp {
    from: BufReader<TcpStream>,
    to: BufWriter<TcpStream>,
}

impl Resp {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("no server on port {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Self {
            from: BufReader::with_capacity(1 << 16, stream.try_clone()?),
            to: BufWriter::with_capacity(1 << 16, stream),
        })
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// With the server's words when it refuses.
    pub(crate) fn command(&mut self, words: &[&str]) -> Result<Value> {
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.send(&bytes)?;
        self.answer()
    }

    /// Writes a command without waiting; read its answer later with [`Resp::answer`].
    pub(crate) fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        write!(self.to, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.to, "${}\r\n", word.len())?;
            self.to.write_all(word)?;
            self.to.write_all(b"\r\n")?;
        }
        Ok(())
    }

    /// Reads the next answer, after handing over what was sent.
    pub(crate) fn answer(&mut self) -> Result<Value> {
        self.to.flush()?;
        read_reply(&mut self.from)
    }

    /// How many entries were ever added to a stream; 0 where there is none.
    pub(crate) fn entries_added(&mut self, stream: &str) -> Result<u64> {
        match self.command(&["XINFO", "STREAM", stream]) {
            Ok(info) => Ok(number(&info, "entries-added")),
            Err(error) if error.to_string().contains("no such key") => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The state of the only group on a stream; `None` while there is no group.
    pub(crate) fn group(&mut self, stream: &str) -> Result<Option<Group>> {
        let groups = match self.command(&["XINFO", "GROUPS", stream]) {
            Ok(groups) => groups,
            Err(error) if error.to_string().contains("no such key") => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(groups.get(0).map(|group| Group {
            started: text(group, "last-delivered-id") != "0-0",
            pending: number(group, "pending"),
            read: number(group, "entries-read"),
            lag: number(group, "lag"),
        }))
    }

    /// How often the server has made a copy of itself, to rewrite its file.
    pub(crate) fn forks(&mut self) -> Result<u64> {
        let forks = self.info("stats", "total_forks")?;
        forks.parse().context("total_forks is no number")
    }

    /// One line of the answer to INFO.
    pub(crate) fn info(&mut self, section: &str, key: &str) -> Result<String> {
        let info = self.command(&["INFO", section])?;
        let lines = info.as_str().unwrap_or_default().lines();
        let found = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == key);
        Ok(found.map_or(String::new(), |(_, value)| value.trim().to_owned()))
    }
}

/// How far a consumer group is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    /// Something was delivered.
    pub(crate) started: bool,
    pub(crate) pending: u64,
    pub(crate) read: u64,
    pub(crate) lag: u64,
}

/// The value that follows a name in a flat list.
fn field<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let list = list.as_array()?;
    let at = list.iter().step_by(2).position(|key| key == name)?;
    list.get(at * 2 + 1)
}

fn number(list: &Value, name: &str) -> u64 {
    field(list, name).and_then(Value::as_u64).unwrap_or(0)
}

fn text<'a>(list: &'a Value, name: &str) -> &'a str {
    field(list, name).and_then(Value::as_str).unwrap_or("0-0")
}
