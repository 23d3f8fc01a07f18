//! One logical stream over several partitions, each a stream of its own with lanes and retries.
//!
//! The partition 3 of `validation_requests` is `{validation_requests:3}`: the braces are a hash
//! tag, so the partitions spread over the nodes of a cluster, and all that belongs to one of them
//! lives in one slot. A message with a key always goes to the same partition; others take turns.
//!
//! The count is part of the name of nothing, but it decides where a key goes. Change it only while
//! the stream is drained, or the order of a key may break once.

use std::sync::atomic::{AtomicU32, Ordering};

use ratebox_kit::Message;

use crate::{Append, Error, Lane, Lanes, StreamName, field};

/// Partitions of a stream at most. Each costs its owner one blocking connection and a lease.
pub const PARTITIONS_MAX: u32 = 256;

/// The partitions of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    base: StreamName,
    count: u32,
}

// === impl Partitions ===

impl Partitions {
    /// `count` partitions of `base`.
    ///
    /// # Errors
    /// [`Error::Refused`] when there are none or more than [`PARTITIONS_MAX`], or when the name
    /// has braces, which a partition's name adds.
    pub fn new(base: StreamName, count: u32) -> Result<Self, Error> {
        if count == 0 || count > PARTITIONS_MAX {
            let what = format!("a stream has 1 to {PARTITIONS_MAX} partitions, not {count}");
            return Err(Error::refused(what));
        }
        if base.as_str().contains(['{', '}']) {
            return Err(Error::refused(format!(
                "the partitioned stream {base} must have no braces in its name"
            )));
        }
        Ok(Self { base, count })
    }

    /// The name that they share.
    pub fn base(&self) -> &StreamName {
        &self.base
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The stream of a partition.
    pub fn stream(&self, partition: u32) -> StreamName {
        StreamName::new(format!("{{{}:{partition}}}", self.base))
    }

    /// The lanes of a partition.
    pub fn lanes(&self, partition: u32) -> Lanes {
        Lanes::of(&self.stream(partition))
    }

    /// Where messages with this key go: [`key_hash`] modulo the count.
    pub fn of_key(&self, key: &[u8]) -> u32 {
        u32::try_from(key_hash(key) % u64::from(self.count)).unwrap_or(0)
    }
}

/// FNV-1a with 64 bits: start at `0xcbf29ce484222325`; for each byte, exclusive-or it in, then
/// multiply by `0x100000001b3` modulo 2⁶⁴. It will not change, so producers in other languages may
/// compute it: the key `a` gives `0xaf63dc4c8601ec8c`, `foobar` gives `0x85944171f73967e8`.
pub fn key_hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Chooses a partition for each message of a producer.
#[derive(Debug)]
pub struct Chooser {
    partitions: Partitions,
    turn: AtomicU32,
}

// === impl Chooser ===

impl Chooser {
    /// Begins its rounds anywhere, so that many producers that just started do not all begin with
    /// the first partition.
    pub fn new(partitions: Partitions) -> Self {
        let start = ratebox_kit::id::random_bytes::<4>();
        Self {
            partitions,
            turn: AtomicU32::new(u32::from_le_bytes(start)),
        }
    }

    /// The partition of a message: by its header `key`, or the next in turn when it has none.
    pub fn choose(&self, message: &Message) -> u32 {
        match message.header(field::KEY) {
            Some(key) if !key.is_empty() => self.partitions.of_key(key.as_bytes()),
            Some(_) | None => self.turn.fetch_add(1, Ordering::Relaxed) % self.partitions.count,
        }
    }

    /// The message on its way to a lane of its partition.
    pub fn append(&self, lane: Lane, message: Message) -> Append {
        let partition = self.choose(&message);
        let stream = self.partitions.lanes(partition).stream(lane).clone();
        Append::new(stream, message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn eight() -> Partitions {
        Partitions::new(StreamName::new("s"), 8).unwrap()
    }

    #[test]
    fn a_partition_is_one_hash_tag_with_its_lanes_and_retries() {
        let lanes = eight().lanes(3);
        let names: Vec<_> = lanes.iter().map(|(_, name)| name.to_string()).collect();
        assert_eq!(names, ["{s:3}:high", "{s:3}", "{s:3}:low"]);
        assert_eq!(lanes.delayed().as_str(), "{s:3}:delayed");
    }

    #[test]
    fn the_hash_of_a_key_is_the_published_one() {
        assert_eq!(key_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(key_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(key_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_key_always_goes_to_one_partition_and_keys_spread() {
        let chooser = Chooser::new(eight());
        let of = |key: &str| chooser.choose(&Message::new("m", "").with_header("key", key));
        let keys: Vec<String> = (0..1_000).map(|number| format!("key-{number}")).collect();
        let mut counts = [0_usize; 8];
        for key in &keys {
            assert_eq!(of(key), of(key));
            counts[of(key) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (80..=175).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn messages_without_a_key_take_turns() {
        let chooser = Chooser::new(eight());
        let places: HashSet<u32> = (0..8)
            .map(|_| chooser.choose(&Message::new("m", "")))
            .collect();
        assert_eq!(places.len(), 8);
    }

    #[test]
    fn names_with_braces_and_foolish_counts_are_refused() {
        assert!(Partitions::new(StreamName::new("{s}"), 8).is_err());
        assert!(Partitions::new(StreamName::new("s"), 0).is_err());
        assert!(Partitions::new(StreamName::new("s"), PARTITIONS_MAX + 1).is_err());
    }
}
