//! Lanes: the priority classes of a stream, each a stream of its own.

use std::fmt;

use crate::StreamName;

/// A priority class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Read first and most.
    High,
    /// The stream under its plain name.
    Normal,
    /// Bulk work. Read least, but always read.
    Low,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Reads a word; `batch` and `bulk` mean `low`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "high" => Some(Self::High),
            "normal" => Some(Self::Normal),
            "low" | "batch" | "bulk" => Some(Self::Low),
            _ => None,
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The streams behind the lanes of one name, and the set where retries wait.
///
/// `validation_requests` has the lanes `{validation_requests}:high`, `validation_requests` and
/// `{validation_requests}:low`. A hash tag hashes like the plain name, so all of them live in one
/// slot of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {
    streams: Vec<(Lane, StreamName)>,
    base: StreamName,
    delayed: StreamName,
}

// === impl Lanes ===

impl Lanes {
    /// The three lanes of `base`.
    pub fn of(base: &StreamName) -> Self {
        let high = StreamName::new(format!("{}:high", tagged(base)));
        let low = StreamName::new(format!("{}:low", tagged(base)));
        let streams = vec![
            (Lane::High, high),
            (Lane::Normal, base.clone()),
            (Lane::Low, low),
        ];
        Self {
            streams,
            base: base.clone(),
            delayed: delayed(base),
        }
    }

    /// Only the plain stream, for streams without priorities.
    pub fn only(base: &StreamName) -> Self {
        let streams = vec![(Lane::Normal, base.clone())];
        Self {
            streams,
            base: base.clone(),
            delayed: delayed(base),
        }
    }

    /// The name that the lanes share.
    pub fn base(&self) -> &StreamName {
        &self.base
    }

    /// Each lane and its stream, most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, &StreamName)> {
        self.streams.iter().map(|(lane, stream)| (*lane, stream))
    }

    /// The stream of a lane; the plain stream where the lane does not exist.
    pub fn stream(&self, lane: Lane) -> &StreamName {
        let found = self.streams.iter().find(|(one, _)| *one == lane);
        found.map_or(&self.base, |(_, stream)| stream)
    }

    /// The lane that `stream` is, if it is one of these.
    pub fn lane_of(&self, stream: &str) -> Option<Lane> {
        self.iter()
            .find(|(_, name)| name.as_str() == stream)
            .map(|(lane, _)| lane)
    }

    /// The name as a hash tag, for keys that live beside the lanes.
    pub(crate) fn tag(&self) -> String {
        tagged(&self.base)
    }

    /// Where retries wait until they are due.
    pub fn delayed(&self) -> &StreamName {
        &self.delayed
    }
}

fn delayed(base: &StreamName) -> StreamName {
    StreamName::new(format!("{}:delayed", tagged(base)))
}

/// The name as a hash tag; a name that has one already keeps it.
fn tagged(base: &StreamName) -> String {
    if base.as_str().contains('{') {
        base.to_string()
    } else {
        format!("{{{base}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_delayed_set_share_the_slot_of_the_plain_name() {
        let lanes = Lanes::of(&StreamName::new("validation_requests"));
        let names: Vec<_> = lanes.iter().map(|(_, stream)| stream.to_string()).collect();
        assert_eq!(
            names,
            [
                "{validation_requests}:high",
                "validation_requests",
                "{validation_requests}:low"
            ]
        );
        assert_eq!(lanes.delayed().as_str(), "{validation_requests}:delayed");
        assert_eq!(lanes.lane_of("{validation_requests}:low"), Some(Lane::Low));
    }

    #[test]
    fn a_name_with_a_hash_tag_keeps_it() {
        let lanes = Lanes::of(&StreamName::new("{tenant}:requests"));
        assert_eq!(lanes.stream(Lane::High).as_str(), "{tenant}:requests:high");
    }

    #[test]
    fn batch_and_bulk_mean_low() {
        assert_eq!(Lane::parse("bulk"), Some(Lane::Low));
        assert_eq!(Lane::parse("batch"), Some(Lane::Low));
        assert_eq!(Lane::parse("urgent"), None);
    }
}
