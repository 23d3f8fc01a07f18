//! Which groups nobody reads any more: they hold a stream's entries for ever.
//!
//! A group is abandoned when it is owed something and for a given time no member of it was seen
//! and nothing moved in it. A server does not remember when a group moved last, so whoever looks
//! regularly keeps a [`GroupWatch`]; what it has not watched for so long it does not judge.

use std::collections::HashMap;
use std::time::Duration;

use ratebox_kit::Timestamp;

use crate::{EntryId, GroupInfo, GroupName, StreamInfo, StreamName};

/// Watches groups over time.
#[derive(Debug, Default)]
pub struct GroupWatch {
    seen: HashMap<(StreamName, GroupName), Seen>,
}

/// How a group stood when it moved last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    last_delivered: EntryId,
    pending: u64,
    since: Timestamp,
}

// === impl GroupInfo ===

impl GroupInfo {
    /// Whether the group has something to do: pending entries, or entries that it never read.
    pub fn is_owed(&self, stream: &StreamInfo) -> bool {
        let unread = self
            .lag
            .unwrap_or(u64::from(self.last_delivered < stream.last));
        self.pending > 0 || (unread > 0 && stream.length > 0)
    }

    /// How long ago any member was seen; `None` when there is none.
    pub fn idle(&self) -> Option<Duration> {
        self.consumers.iter().map(|member| member.idle).min()
    }
}

// === impl GroupWatch ===

impl GroupWatch {
    /// Looks at a stream; returns the groups that are abandoned for `after`, by name.
    pub fn look(
        &mut self,
        name: &StreamName,
        stream: &StreamInfo,
        now: Timestamp,
        after: Duration,
    ) -> Vec<GroupName> {
        let is_here = |group: &GroupName| stream.groups.iter().any(|it| it.name == *group);
        self.seen
            .retain(|(of, group), _| of != name || is_here(group));
        let groups = stream.groups.iter();
        let abandoned = groups.filter(|group| {
            let still = self.still_for(name, group, now);
            let is_alone = group.idle().is_none_or(|idle| idle >= after);
            group.is_owed(stream) && is_alone && still >= after
        });
        let mut abandoned: Vec<GroupName> = abandoned.map(|group| group.name.clone()).collect();
        abandoned.sort();
        abandoned
    }

    /// For how long the group has not moved, as far as is known.
    fn still_for(&mut self, stream: &StreamName, group: &GroupInfo, now: Timestamp) -> Duration {
        let key = (stream.clone(), group.name.clone());
        let seen = self.seen.entry(key).or_insert(Seen {
            last_delivered: group.last_delivered,
            pending: group.pending,
            since: now,
        });
        if seen.last_delivered != group.last_delivered || seen.pending != group.pending {
            *seen = Seen {
                last_delivered: group.last_delivered,
                pending: group.pending,
                since: now,
            };
        }
        let still = now.duration_since(seen.since);
        still.try_into().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConsumerInfo, ConsumerName};

    const HOUR: Duration = Duration::from_secs(3600);

    fn stream(groups: Vec<GroupInfo>) -> StreamInfo {
        StreamInfo {
            length: 9,
            appended: 9,
            first: Some(EntryId::new(1, 0)),
            last: EntryId::new(9, 0),
            groups,
        }
    }

    fn group(name: &str, last: u64, members: &[Duration]) -> GroupInfo {
        let member = |idle: &Duration| ConsumerInfo {
            name: ConsumerName::new("c"),
            pending: 0,
            idle: *idle,
        };
        GroupInfo {
            name: GroupName::new(name),
            last_delivered: EntryId::new(last, 0),
            pending: 0,
            oldest_pending: None,
            lag: Some(9 - last),
            consumers: members.iter().map(member).collect(),
        }
    }

    #[test]
    fn only_a_group_that_is_owed_and_still_and_alone_is_abandoned() {
        let (mut watch, name) = (GroupWatch::default(), StreamName::new("s"));
        let groups = || {
            vec![
                group("left", 3, &[HOUR * 2]),
                group("never-read", 0, &[]),
                group("busy", 3, &[Duration::ZERO]),
                group("done", 9, &[]),
            ]
        };
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let mut look = |groups, hours| {
            let names = watch.look(&name, &stream(groups), start + HOUR * hours, HOUR);
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(look(groups(), 0).is_empty(), "it was not watched yet");
        assert_eq!(look(groups(), 1), ["left", "never-read"]);
        let mut moved = groups();
        moved[0].last_delivered = EntryId::new(4, 0);
        assert_eq!(look(moved.clone(), 2), ["never-read"]);
        assert_eq!(look(moved, 3), ["left", "never-read"]);
    }

    #[test]
    fn a_group_that_was_made_anew_is_watched_anew() {
        let (mut watch, name) = (GroupWatch::default(), StreamName::new("s"));
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let one = || stream(vec![group("g", 3, &[])]);
        watch.look(&name, &one(), start, HOUR);
        watch.look(&name, &stream(Vec::new()), start + HOUR, HOUR);
        assert!(watch.look(&name, &one(), start + HOUR, HOUR).is_empty());
    }
}
