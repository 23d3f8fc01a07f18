//! Dead letters go back to the bus, on the road of every publication: an outbox row in the
//! transaction that says so. A process that dies in between leaves the letter dead or its row in
//! the outbox, where the relay finds it; what is published twice is absorbed by the inbox.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{Message, Stopwatch, id};
use ratebox_outbox::Event;
use ratebox_store::{DeadLetterFilter, Refusal, ReplayOrder, StoredLetter};
use ratebox_stream::field;
use serde_json::Value;
use uuid::Uuid;

use crate::letters::{BYTES_MAX, LETTERS_MAX, chunks};
use crate::pace::Pace;
use crate::{By, Error, Letters, Result};

/// Letters that are listed at a time.
const PAGE: u32 = 200;
/// Refused letters that are named; all are counted.
const REFUSED_MAX: usize = 100;
/// Replays a second at most.
const PER_SECOND_MAX: u32 = 10_000;

/// Which letters.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// These; one that is named twice is one.
    Ids(Vec<Uuid>),
    /// All that match, newest first.
    Matching(DeadLetterFilter),
}

/// What is to be replayed, and how.
#[derive(Clone, Debug)]
pub struct ReplayPlan {
    /// Which letters.
    pub wanted: Wanted,
    /// At most so many; what is left is told, never dropped silently.
    pub max: u64,
    /// At most so many a second.
    pub per_second: u32,
    /// Also those that are stuck or on their way.
    pub force: bool,
    /// Change nothing; say what would be.
    pub dry_run: bool,
    /// Stop after this long, and say where.
    pub time_max: Option<Duration>,
}

/// What became of a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayOutcome {
    /// Letters that the wish names.
    pub matched: u64,
    /// Letters that are on their way (or would be).
    pub replayed: u64,
    /// Of these, confirmed by the bus already; the relay sends the others.
    pub published: u64,
    /// Letters that were not replayed.
    pub refused: u64,
    /// The first hundred of them, and why.
    pub refusals: Vec<(Uuid, Refusal)>,
    /// When there is more to do: the cursor to go on with.
    pub next: Option<Uuid>,
    /// The newest ten, when nothing was changed.
    pub sample: Vec<Value>,
}

// === impl Letters ===

impl Letters {
    /// Replays letters. Those that died again and again for the same reason are refused unless
    /// forced. `progress` hears how many are done.
    ///
    /// # Errors
    /// When a number is out of range or the store is away; what was replayed before stays so.
    pub async fn replay(
        &self,
        plan: &ReplayPlan,
        by: &By,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<ReplayOutcome> {
        check(plan)?;
        if plan.dry_run {
            return self.would_replay(plan).await;
        }
        let mut outcome = ReplayOutcome::default();
        let mut run = Run {
            pace: Pace::new(plan.per_second),
            watch: Stopwatch::start(),
            plan,
            by,
        };
        match &plan.wanted {
            Wanted::Ids(ids) => {
                let ids = each_once(ids);
                outcome.matched = ids.len() as u64;
                for ids in ids.chunks(run.pace.chunk(LETTERS_MAX)) {
                    self.replay_some(&mut run, ids.to_vec(), &mut outcome)
                        .await?;
                    progress(outcome.replayed);
                }
            }
            Wanted::Matching(filter) => {
                outcome.matched = self.store.count_dead_letters(filter).await?.0;
                self.replay_matching(&mut run, filter, &mut outcome, &mut progress)
                    .await?;
            }
        }
        if outcome.matched > 1 {
            self.note_bulk("dead_letter.replay_many", outcome.replayed, by)
                .await?;
        }
        Ok(outcome)
    }

    async fn would_replay(&self, plan: &ReplayPlan) -> Result<ReplayOutcome> {
        let mut outcome = ReplayOutcome::default();
        match &plan.wanted {
            Wanted::Ids(ids) => {
                let ids = each_once(ids);
                outcome.matched = ids.len() as u64;
                for ids in ids.chunks(LETTERS_MAX) {
                    let order = order(plan, ids.to_vec(), "", "");
                    // Dropped uncommitted: nothing is changed.
                    let replaying = self.store.begin_replay(&order).await?;
                    outcome.replayed += replaying.letters.len() as u64;
                    outcome.refuse(replaying.refused);
                }
            }
            Wanted::Matching(filter) => {
                let (matched, _, sample) = self.sample(filter).await?;
                let store = &self.store;
                outcome.matched = matched;
                outcome.refused = store.count_refused_letters(filter, plan.force).await?;
                let may_go = matched.saturating_sub(outcome.refused);
                outcome.replayed = may_go.min(plan.max);
                outcome.sample = sample;
            }
        }
        Ok(outcome)
    }

    async fn replay_matching(
        &self,
        run: &mut Run<'_>,
        filter: &DeadLetterFilter,
        outcome: &mut ReplayOutcome,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<()> {
        let mut filter = filter.clone();
        loop {
            let page = self.list(&filter, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for chunk in chunks(&page, run.pace.chunk(LETTERS_MAX)) {
                if outcome.replayed >= run.plan.max || run.is_late() {
                    outcome.next = filter.before;
                    return Ok(());
                }
                let left = usize::try_from(run.plan.max - outcome.replayed).unwrap_or(usize::MAX);
                let ids: Vec<Uuid> = chunk.iter().take(left).map(|head| head.id).collect();
                filter.before = ids.last().copied();
                self.replay_some(run, ids, outcome).await?;
                progress(outcome.replayed);
            }
        }
    }

    /// A few letters in one transaction, then out with them.
    async fn replay_some(
        &self,
        run: &mut Run<'_>,
        ids: Vec<Uuid>,
        outcome: &mut ReplayOutcome,
    ) -> Result<()> {
        let order = order(run.plan, ids, run.by.actor(), run.by.reason());
        let mut replaying = self.store.begin_replay(&order).await?;
        outcome.refuse(std::mem::take(&mut replaying.refused));
        let count = replaying.letters.len();
        if count == 0 {
            return Ok(());
        }
        let events = replaying.letters.iter().map(event).collect();
        let (statement, staged) = self.outbox.stage(events)?;
        let committed = replaying.commit(vec![statement]).await?;
        let published = self.outbox.publish(staged, &committed).await;
        outcome.replayed += count as u64;
        outcome.published += published.sent as u64;
        let wait = run.pace.after(count);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

// === impl ReplayOutcome ===

impl ReplayOutcome {
    fn refuse(&mut self, refused: Vec<(Uuid, Refusal)>) {
        self.refused += refused.len() as u64;
        let room = REFUSED_MAX.saturating_sub(self.refusals.len());
        self.refusals.extend(refused.into_iter().take(room));
    }
}

/// A replay under way.
struct Run<'a> {
    pace: Pace,
    watch: Stopwatch,
    plan: &'a ReplayPlan,
    by: &'a By,
}

impl Run<'_> {
    fn is_late(&self) -> bool {
        let elapsed = self.watch.elapsed();
        self.plan.time_max.is_some_and(|max| elapsed >= max)
    }
}

fn each_once(ids: &[Uuid]) -> Vec<Uuid> {
    let mut seen = HashSet::with_capacity(ids.len());
    let ids = ids.iter().copied();
    ids.filter(|id| seen.insert(*id)).collect()
}

fn check(plan: &ReplayPlan) -> Result<()> {
    if !(1..=PER_SECOND_MAX).contains(&plan.per_second) {
        return Err(Error::OutOfRange {
            what: "the rate per second",
            min: 1,
            max: PER_SECOND_MAX.into(),
        });
    }
    Ok(())
}

fn order<'a>(
    plan: &ReplayPlan,
    ids: Vec<Uuid>,
    actor: &'a str,
    reason: &'a str,
) -> ReplayOrder<'a> {
    ReplayOrder {
        ids,
        actor,
        reason,
        force: plan.force,
    }
}

/// The letter's fields as they were, and what makes it the same message again: its first entry,
/// from which a foreign message's id is derived, and the group, so that no other sees it twice.
/// Whoever replays wants it judged, so an expiry of its sender does not go along.
fn event(letter: &StoredLetter) -> Event {
    let head = &letter.head;
    let mut fields = letter.to_send().clone();
    fields.retain(|(name, _)| name != field::EXPIRES_AT);
    let mut add = |name: &str, value: &str| {
        fields.push((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    };
    add(field::FIRST_ENTRY, &head.entry_id);
    if !head.group.is_empty() {
        add(field::GROUP, &head.group);
    }
    let event_id = id::new();
    let message = Message::verbatim(event_id.to_string(), &fields);
    let mut event = Event::with_id(event_id, head.stream.as_str(), message.body);
    event.headers = message.headers;
    event
}

const _: () = assert!(LETTERS_MAX as u64 * 1024 < BYTES_MAX);
