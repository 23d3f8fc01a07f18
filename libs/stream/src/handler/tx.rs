//! A transaction that a handler takes as an argument: it already holds the mark that the message
//! was worked on, and carries follow-ups and answers.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ratebox_db::{Committed, Db, Row, Statement};
use ratebox_kit::{FollowUp, FollowUps, Marks, MessageId};

use super::batch_function::done_before;
use super::unsaved::Work;
use super::{
    Delivery, Failure, FromBatch, FromDelivery, FromRef, IntoFailure, Members, Meta, Reply,
    Results, Settled, TraceContext,
};
use crate::{Append, Log};

/// What a handler's transaction is joined with. Part of a router's state; cheap to clone.
#[derive(Clone)]
pub struct Effects(Arc<Joined>);

#[derive(Clone)]
struct Joined {
    db: Db,
    marks: Arc<dyn Marks<ratebox_db::Tx>>,
    follow_ups: Option<Arc<dyn FollowUps<ratebox_db::Tx, Committed>>>,
    answers: Option<Answers>,
}

#[derive(Clone)]
struct Answers {
    results: Arc<dyn Results>,
    log: Arc<dyn Log>,
}

/// A database transaction that begins with the message's mark in the inbox. A message that has its
/// mark already is acknowledged without calling the handler, and answered as it was before.
///
/// It is a [`ratebox_db::Tx`] by dereference; [`Tx::commit`] ends it and returns the proof that the
/// handler hands on. Dropped without a commit it leaves nothing behind, the mark included.
///
/// A handler that executed, sent or answered something through it, drops it, and says nevertheless
/// that the message is done (`Idempotent`, `NoEffects`), has lost that work: the message is not
/// acknowledged but fails with code `handler.not_committed` and comes again. Who gives work up on
/// purpose says so with [`Tx::roll_back`]. What only reads through [`Tx::query`] may be dropped; a
/// function that takes `&mut ratebox_db::Tx` may do anything, so it counts as work.
///
/// Take it as the last argument: on SQLite it holds the one writer from then on.
pub struct Tx {
    tx: ratebox_db::Tx,
    effects: Effects,
    message: Option<MessageId>,
    trace: Option<TraceContext>,
    follow_ups: Vec<FollowUp>,
    replies: Vec<(MessageId, Reply)>,
    work: Work,
}

// === impl Effects ===

impl Effects {
    /// Transactions of `db` that mark their message with `inbox`.
    pub fn new(db: Db, inbox: impl Marks<ratebox_db::Tx> + 'static) -> Self {
        Self(Arc::new(Joined {
            db,
            marks: Arc::new(inbox),
            follow_ups: None,
            answers: None,
        }))
    }

    /// Sends what [`Tx::send`] was given if, and only if, the transaction commits.
    #[must_use]
    pub fn with_outbox(self, outbox: impl FollowUps<ratebox_db::Tx, Committed> + 'static) -> Self {
        let mut joined = Arc::unwrap_or_clone(self.0);
        joined.follow_ups = Some(Arc::new(outbox));
        Self(Arc::new(joined))
    }

    /// Keeps what [`Tx::reply`] was given with the mark, and publishes it on `log` after the
    /// commit, and once more whenever the message comes again.
    #[must_use]
    pub fn with_answers(self, results: impl Results + 'static, log: Arc<dyn Log>) -> Self {
        let mut joined = Arc::unwrap_or_clone(self.0);
        let results = Arc::new(results);
        joined.answers = Some(Answers { results, log });
        Self(Arc::new(joined))
    }

    /// Opens a transaction and marks the messages; returns it with those that are new. What the
    /// others were answered is published again.
    async fn open(
        &self,
        messages: &[MessageId],
    ) -> Result<(ratebox_db::Tx, HashSet<MessageId>), Failure> {
        let mut tx = self.0.db.begin().await.map_err(db)?;
        let new = self.0.marks.mark(&mut tx, messages).await;
        let new = new.map_err(IntoFailure::into_failure)?;
        if let Some(answers) = &self.0.answers {
            let mut again = Vec::new();
            for message in messages.iter().filter(|id| !new.contains(*id)) {
                let found = answers.results.find(&mut tx, message).await;
                let found = found.map_err(IntoFailure::into_failure)?;
                again.extend(found.into_iter().map(|reply| (message.clone(), reply)));
            }
            answers.publish(&again).await?;
        }
        Ok((tx, new))
    }
}

// === impl Answers ===

impl Answers {
    async fn publish(&self, replies: &[(MessageId, Reply)]) -> Result<(), Failure> {
        if replies.is_empty() {
            return Ok(());
        }
        let appends: Vec<Append> = replies
            .iter()
            .enumerate()
            .map(|(index, (message, reply))| {
                let before = replies.iter().take(index).filter(|(id, _)| id == message);
                reply.append(&message.0, before.count())
            })
            .collect();
        for appended in self.log.append(&appended_in(appends)).await {
            // Committed already: the message comes again and is answered from what is kept.
            appended.map_err(|error| Failure::retry("reply.unpublished", &error))?;
        }
        Ok(())
    }
}

/// Answers belong to the trace of the handler that gives them.
fn appended_in(mut appends: Vec<Append>) -> Vec<Append> {
    if let Some(current) = TraceContext::current() {
        for append in &mut appends {
            append.message = current.stamp(append.message.clone());
        }
    }
    appends
}

// === impl Tx ===

impl Tx {
    /// Sends a message if, and only if, this transaction commits. It belongs to the trace of this
    /// handler.
    pub fn send(&mut self, mut message: FollowUp) {
        let has_trace = message
            .headers
            .iter()
            .any(|(name, _)| name == TraceContext::HEADER);
        if let (Some(trace), false) = (self.trace, has_trace) {
            message = message.with_header(TraceContext::HEADER, trace.to_string());
        }
        self.work.is_open = true;
        self.follow_ups.push(message);
    }

    /// Answers the message: kept with the mark, published after the commit, and given again
    /// whenever the message comes again.
    ///
    /// # Panics
    /// In a batch handler, which has no one message: use [`Tx::reply_to`].
    pub fn reply(&mut self, reply: Reply) {
        let message = self.message.clone();
        let message = message.expect("a batch has no one message to answer: use reply_to");
        self.work.is_open = true;
        self.replies.push((message, reply));
    }

    /// Answers one message of a batch.
    pub fn reply_to(&mut self, message: &Meta, reply: Reply) {
        self.work.is_open = true;
        self.replies.push((message.message_id(), reply));
    }

    /// Reads; see [`ratebox_db::Tx::query`]. A transaction that did nothing else may be dropped, so
    /// what changes rows and returns them belongs into a transaction that is committed.
    ///
    /// # Errors
    /// After any error the transaction can only be dropped.
    pub async fn query(
        &mut self,
        statement: impl Into<Statement>,
    ) -> Result<Vec<Row>, ratebox_db::Error> {
        self.tx.query(statement).await
    }

    /// Gives up what was done, on purpose: mark, statements, follow-ups and answers. The handler may
    /// say then that the message is done; without its mark, a second delivery reaches it again.
    ///
    /// # Errors
    /// [`Failure::pause`] when the database is away; it has given the transaction up then, too.
    pub async fn roll_back(mut self) -> Result<(), Failure> {
        self.work.is_open = false;
        self.tx.rollback().await.map_err(db)
    }

    /// Commits effects, mark, follow-ups and answers together, then publishes what can be
    /// published now.
    ///
    /// # Errors
    /// [`Failure::pause`] when the database is away, [`Failure::retry`] for what else goes wrong.
    /// Follow-ups without an outbox, and answers without results, are [`Failure::dead`]: a mistake
    /// of the program.
    pub async fn commit(self) -> Result<Committed, Failure> {
        let Self {
            mut tx,
            effects,
            follow_ups,
            replies,
            mut work,
            ..
        } = self;
        let Joined {
            follow_ups: outbox,
            answers,
            ..
        } = &*effects.0;
        let staged = match (outbox, follow_ups.is_empty()) {
            (_, true) => None,
            (None, false) => return Err(not_joined("an outbox")),
            (Some(outbox), false) => {
                let staged = outbox.add(&mut tx, follow_ups).await;
                Some(staged.map_err(IntoFailure::into_failure)?)
            }
        };
        let answers = match (answers, replies.is_empty()) {
            (_, true) => None,
            (None, false) => return Err(not_joined("results")),
            (Some(answers), false) => {
                keep(&*answers.results, &mut tx, &replies).await?;
                Some(answers)
            }
        };
        let committed = tx.commit().await.map_err(db)?;
        work.is_open = false;
        if let Some(staged) = staged {
            staged.publish(&committed).await;
        }
        if let Some(answers) = answers {
            answers.publish(&replies).await?;
        }
        Ok(committed)
    }

    fn new(tx: ratebox_db::Tx, effects: Effects, delivery: Option<&Meta>) -> Self {
        let trace = TraceContext::current()
            .or_else(|| delivery.and_then(Meta::trace).map(TraceContext::child));
        Self {
            tx,
            effects,
            message: delivery.map(Meta::message_id),
            trace,
            follow_ups: Vec::new(),
            replies: Vec::new(),
            work: Work::default(),
        }
    }
}

impl Deref for Tx {
    type Target = ratebox_db::Tx;

    fn deref(&self) -> &ratebox_db::Tx {
        &self.tx
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut ratebox_db::Tx {
        self.work.is_open = true;
        &mut self.tx
    }
}

impl<S: Sync> FromDelivery<S> for Tx
where
    Effects: FromRef<S>,
{
    async fn from_delivery(delivery: &mut Delivery, state: &S) -> Result<Self, Settled> {
        let effects = Effects::from_ref(state);
        let message = delivery.meta.message_id();
        let (tx, new) = effects.open(std::slice::from_ref(&message)).await?;
        if !new.contains(&message) {
            return Err(Settled::done(done_before()));
        }
        Ok(Self::new(tx, effects, Some(&delivery.meta)))
    }
}

impl<S: Sync> FromBatch<S> for Tx
where
    Effects: FromRef<S>,
{
    async fn from_batch(members: &mut Members, state: &S) -> Result<Self, Settled> {
        let effects = Effects::from_ref(state);
        let (tx, new) = effects.open(members.ids()).await?;
        let old: Vec<MessageId> = members
            .ids()
            .iter()
            .filter(|id| !new.contains(*id))
            .cloned()
            .collect();
        members.already_done(old);
        Ok(Self::new(tx, effects, None))
    }
}

/// Keeps the answers, those of one message together.
async fn keep(
    results: &dyn Results,
    tx: &mut ratebox_db::Tx,
    replies: &[(MessageId, Reply)],
) -> Result<(), Failure> {
    let mut kept: HashSet<&MessageId> = HashSet::new();
    for (message, _) in replies {
        if kept.insert(message) {
            let own = replies.iter().filter(|(id, _)| id == message);
            let own: Vec<Reply> = own.map(|(_, reply)| reply.clone()).collect();
            let done = results.keep(tx, message, &own).await;
            done.map_err(IntoFailure::into_failure)?;
        }
    }
    Ok(())
}

fn not_joined(what: &str) -> Failure {
    Failure::dead(
        "handler.not_joined",
        format_args!("the router's `Effects` have no part for {what}"),
    )
}

fn db(error: ratebox_db::Error) -> Failure {
    error.into_failure()
}
