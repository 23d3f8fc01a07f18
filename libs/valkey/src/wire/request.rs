//! Commands as they stand on the wire.

use ratebox_kit::Decimal;
use redis::Cmd;

use crate::slot;

/// Commands to be sent in one go. They are no transaction: one may fail and the next succeed.
///
/// Can be cleared and filled again, which keeps its buffers.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
    commands: Vec<Command>,
    /// The words of the command being written.
    words: Vec<u8>,
}

/// Where a command ends, and the slot of its first key.
#[derive(Clone, Copy, Debug)]
struct Command {
    end: usize,
    slot: Option<u16>,
}

/// The words of one command.
#[derive(Debug)]
pub struct Words<'a> {
    bytes: &'a mut Vec<u8>,
    count: u64,
    slot: Option<u16>,
}

// === impl Requests ===

impl Requests {
    /// No commands yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command: its name and the words that `write` adds.
    pub fn command(&mut self, name: &str, write: impl FnOnce(&mut Words<'_>)) {
        self.words.clear();
        let mut words = Words {
            bytes: &mut self.words,
            count: 0,
            slot: None,
        };
        words.word(name);
        write(&mut words);
        let (count, slot) = (words.count, words.slot);
        header(&mut self.bytes, b'*', count);
        self.bytes.extend_from_slice(&self.words);
        self.ended(slot);
    }

    /// Adds a command of the `redis` crate.
    pub fn add(&mut self, cmd: &Cmd) {
        self.bytes.extend_from_slice(&cmd.get_packed_command());
        self.ended(slot::of(cmd));
    }

    fn ended(&mut self, slot: Option<u16>) {
        self.commands.push(Command {
            end: self.bytes.len(),
            slot,
        });
    }

    /// Takes all commands out again.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands.clear();
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Their bytes on the wire.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The slot of the first key in any of them.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.commands.iter().find_map(|command| command.slot)
    }

    /// One of the commands.
    pub(crate) fn only(&self, index: usize) -> &[u8] {
        let end = |at: usize| self.commands.get(at).map_or(0, |command| command.end);
        let start = index.checked_sub(1).map_or(0, end);
        self.bytes.get(start..end(index)).unwrap_or_default()
    }
}

// === impl Words ===

impl Words<'_> {
    /// A word of any bytes.
    pub fn word(&mut self, word: impl AsRef<[u8]>) -> &mut Self {
        let word = word.as_ref();
        header(self.bytes, b'$', word.len() as u64);
        self.bytes.extend_from_slice(word);
        self.bytes.extend_from_slice(b"\r\n");
        self.count += 1;
        self
    }

    /// A word that is a key. On a cluster, the first one says which node is asked.
    pub fn key(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        let key = key.as_ref();
        self.slot = self.slot.or_else(|| Some(slot::of_key(key)));
        self.word(key)
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.word(Decimal::of(number).as_bytes())
    }

    /// Two numbers with a dash between them: an entry id.
    pub fn pair(&mut self, first: u64, second: u64) -> &mut Self {
        let (first, second) = (Decimal::of(first), Decimal::of(second));
        let (first, second) = (first.as_bytes(), second.as_bytes());
        header(self.bytes, b'$', (first.len() + 1 + second.len()) as u64);
        self.bytes.extend_from_slice(first);
        self.bytes.push(b'-');
        self.bytes.extend_from_slice(second);
        self.bytes.extend_from_slice(b"\r\n");
        self.count += 1;
        self
    }
}

fn header(bytes: &mut Vec<u8>, kind: u8, count: u64) {
    bytes.push(kind);
    bytes.extend_from_slice(Decimal::of(count).as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_the_protocol_says() {
        let mut requests = Requests::new();
        requests.command("XACK", |words| {
            words.key("s").word("g").pair(0, u64::MAX).number(17);
        });
        let mut cmd = redis::cmd("XACK");
        cmd.arg("s").arg("g").arg(format!("0-{}", u64::MAX)).arg(17);
        assert_eq!(requests.bytes(), cmd.get_packed_command());
        requests.add(&cmd);
        requests.command("PING", |_| {});
        assert_eq!(requests.only(0), requests.only(1));
        assert_eq!(requests.only(2), b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(requests.only(3), b"");
        assert_eq!(requests.slot(), Some(slot::of_key(b"s")));
        requests.clear();
        assert!(requests.is_empty() && requests.bytes().is_empty());
    }
}
