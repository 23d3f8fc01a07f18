//! A relay's work for one broker: the partitions of a lane, read, published, settled.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Column, Db, Row, Statement};
use ratebox_kit::{Causes, Shutdown, Stopwatch, Trouble};
use tokio::sync::Notify;
use uuid::Uuid;

use super::chores::Chores;
use super::due::{Due, read};
use super::ear::Ear;
use super::first::{self, First};
use super::ground::Ground;
use super::health::{Lack, RelayHealth};
use super::outage::Outage;
use super::postgres::Rotation;
use super::{LOOK_AGAIN, NO_ANSWER, RelaySettings, Step, Told};
use crate::broker::Routes;
use crate::bundle::{self, Bundle};
use crate::event::PARTITIONS;
use crate::stats::ByType;
use crate::sweeper::{self, RowKey, SentRow, Trail};
use crate::{Broker, Event, PublishError, Result, broker, sql, stats, text};

/// Rows of a partition in the first read.
const SHARE_FIRST: i64 = 32;
/// Bytes of one read up to which the next one may be larger.
const BYTES_FEW: usize = 4 << 20;
/// First wait for a broker that is away, and the longest.
const DOWN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// How often the log is told of an event that is tried again. Where one topic takes nothing, they
/// all are.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Sends the waiting events of one broker.
pub(super) struct Lane {
    db: Db,
    broker: Arc<dyn Broker>,
    settings: RelaySettings,
    wake: Arc<Notify>,
    ground: Ground,
    rotation: Rotation,
    /// How long the last read took, and the rows that it found.
    looked: Option<(Duration, usize)>,
    share: i64,
    first: First,
    pub(super) told: Option<Told>,
    /// Where events belong that are not this lane's; only the lane of all others looks for them.
    routes: Routes,
    outage: Outage,
    pub(super) health: RelayHealth,
    /// Since the lane was made.
    began: Stopwatch,
    /// Steps that failed: the database is away.
    trouble: Trouble,
    /// Since the log was told of an event that is tried again.
    said: Option<Stopwatch>,
}

/// One answer a message; too few when the broker gave up.
type Answers = Vec<Result<(), PublishError>>;

/// What became of a wave.
struct Settled {
    /// Rows of which everything is confirmed, and that are still to be deleted.
    sent: Vec<SentRow>,
    /// Events that are confirmed.
    count: usize,
    /// Why the broker takes nothing for now.
    down: Option<String>,
}

impl Lane {
    /// The lane whose partitions begin with `base`; 0 is that of every broker without one.
    pub(super) fn new(
        db: Db,
        broker: Arc<dyn Broker>,
        holder: &str,
        settings: RelaySettings,
        (base, wake): (i64, Arc<Notify>),
    ) -> Self {
        let routes = Routes::of(&*broker);
        Self {
            outage: Outage::of(routes.name(base)),
            routes: if base == 0 { routes } else { Routes::default() },
            ground: Ground::new(db.clone(), holder, settings.lease, base),
            rotation: Rotation::default(),
            looked: None,
            share: SHARE_FIRST.min(settings.batch_max),
            first: First::new(),
            db,
            broker,
            settings,
            wake,
            told: None,
            health: RelayHealth::default(),
            began: Stopwatch::start(),
            trouble: Trouble::default(),
            said: None,
        }
    }

    /// Works until it is asked to stop, then gives its partitions back.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut ear = Ear::new(self.db.clone());
        let mut chores = Chores::default();
        let (mut quiet, mut away) = (LOOK_AGAIN, DOWN.0);
        while !shutdown.is_stopping() {
            if self.ground.is_home() {
                chores.look(&self.db, &self.settings).await;
            }
            let done = self.step().await;
            self.note(&done);
            let pause = match done {
                Ok(Step::Did(_)) => {
                    (quiet, away) = (LOOK_AGAIN, DOWN.0);
                    continue;
                }
                Ok(Step::Idle) => {
                    let pause = quiet;
                    (quiet, away) = ((quiet * 2).min(self.settings.poll), DOWN.0);
                    pause
                }
                Ok(Step::Down) => {
                    let pause = away;
                    away = (away * 2).min(DOWN.1);
                    // Neither senders nor other processes shorten this wait.
                    self.rotation.beside(shutdown.sleep(pause)).await;
                    continue;
                }
                Err(_) => {
                    self.ground.forget();
                    Duration::from_millis(500)
                }
            };
            ear.open().await;
            let wake = Arc::clone(&self.wake);
            let woken = async {
                tokio::select! {
                    () = wake.notified() => true,
                    () = ear.heard() => true,
                    () = tokio::time::sleep(pause) => false,
                }
            };
            if self.rotation.beside(shutdown.unless(woken)).await == Some(true) {
                quiet = LOOK_AGAIN;
            }
        }
        let _ = self.ground.leases().give_back().await;
    }

    /// Takes note of a step, and tells the log of a database that is away.
    fn note(&mut self, done: &Result<Step>) {
        let now = self.began.elapsed();
        let lack = match done {
            Ok(step) => {
                if let Some(spell) = self.trouble.ended(now) {
                    let lasted_s = spell.lasted.as_secs();
                    tracing::info!(lasted_s, "the relay works again");
                }
                let is_down = *step == Step::Down;
                if !is_down {
                    self.outage.rests();
                }
                (is_down && self.outage.goes_on()).then_some(Lack::Broker)
            }
            Err(error) => {
                if let Some(spell) = self.trouble.failed(now) {
                    let (failures, lasted_s) = (spell.failures, spell.lasted.as_secs());
                    tracing::warn!(error = %Causes(error), failures, lasted_s,
                        "the relay could not work; it tries again");
                }
                self.trouble.lasts(now).then_some(Lack::Database)
            }
        };
        self.health.note(lack);
    }

    /// One pass over the partitions that are ours.
    ///
    /// # Errors
    /// When the database is away.
    pub(super) async fn step(&mut self) -> Result<Step> {
        self.rotation.ready().await;
        let mut rotation = std::mem::take(&mut self.rotation);
        // On the heap: whoever waits for a step need not make room for all of it.
        let done = rotation.beside(Box::pin(self.pass())).await;
        if let Some((took, rows)) = self.looked.take() {
            rotation.note(&self.db, took, rows);
        }
        self.rotation = rotation;
        done
    }

    async fn pass(&mut self) -> Result<Step> {
        self.ground.renew().await?;
        let due = self.due().await?;
        let due = self.without_strays(due).await?;
        if due.is_empty() {
            return Ok(Step::Idle);
        }
        let mut sent = 0;
        let mut failed_keys = HashSet::new();
        // Rows of a wave go while the next one is published.
        let mut gone = Vec::new();
        let due = self.without_killers(due).await?;
        for wave in self.first.waves(due) {
            self.ground.renew().await?;
            let is_ours = |due: &Due| {
                let is_held = self.ground.lease(due.key.0).is_some();
                is_held && due.order().is_none_or(|key| !failed_keys.contains(key))
            };
            let wave: Vec<Due> = wave.into_iter().filter(is_ours).collect();
            if wave.is_empty() {
                continue;
            }
            let mut before = std::mem::take(&mut gone);
            if !self.first.is_over() {
                // What was sent must not be taken for what kills the next wave's process.
                self.delete(&before).await?;
                before.clear();
                self.first.begin(&self.db, &wave).await?;
            }
            let (answers, deleted) = tokio::join!(self.publish(&wave), self.delete(&before));
            deleted?;
            let done = self.settle(wave, answers, &mut failed_keys).await?;
            sent += done.count;
            gone = done.sent;
            if let Some(why) = done.down {
                self.outage.lasts(&why);
                self.delete(&gone).await?;
                self.first.end(&self.db).await?;
                return Ok(Step::Down);
            }
        }
        if sent > 0 {
            self.outage.ended();
        }
        self.delete(&gone).await?;
        self.first.end(&self.db).await?;
        Ok(Step::Did(sent))
    }

    /// Moves events to the partitions of their broker that lie in these: an operator gave them back,
    /// or who sent them did not know the broker. From here one that is away would hold up the others.
    async fn without_strays(&mut self, due: Vec<Due>) -> Result<Vec<Due>> {
        if self.routes.is_empty() {
            return Ok(due);
        }
        let mut own = Vec::with_capacity(due.len());
        let mut strays: BTreeMap<i64, (Vec<Uuid>, Vec<i64>)> = BTreeMap::new();
        for due in due {
            let topic = due.events.first().map_or("", |first| first.topic.as_str());
            let (base, (partition, id)) = (self.routes.base(topic), due.key);
            if base == 0 {
                own.push(due);
            } else {
                self.say_absent(id, base);
                let (ids, to) = strays.entry(partition).or_default();
                ids.push(id);
                to.push(base + partition % PARTITIONS);
            }
        }
        for (partition, (ids, to)) in strays {
            let from = Column::Int(vec![partition; ids.len()]);
            let columns = vec![from, Column::Uuid(ids), Column::Int(to)];
            let rehome = sql::REHOME.rows(columns, Vec::new())?;
            self.fenced(partition, vec![rehome.planned_anew()]).await?;
        }
        Ok(own)
    }

    /// In the first pass: gives up what was in work in too many deaths, and takes apart a row of
    /// several that is suspected.
    async fn without_killers(&mut self, due: Vec<Due>) -> Result<Vec<Due>> {
        if self.first.is_over() {
            return Ok(due);
        }
        let mut others = Vec::with_capacity(due.len());
        for due in due {
            let event_type = due.events.first().map_or("", Event::type_name).to_owned();
            let is_given_up = due.started >= self.settings.attempts_max;
            // Its neighbours are innocent, however few tries there are.
            if due.events.len() > 1 && (is_given_up || due.started >= first::ALONE) {
                self.apart(due).await?;
            } else if is_given_up {
                stats::failed(&event_type);
                self.bury(due.key, &event_type, first::KILLS).await?;
            } else {
                others.push(due);
            }
        }
        Ok(others)
    }

    async fn delete(&self, rows: &[SentRow]) -> Result<()> {
        sweeper::delete(&self.db, rows).await
    }

    fn trail(&self, due: &Due) -> Trail {
        let topic = due.events.first().map_or("", |first| first.topic.as_str());
        let settings = &self.settings;
        Trail::of(settings.archive.is_some(), &settings.unarchived, topic)
    }

    async fn due(&mut self) -> Result<Vec<Due>> {
        let partitions = self.ground.partitions();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let full = partitions.len() * usize::try_from(self.share).unwrap_or(1);
        let columns = vec![Column::Int(partitions)];
        // A plan from when the table was empty reads all of it once a row.
        let look = sql::DUE.rows(columns, vec![self.share.into()])?;
        let watch = Stopwatch::start();
        let rows = self.db.query(look.planned_anew()).await?;
        self.looked = Some((watch.elapsed(), rows.len()));
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            // Another program wrote it; without its key nothing can be done about it.
            let Ok((key, attempts, started)) = numbers(row) else {
                self.say_unreadable();
                continue;
            };
            match read(row) {
                Ok(events) => due.push(Due {
                    key,
                    attempts,
                    started,
                    events,
                }),
                // Another program wrote it; it must not stop the others.
                Err(error) => {
                    let why = error.to_string();
                    self.postpone(key, attempts, "", &why).await?;
                }
            }
        }
        self.size_next(rows.len() * 2 >= full, due.iter().map(Due::bytes).sum());
        Ok(due)
    }

    /// A backlog is read in larger pieces, as long as its events are small.
    fn size_next(&mut self, is_full: bool, bytes: usize) {
        let first = SHARE_FIRST.min(self.settings.batch_max);
        self.share = match (is_full, bytes < BYTES_FEW) {
            (true, true) => (self.share * 2).min(self.settings.batch_max),
            (true, false) => (self.share / 2).max(1),
            (false, _) => first.max(self.share / 2),
        };
    }

    /// Gives one wave to the broker; what has no answer in time has none.
    async fn publish(&self, wave: &[Due]) -> Answers {
        let watch = Stopwatch::start();
        let events: Vec<&Event> = wave.iter().flat_map(|due| &due.events).collect();
        // What is published after the leases' end may be another relay's.
        let limit = self.settings.publish_timeout.min(self.ground.left());
        let call = broker::publish(&*self.broker, &events);
        let answers = tokio::time::timeout(limit, call).await;
        let types = ByType::of(wave.iter().flat_map(|due| &due.events));
        stats::publish_seconds(types, watch.elapsed().as_secs_f64());
        answers.unwrap_or_default()
    }

    /// Does what a wave's answers ask for.
    async fn settle(
        &mut self,
        wave: Vec<Due>,
        answers: Answers,
        failed: &mut HashSet<String>,
    ) -> Result<Settled> {
        let mut answers = answers.into_iter();
        let (mut sent, mut types, mut down) = (Vec::new(), ByType::default(), None);
        let (mut all_refused, mut confirmed) = (Vec::new(), Vec::new());
        for mut due in wave {
            let (mut refused, alone) = (None, due.events.len() == 1);
            let trail = self.trail(&due);
            // What was not confirmed stays; a missing answer confirms nothing.
            due.events.retain(|event| match answers.next() {
                Some(Ok(())) => {
                    types.add(event);
                    if self.told.is_some() {
                        confirmed.push(event.id);
                    }
                    false
                }
                Some(Err(PublishError::Rejected(why))) => {
                    refused = Some(why);
                    true
                }
                Some(Err(PublishError::Down(why))) => {
                    down.get_or_insert(why);
                    true
                }
                None => {
                    down.get_or_insert_with(|| NO_ANSWER.to_owned());
                    true
                }
            });
            match refused {
                None if due.events.is_empty() => sent.push((due.key, trail)),
                None => {}
                Some(why) => {
                    failed.extend(due.order().cloned());
                    all_refused.push((due, alone, why));
                }
            }
        }
        let count = types.total();
        stats::published(types, "relay");
        self.tell(&confirmed);
        if !all_refused.is_empty() {
            // Whatever becomes of the refused ones, what was sent is not sent again.
            self.delete(&std::mem::take(&mut sent)).await?;
        }
        for (due, alone, why) in all_refused {
            self.refused(due, alone, &why).await?;
        }
        Ok(Settled { sent, count, down })
    }

    fn tell(&self, sent: &[Uuid]) {
        if let Some(told) = &self.told
            && !sent.is_empty()
            && catch_unwind(AssertUnwindSafe(|| told(sent))).is_err()
        {
            tracing::error!("a callback of the relay panicked; its events are sent all the same");
        }
    }

    /// An event that was refused is tried again by itself: a row of several comes apart, and what
    /// was sent of it goes.
    async fn refused(&mut self, due: Due, alone: bool, why: &str) -> Result<()> {
        if alone {
            let event_type = due.events.first().map_or("", Event::type_name);
            return self.postpone(due.key, due.attempts, event_type, why).await;
        }
        self.apart(due).await
    }

    /// Gives each event of a row a row of its own.
    async fn apart(&mut self, due: Due) -> Result<()> {
        let base = due.key.0 - due.key.0 % PARTITIONS;
        let row = |event| Bundle::new(event).based(base);
        let rows: Vec<Bundle> = due.events.into_iter().map(row).collect();
        let apart = vec![
            sweeper::statement(&[due.key])?,
            bundle::insert(&rows, |_| 0)?,
        ];
        self.fenced(due.key.0, apart).await.map(drop)
    }

    async fn postpone(
        &mut self,
        key: RowKey,
        attempts: i64,
        event_type: &str,
        why: &str,
    ) -> Result<()> {
        stats::failed(event_type);
        let (partition, id) = key;
        let attempts = attempts + 1;
        if attempts >= self.settings.attempts_max {
            return self.bury(key, event_type, why).await;
        }
        let attempt = u32::try_from(attempts).unwrap_or(u32::MAX);
        let wait_ms = self.settings.backoff.jittered(attempt).as_secs_f64() * 1000.0;
        let said = text::reason(why).into();
        let values = vec![partition.into(), id.into(), wait_ms.into(), said];
        if self
            .fenced(partition, vec![sql::POSTPONE.with(values).planned_anew()])
            .await?
        {
            stats::retried();
            self.say(id, event_type, attempts, why);
        }
        Ok(())
    }

    /// Tells the log, for one event in a while, why it is tried again.
    fn say(&mut self, id: Uuid, event_type: &str, attempts: i64, error: &str) {
        if self.may_say() {
            tracing::warn!(event.id = %id, event.type = event_type, attempts, error, "an event was not taken; it is tried again");
        }
    }

    fn say_absent(&mut self, id: Uuid, base: i64) {
        let absent = self.routes.name(base);
        let absent = absent.filter(|name| self.broker.reserved().contains(&name.as_str()));
        if let Some(broker) = absent
            && self.may_say()
        {
            let broker = broker.as_str();
            tracing::warn!(event.id = %id, broker, "an event waits for a broker that this relay has not");
        }
    }

    fn say_unreadable(&mut self) {
        if self.may_say() {
            tracing::error!("the outbox holds a row whose key cannot be read; it is passed over");
        }
    }

    fn may_say(&mut self) -> bool {
        let is_due = |at: &Stopwatch| at.elapsed() >= SAY_EVERY;
        let may = self.said.as_ref().is_none_or(is_due);
        if may {
            self.said = Some(Stopwatch::start());
        }
        may
    }

    /// Keeps an event among the dead ones.
    async fn bury(&mut self, key: RowKey, event_type: &str, why: &str) -> Result<()> {
        let (partition, id) = key;
        let said = text::reason(why).into();
        let bury = sql::BURY.with(vec![partition.into(), id.into(), said]);
        let burial = vec![bury.planned_anew(), sweeper::statement(&[key])?];
        if self.fenced(partition, burial).await? {
            tracing::error!(event.id = %id, event.type = event_type, error = why, "an event used up its attempts and is dead");
            stats::dead(event_type);
        }
        Ok(())
    }

    /// Changes rows of a partition if and only if its lease is ours; a relay that slept through
    /// its lease changes nothing that another one has taken over.
    async fn fenced(&mut self, partition: i64, statements: Vec<Statement>) -> Result<bool> {
        let Some(lease) = self.ground.lease(partition) else {
            return Ok(false);
        };
        let mut tx = self.db.begin().await?;
        if !self.ground.leases().confirm(&mut tx, lease).await? {
            tx.rollback().await?;
            tracing::warn!(partition, "a partition was lost while it was worked on");
            self.ground.forget();
            return Ok(false);
        }
        tx.commit_after(statements).await?;
        Ok(true)
    }
}

/// Key, attempts and begun lives of a row of [`sql::DUE`].
fn numbers(row: &Row) -> Result<(RowKey, i64, i64)> {
    Ok(((row.get(0)?, row.get(1)?), row.get(6)?, row.get(12)?))
}
