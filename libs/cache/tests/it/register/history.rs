//! What clients did and saw, and the judge of it: no read may answer a version older than one whose
//! change was acknowledged before the read began, one that nobody had begun to write when the read
//! ended, or another key's.

use std::time::Duration;

/// One call of a client, between two moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) node: usize,
    pub(super) key: usize,
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) deed: Deed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The origin got a version, and the cache was told. Where it could not tell others, only the
    /// readers of its own process are owed it.
    Wrote {
        version: u64,
        others_told: bool,
        by: &'static str,
    },
    /// A reader got it. `of` is the key that the value says it belongs to.
    Read { version: u64, of: usize },
}

/// What the judge found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) reads: usize,
    pub(super) writes: usize,
    /// Reads older than a change that was acknowledged before they began.
    pub(super) stale: usize,
    /// Reads of what was not written yet, or belongs to another key.
    pub(super) invented: usize,
    /// One of those, in words.
    pub(super) example: Option<String>,
}

impl Findings {
    pub(super) fn wrong(&self) -> usize {
        self.stale + self.invented
    }
}

/// The newest version that was acknowledged until a moment.
#[derive(Default)]
struct Acknowledged(Vec<(Duration, u64)>);

impl Acknowledged {
    fn of(mut acknowledged: Vec<(Duration, u64)>) -> Self {
        acknowledged.sort_unstable();
        let mut newest = 0;
        for (_, version) in &mut acknowledged {
            newest = newest.max(*version);
            *version = newest;
        }
        Self(acknowledged)
    }

    fn before(&self, moment: Duration) -> u64 {
        let seen = self.0.partition_point(|(at, _)| *at < moment);
        seen.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// What is owed to the readers of one key.
struct Owed {
    /// To those of a process, by its own changes.
    own: Vec<Acknowledged>,
    /// By each process to all others.
    told: Vec<Acknowledged>,
    /// When the write of each version began; that of version 1 comes first.
    begun: Vec<Duration>,
}

impl Owed {
    fn of(calls: &[&Call], nodes: usize, begun: &[Duration]) -> Self {
        let by = |node: usize, to_others: bool| {
            let acknowledged = calls.iter().filter_map(|call| match call.deed {
                Deed::Wrote {
                    version,
                    others_told,
                    by: _,
                } if call.node == node && (others_told || !to_others) => {
                    Some((call.ended, version))
                }
                Deed::Wrote { .. } | Deed::Read { .. } => None,
            });
            Acknowledged::of(acknowledged.collect())
        };
        Self {
            own: (0..nodes).map(|node| by(node, false)).collect(),
            told: (0..nodes).map(|node| by(node, true)).collect(),
            begun: begun.to_vec(),
        }
    }

    /// The least version that a read by `node` which began then may answer.
    fn floor(&self, node: usize, began: Duration, heard_within: Duration) -> u64 {
        let floors = (0..self.own.len()).map(|writer| match writer == node {
            true => self.own[writer].before(began),
            false => {
                let by = began.checked_sub(heard_within).unwrap_or_default();
                self.told[writer].before(by)
            }
        });
        floors.max().unwrap_or(0)
    }

    /// Whether somebody had begun to write a version by then.
    fn is_begun(&self, version: u64, by: Duration) -> bool {
        let Some(before) = version.checked_sub(1) else {
            return true;
        };
        let begun = self.begun.get(usize::try_from(before).unwrap());
        begun.is_some_and(|begun| *begun <= by)
    }
}

/// Judges all calls; `begun` holds, for each key, when the write of each of its versions began.
/// Takes n log n steps.
pub(super) fn judge(
    calls: &[Call],
    nodes: usize,
    begun: &[Vec<Duration>],
    heard_within: Duration,
) -> Findings {
    let mut findings = Findings::default();
    let mut by_key: Vec<Vec<&Call>> = vec![Vec::new(); begun.len()];
    for call in calls {
        by_key[call.key].push(call);
    }
    for (calls, begun) in by_key.iter().zip(begun) {
        let owed = Owed::of(calls, nodes, begun);
        for call in calls {
            let Deed::Read { version, of } = call.deed else {
                findings.writes += 1;
                continue;
            };
            findings.reads += 1;
            let floor = owed.floor(call.node, call.began, heard_within);
            let is_stale = version < floor;
            let is_invented = of != call.key || !owed.is_begun(version, call.ended);
            findings.stale += usize::from(is_stale);
            findings.invented += usize::from(is_invented);
            if is_stale || is_invented {
                let tell = || tell(call, floor, calls);
                findings.example.get_or_insert_with(tell);
            }
        }
    }
    findings
}

/// A wrong read in words, with what was done to its key shortly before.
fn tell(read: &Call, floor: u64, calls: &[&Call]) -> String {
    let from = read.began.checked_sub(TOLD_BEFORE).unwrap_or_default();
    let near = |call: &&&Call| call.ended >= from && call.began <= read.ended;
    let mut before: Vec<_> = calls.iter().filter(near).collect();
    before.sort_by_key(|call| call.began);
    let mut text = format!("{read:?} was owed version {floor}; before it");
    for call in before {
        let (began, ended) = (call.began, call.ended);
        let line = format!(
            "\n  {began:?} to {ended:?} node {}: {:?}",
            call.node, call.deed
        );
        text.push_str(&line);
    }
    text
}

/// How much of the past is told with a wrong read.
const TOLD_BEFORE: Duration = Duration::from_millis(60);

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Duration = Duration::from_secs(5);

    fn call(node: usize, began: u64, ended: u64, deed: Deed) -> Call {
        Call {
            node,
            key: 0,
            began: Duration::from_secs(began),
            ended: Duration::from_secs(ended),
            deed,
        }
    }

    fn wrote(version: u64, others_told: bool) -> Deed {
        Deed::Wrote {
            version,
            others_told,
            by: "a test",
        }
    }

    fn read(version: u64) -> Deed {
        Deed::Read { version, of: 0 }
    }

    fn check(calls: &[Call], stale: usize, invented: usize) {
        let begun = [vec![Duration::from_secs(10), Duration::from_secs(20)]];
        let findings = judge(calls, 2, &begun, HEARD);
        assert_eq!((findings.stale, findings.invented), (stale, invented));
        assert_eq!(findings.example.is_some(), stale + invented > 0);
    }

    #[test]
    fn who_changed_is_owed_it_at_once_and_others_when_it_was_heard() {
        let writes = [
            call(0, 10, 11, wrote(1, true)),
            call(0, 20, 21, wrote(2, true)),
        ];
        let with = |node, began, version| {
            let read = call(node, began, began + 1, read(version));
            [&writes[..], &[read]].concat()
        };
        check(&with(0, 21, 1), 0, 0);
        check(&with(0, 22, 1), 1, 0);
        check(&with(0, 22, 2), 0, 0);
        check(&with(1, 26, 1), 0, 0);
        check(&with(1, 27, 1), 1, 0);
        check(&with(1, 27, 0), 1, 0);
        check(&with(1, 27, 2), 0, 0);
    }

    #[test]
    fn what_others_could_not_be_told_is_owed_to_one_process_only() {
        let write = call(0, 10, 11, wrote(1, false));
        check(&[write, call(1, 90, 91, read(0))], 0, 0);
        check(&[write, call(0, 12, 13, read(0))], 1, 0);
    }

    #[test]
    fn nobody_reads_what_is_not_written_or_another_key_s() {
        let write = call(0, 10, 11, wrote(1, true));
        check(&[write, call(1, 8, 9, read(1))], 0, 1);
        check(&[write, call(1, 8, 10, read(1))], 0, 0);
        check(&[write, call(1, 90, 91, read(3))], 0, 1);
        let other = Deed::Read { version: 1, of: 7 };
        check(&[write, call(1, 12, 13, other)], 0, 1);
    }

    #[test]
    fn a_later_acknowledgement_of_an_older_version_owes_the_newer_one_still() {
        let writes = [
            call(0, 20, 22, wrote(2, true)),
            call(0, 10, 30, wrote(1, true)),
        ];
        let read = call(0, 40, 41, read(1));
        check(&[&writes[..], &[read]].concat(), 1, 0);
    }
}
