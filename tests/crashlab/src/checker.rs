//! What must hold after a run, checked on what was written down. Pure: no server is asked here.

use std::collections::HashMap;
use std::fmt;

/// How often a message was put on the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sends {
    /// Appends that the bus confirmed: so many entries exist.
    pub confirmed: u64,
    /// Appends whose answer got lost: an entry may exist or not.
    pub unknown: u64,
}

/// Everything that a run left, from four sources that know nothing of each other.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The sender's journal: each message that it sent.
    pub sent: HashMap<String, Sends>,
    /// Rows of effect for each message, from a table without any key.
    pub effects: HashMap<String, u64>,
    /// Committed tries to mark each message in the inbox, the suppressed ones included.
    pub tries: HashMap<String, u64>,
    /// Answers on the bus for each message.
    pub answers: HashMap<String, u64>,
    /// Messages that the workers say they judged, from their own figures in the database.
    pub told_processed: u64,
    /// Duplicates that the workers say they suppressed, from the same place.
    pub told_suppressed: u64,
    /// For each worker that lived at the end: its metric of suppressed duplicates, and its figure in
    /// the database.
    pub metrics: Vec<Told>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Entries that are still delivered and not acknowledged.
    pub pending: u64,
    /// Workers that ended by themselves, or panicked, with their last words.
    pub fallen: Vec<String>,
}

/// What one worker said of the duplicates that it suppressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub worker: String,
    /// By its metric, which ends with the process.
    pub by_metric: u64,
    /// By its figure in the database, which was committed with the batch.
    pub by_figure: u64,
    /// Whether the database died while the worker lived: then a commit may be in the figure whose
    /// answer never came, and the metric may be lower.
    pub may_lack: bool,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A message that was sent has no effect.
    Lost {
        /// The message.
        id: String,
    },
    /// A message has more than one effect.
    Doubled {
        /// The message.
        id: String,
        /// How many.
        times: u64,
    },
    /// An effect of a message that nobody sent.
    Stranger {
        /// The message.
        id: String,
    },
    /// Nobody was told what became of a message.
    Unanswered {
        /// The message.
        id: String,
    },
    /// More entries were confirmed than were ever worked on.
    Skipped {
        /// The message.
        id: String,
        /// Entries of it.
        entries: u64,
        /// Tries in which it was met.
        tries: u64,
    },
    /// The workers' count of judged messages is wrong.
    Processed {
        /// What they say.
        told: u64,
        /// Messages.
        really: u64,
    },
    /// The workers' count of suppressed duplicates is wrong.
    Suppressed {
        /// What they say.
        told: u64,
        /// Tries beyond the first of each message.
        really: u64,
    },
    /// A worker's metric disagrees with its figure.
    Metric(Told),
    /// A fault made dead letters.
    DeadLetters(u64),
    /// Entries stayed pending.
    Pending(u64),
    /// A worker fell by itself.
    Fell(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { id } => write!(to, "{id} was sent and had no effect"),
            Self::Doubled { id, times } => write!(to, "{id} had its effect {times} times"),
            Self::Stranger { id } => write!(to, "{id} had an effect and was never sent"),
            Self::Unanswered { id } => write!(to, "{id} was never answered"),
            Self::Skipped { id, entries, tries } => {
                write!(to, "{id} had {entries} entries and was met {tries} times")
            }
            Self::Processed { told, really } => {
                write!(to, "{told} messages counted as judged, {really} were sent")
            }
            Self::Suppressed { told, really } => {
                write!(to, "{told} duplicates counted, {really} were suppressed")
            }
            Self::Metric(told) => write!(
                to,
                "{}: the metric says {} suppressed, the figure {}",
                told.worker, told.by_metric, told.by_figure
            ),
            Self::DeadLetters(count) => write!(to, "faults made {count} dead letters"),
            Self::Pending(count) => write!(to, "{count} entries stayed pending"),
            Self::Fell(words) => write!(to, "a worker fell: {words}"),
        }
    }
}

impl Evidence {
    /// Tries beyond the first of each message: what the inbox kept from having a second effect.
    pub fn suppressed(&self) -> u64 {
        self.tries
            .values()
            .map(|tries| tries.saturating_sub(1))
            .sum()
    }

    /// Every broken promise; none is what a run is for.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for (id, sends) in &self.sent {
            found.extend(self.of_message(id, *sends));
        }
        let strangers = self
            .effects
            .keys()
            .filter(|id| !self.sent.contains_key(*id));
        found.extend(strangers.map(|id| Violation::Stranger { id: id.clone() }));
        found.extend(self.of_counters());
        if self.dead_letters > 0 {
            found.push(Violation::DeadLetters(self.dead_letters));
        }
        if self.pending > 0 {
            found.push(Violation::Pending(self.pending));
        }
        found.extend(self.fallen.iter().cloned().map(Violation::Fell));
        found
    }

    fn of_message(&self, id: &str, sends: Sends) -> Vec<Violation> {
        let count = |of: &HashMap<String, u64>| of.get(id).copied().unwrap_or(0);
        let id = || id.to_owned();
        let mut found = Vec::new();
        match count(&self.effects) {
            0 => found.push(Violation::Lost { id: id() }),
            1 => {}
            times => found.push(Violation::Doubled { id: id(), times }),
        }
        if count(&self.answers) == 0 {
            found.push(Violation::Unanswered { id: id() });
        }
        let (entries, tries) = (sends.confirmed, count(&self.tries));
        if tries < entries {
            found.push(Violation::Skipped {
                id: id(),
                entries,
                tries,
            });
        }
        found
    }

    fn of_counters(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let (told, really) = (self.told_processed, self.sent.len() as u64);
        if told != really {
            found.push(Violation::Processed { told, really });
        }
        let (told, really) = (self.told_suppressed, self.suppressed());
        if told != really {
            found.push(Violation::Suppressed { told, really });
        }
        let disagree = |told: &&Told| match told.may_lack {
            true => told.by_metric > told.by_figure,
            false => told.by_metric != told.by_figure,
        };
        let metrics = self.metrics.iter().filter(disagree);
        found.extend(metrics.cloned().map(Violation::Metric));
        found
    }
}
