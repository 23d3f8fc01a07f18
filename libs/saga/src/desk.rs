//! The operators' side of a journal, for processes that run no engine: look, foresee, and order.
//!
//! An order is a letter; the process that owns the saga reads it and writes down what came of it.
//! What is asked here is answered from records and the kept [`Outline`] of the definition, with the
//! same rules that the owner goes by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_db::{Db, Tx};
use ratebox_kit::{Timestamp, id};
use uuid::Uuid;

use crate::engine::{By, SIGNAL};
use crate::journal::store::{Count, Filter, Head, Letter, Posted, Store, Stored};
use crate::machine::{Deed, Machine};
use crate::record::note;
use crate::{Error, Journal, Kind, Outline, Result, SagaId, Status, Time, View};

/// Completed sagas that [`Desk::typical`] looks at.
const SAMPLE: usize = 50;

/// Looks at sagas and orders what is to become of them. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    store: Arc<dyn Store>,
    time: Time,
}

/// What somebody wants a saga to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Try a step again that waits for an operator, or its undo.
    Retry {
        /// The step.
        step: String,
    },
    /// Leave out a step that waits for an operator, or its undo.
    Skip {
        /// The step.
        step: String,
    },
    /// Take this for the result of a step that waits for an operator.
    Supply {
        /// The step.
        step: String,
        /// Its result.
        result: serde_json::Value,
    },
    /// Stop and be undone; a completed saga is undone, too.
    Cancel,
    /// Go on, when it is parked as a whole.
    Resume,
    /// End as failed, with whatever effects are left.
    Abandon,
    /// Go on with a step that waits for an approval.
    Approve {
        /// The step.
        step: String,
        /// Whether it is approved.
        yes: bool,
    },
    /// Go on with a step that waits to be told something, now or later.
    Signal {
        /// The signal's name.
        name: String,
        /// Its value.
        value: serde_json::Value,
    },
}

/// An order that was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The saga.
    pub saga: SagaId,
    letter: Letter,
    /// Records from this number on are news.
    from: u32,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its owner has not read it yet, or the signal is not waited for yet.
    Waiting,
    /// It was read and is in the saga's records.
    Done,
    /// It was read and came too late.
    TooLate,
}

// === impl Order ===

impl Order {
    /// The stable word.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Skip { .. } => "skip",
            Self::Supply { .. } => "supply",
            Self::Cancel => "cancel",
            Self::Resume => "resume",
            Self::Abandon => "abandon",
            Self::Approve { .. } => "approve",
            Self::Signal { .. } => "signal",
        }
    }

    /// The step, or the signal's name; empty for the saga as a whole.
    pub fn subject(&self) -> &str {
        match self {
            Self::Retry { step }
            | Self::Skip { step }
            | Self::Supply { step, .. }
            | Self::Approve { step, .. } => step,
            Self::Signal { name, .. } => name,
            Self::Cancel | Self::Resume | Self::Abandon => "",
        }
    }

    /// The record that it becomes; `None` for what a step waits for.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Retry { .. } => Some(Kind::Revived),
            Self::Skip { .. } => Some(Kind::LeftOut),
            Self::Supply { .. } => Some(Kind::Supplied),
            Self::Cancel => Some(Kind::Cancelled),
            Self::Resume => Some(Kind::Resumed),
            Self::Abandon => Some(Kind::Abandoned),
            Self::Approve { .. } | Self::Signal { .. } => None,
        }
    }

    fn payload(&self) -> Option<Bytes> {
        match self {
            Self::Supply { result, .. } => Some(result.to_string().into()),
            Self::Signal { value, .. } => Some(value.to_string().into()),
            Self::Approve { yes, .. } => Some(yes.to_string().into()),
            Self::Retry { .. }
            | Self::Skip { .. }
            | Self::Cancel
            | Self::Resume
            | Self::Abandon => None,
        }
    }
}

// === impl Desk ===

impl Desk {
    /// The desk of a journal.
    pub fn new(journal: &Journal, time: Time) -> Self {
        Self {
            store: journal.shared(),
            time,
        }
    }

    /// The database whose transactions [`Desk::send_in`] can join; `None` when there is none.
    pub fn database(&self) -> Option<&Db> {
        self.store.database()
    }

    /// Sagas, by id, ascending.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Head>> {
        self.store.list(filter).await
    }

    /// How many sagas there are, by definition and status.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn counts(&self) -> Result<Vec<Count>> {
        self.store.counts().await
    }

    /// A saga with its records and the letters that it has not answered.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`], or when the journal is away.
    pub async fn stored(&self, saga: SagaId) -> Result<Stored> {
        let mut stored = self.store.load(&[saga]).await?;
        stored.pop().ok_or(Error::NoSuchSaga { id: saga })
    }

    /// A saga with its steps, as it stands now or stood at a time.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`] when it was started after that time, [`Error::NotRegistered`] when no
    /// process ever described its definition.
    pub async fn view(&self, stored: Stored, at: Option<Timestamp>) -> Result<View> {
        let outline = self.outline_of(&stored.head).await?;
        View::of(&outline.plan(), stored, at)
    }

    /// Definitions, of one name when one is given; those that were described last come first.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn outlines(&self, name: Option<&str>, limit: usize) -> Result<Vec<Outline>> {
        self.store.outlines(name, limit).await
    }

    /// What the steps of a definition usually take: the median of sagas that completed lately.
    /// Steps that none of them ran are left out.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn typical(&self, outline: &Outline) -> Result<HashMap<String, Duration>> {
        let mut filter = Filter {
            definition: Some(outline.name().to_owned()),
            statuses: vec![Status::Completed],
            created_from: Some(self.ago(Duration::from_secs(86_400))),
            limit: SAMPLE,
            ..Filter::default()
        };
        let mut heads = self.store.list(&filter).await?;
        if heads.is_empty() {
            filter.created_from = None;
            heads = self.store.list(&filter).await?;
        }
        let ids: Vec<SagaId> = heads.iter().map(|it| it.id).collect();
        let mut took: HashMap<String, Vec<u64>> = HashMap::new();
        for stored in self.store.load(&ids).await? {
            let done = stored.records.iter().filter(|it| it.kind == Kind::Done);
            for record in done {
                took.entry(record.step.to_string())
                    .or_default()
                    .push(record.took_us);
            }
        }
        Ok(took.into_iter().map(median).collect())
    }

    /// Whether a saga takes an order now, and what to post for it.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not, [`Error::NoSuchSaga`], [`Error::NotRegistered`].
    pub async fn prepare(&self, saga: SagaId, order: &Order, by: &By) -> Result<Sent> {
        let stored = self.stored(saga).await?;
        let letter = Letter {
            id: id::new(),
            saga,
            verb: order.kind().map_or(SIGNAL, Kind::as_str).to_owned(),
            subject: note(order.subject()),
            payload: order.payload(),
            who: by.who().to_owned(),
            why: by.why().to_owned(),
            at: self.time.now(),
        };
        let from = stored.records.last().map_or(0, |it| it.seq + 1);
        self.allows(stored, order, by).await?;
        Ok(Sent { saga, letter, from })
    }

    /// Posts a prepared order.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`], or when the journal is away.
    pub async fn send(&self, sent: &Sent) -> Result<()> {
        posted(self.store.post(&sent.letter).await?, sent)?;
        self.rung().await;
        Ok(())
    }

    /// Posts a prepared order if, and only if, the caller's transaction commits. Call
    /// [`Desk::rung`] after the commit, or it is found by the next look of its owner.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`], [`Error::NoTransactions`], or when the database refuses.
    pub async fn send_in(&self, tx: &mut Tx, sent: &Sent) -> Result<()> {
        posted(self.store.post_in(tx, &sent.letter).await?, sent)
    }

    /// Wakes the processes that look for letters. One that does not hear it looks by itself.
    pub async fn rung(&self) {
        self.store.ring().await;
    }

    /// What became of an order by now.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn outcome(&self, sent: &Sent) -> Result<Outcome> {
        let stored = match self.stored(sent.saga).await {
            Ok(stored) => stored,
            // It ended and was deleted meanwhile.
            Err(Error::NoSuchSaga { .. }) => return Ok(Outcome::TooLate),
            Err(error) => return Err(error),
        };
        if stored.letters.iter().any(|it| it.id == sent.letter.id) {
            return Ok(Outcome::Waiting);
        }
        let is_it = |it: &&crate::Record| {
            let kind = Kind::parse(&sent.letter.verb);
            it.seq >= sent.from
                && it.who.as_deref() == Some(&sent.letter.who)
                && kind.is_none_or(|kind| it.kind == kind)
        };
        let is_done = stored.records.iter().any(|it| is_it(&it));
        Ok(if is_done {
            Outcome::Done
        } else {
            Outcome::TooLate
        })
    }

    /// As [`Desk::outcome`], once it was read, or after `patience`.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn settled(&self, sent: &Sent, patience: Duration) -> Result<Outcome> {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        let mut left = patience;
        loop {
            let outcome = self.outcome(sent).await?;
            if outcome != Outcome::Waiting || left.is_zero() {
                return Ok(outcome);
            }
            let wait = left.min(LOOK_EVERY);
            tokio::time::sleep(wait).await;
            left -= wait;
        }
    }

    async fn allows(&self, stored: Stored, order: &Order, by: &By) -> Result<()> {
        let kind = order.kind();
        let plan = match self.outline_of(&stored.head).await {
            Ok(outline) => outline.plan(),
            // Parked because nobody had its definition: whoever has it now decides, or nobody will.
            Err(Error::NotRegistered { .. })
                if matches!(kind, Some(Kind::Resumed | Kind::Abandoned))
                    && stored.head.status == Status::Parked =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let machine = Machine::folded(plan, stored.head.input, &stored.records);
        let Some(kind) = kind else {
            return machine.listens(order.subject()).map_err(refused);
        };
        let deed = Deed {
            kind,
            step: order.subject().into(),
            payload: order.payload(),
            who: Some(by.who().to_owned()),
            why: by.why().to_owned(),
        };
        machine.allows(&deed).map_err(refused)
    }

    async fn outline_of(&self, head: &Head) -> Result<Outline> {
        let found = self.store.outline(&head.definition, &head.hash).await?;
        found.ok_or_else(|| Error::NotRegistered {
            name: head.definition.to_string(),
        })
    }

    fn ago(&self, time: Duration) -> Timestamp {
        let us = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let then = self.time.now().as_microsecond().saturating_sub(us);
        Timestamp::from_microsecond(then).unwrap_or(Timestamp::MIN)
    }
}

// === impl Sent ===

impl Sent {
    /// The letter's id, for logs.
    pub fn letter(&self) -> Uuid {
        self.letter.id
    }
}

fn refused(why: &'static str) -> Error {
    Error::Refused {
        why: why.to_owned(),
    }
}

fn posted(posted: Posted, sent: &Sent) -> Result<()> {
    match posted {
        Posted::Kept => Ok(()),
        Posted::NoSuchSaga => Err(Error::NoSuchSaga { id: sent.saga }),
    }
}

fn median((step, mut took): (String, Vec<u64>)) -> (String, Duration) {
    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or(0);
    (step, Duration::from_micros(middle))
}
