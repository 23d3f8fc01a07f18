//! What becomes of the other steps when one has failed: one table for all three strategies.
//!
//! | a step that …                          | fail_fast       | fail_fast_with_grace | wait_all |
//! |----------------------------------------|-----------------|----------------------|----------|
//! | depends on the failed one              | never starts    | never starts         | never starts |
//! | has not started, and does not depend   | never starts    | never starts         | starts when it can |
//! | runs                                   | is cancelled    | may end in the grace, then is cancelled | runs to its end |
//! | waits (retry, time, signal)            | is given up     | is given up          | waits to its end |
//!
//! Who is cancelled is told, and has one second ([`CANCEL_MAX`]) to end with an outcome of its own;
//! what then still runs is dropped and its effect counts as unknown. In all three everything that
//! is done or unknown is then undone, in reverse order of the graph, branches in parallel.
//! The pivot never runs beside another step, so nothing here can cancel it.

use std::time::Duration;

/// How a saga meets the failure of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Starts nothing new and cancels what runs.
    FailFast,
    /// Lets everything that does not depend on the failed step run to its end.
    WaitAll,
    /// Starts nothing new and gives what runs this long before it is cancelled.
    FailFastWithGrace(Duration),
}

/// How long a cancelled step has to end by itself.
pub const CANCEL_MAX: Duration = Duration::from_secs(1);

/// Where another step stands when one has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    Downstream,
    NotStarted,
    Running,
    Waiting,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    NeverStarts,
    GoesOn,
    GivenUp,
    /// Cancelled after this long.
    Cancelled(Duration),
}

// === impl OnFailure ===

impl OnFailure {
    /// The table above.
    pub(crate) fn fate(self, situation: Situation) -> Fate {
        match (situation, self) {
            (Situation::Downstream, _)
            | (Situation::NotStarted, Self::FailFast | Self::FailFastWithGrace(_)) => {
                Fate::NeverStarts
            }
            (Situation::NotStarted | Situation::Running | Situation::Waiting, Self::WaitAll) => {
                Fate::GoesOn
            }
            (Situation::Running, Self::FailFast) => Fate::Cancelled(Duration::ZERO),
            (Situation::Running, Self::FailFastWithGrace(grace)) => Fate::Cancelled(grace),
            (Situation::Waiting, Self::FailFast | Self::FailFastWithGrace(_)) => Fate::GivenUp,
        }
    }

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailFast => "fail_fast",
            Self::WaitAll => "wait_all",
            Self::FailFastWithGrace(_) => "fail_fast_with_grace",
        }
    }

    /// Reads the stable word, with two seconds of grace; `fail_fast_grace` is understood, too.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "fail_fast" => Some(Self::FailFast),
            "wait_all" => Some(Self::WaitAll),
            "fail_fast_with_grace" | "fail_fast_grace" => Some(Self::default()),
            _ => None,
        }
    }
}

impl Default for OnFailure {
    /// Two seconds of grace.
    fn default() -> Self {
        Self::FailFastWithGrace(Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_table_is_as_it_is_written() {
        let grace = Duration::from_secs(2);
        let strategies = [
            OnFailure::FailFast,
            OnFailure::FailFastWithGrace(grace),
            OnFailure::WaitAll,
        ];
        let never = Fate::NeverStarts;
        let table = [
            (Situation::Downstream, [never; 3]),
            (Situation::NotStarted, [never, never, Fate::GoesOn]),
            (
                Situation::Running,
                [
                    Fate::Cancelled(Duration::ZERO),
                    Fate::Cancelled(grace),
                    Fate::GoesOn,
                ],
            ),
            (
                Situation::Waiting,
                [Fate::GivenUp, Fate::GivenUp, Fate::GoesOn],
            ),
        ];
        for (situation, fates) in table {
            assert_eq!(
                strategies.map(|it| it.fate(situation)),
                fates,
                "{situation:?}"
            );
        }
    }

    #[test]
    fn the_words_of_the_strategies_are_read() {
        for strategy in [
            OnFailure::FailFast,
            OnFailure::WaitAll,
            OnFailure::default(),
        ] {
            assert_eq!(OnFailure::parse(strategy.as_str()), Some(strategy));
        }
        assert_eq!(
            OnFailure::parse("fail_fast_grace"),
            Some(OnFailure::default())
        );
        assert_eq!(OnFailure::parse("x"), None);
    }
}
