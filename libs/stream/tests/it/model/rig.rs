//! Real consumers on a real log, with everything recorded, under faults drawn from a seed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_kit::{Clock, Message, Stopwatch, Timestamp};
use ratebox_stream::conformance::{Bed, Letters, Waits};
use ratebox_stream::{
    Append, Consumer, ConsumerName, EntryId, Error, GroupName, Lanes, MemoryLog, Policy, Retention,
    Subscription,
};

use super::actor::{Actor, Dice, KINDS};
use super::protocol::{Call, Model, Scene};
use super::trace::{Event, RecordingLetters, RecordingLog, Trace, number};
use super::world::Faults;

const MEMBERS: u8 = 2;
const RETRY_MAX: u8 = 1;
const DELIVERIES_MAX: u8 = 2;

/// The model that the traces of the rig must be ways through.
pub(crate) fn model() -> Model {
    let many = 200;
    let scene = Scene {
        name: "trace",
        kinds: KINDS.to_vec(),
        members: usize::from(MEMBERS),
        faults: Faults {
            crashes: many,
            stalls: many,
            lost_answers: many,
            lost_entries: many,
            lost_streams: many,
            failures: many,
            cancels: 0,
        },
        lease: 2,
        // Far shorter than a tick: a retry may be due at once.
        retry_wait: 0,
        retry_max: RETRY_MAX,
        deliveries_max: DELIVERIES_MAX,
        count_max: u8::MAX,
        trims: true,
        hand_backs: true,
    };
    Model {
        scene,
        variant: None,
    }
}

/// One member: a consumer that is replaced when it dies.
struct Seat {
    consumer: Consumer,
    actor: Actor,
    stalled: bool,
}

pub(crate) struct Rig {
    bed: Bed,
    tick: Duration,
    pub(crate) trace: Arc<Trace>,
    dice: Arc<Dice>,
    calm: Arc<AtomicBool>,
    effects: Arc<Mutex<Vec<u8>>>,
    letters: Arc<Letters>,
    seats: Vec<Seat>,
    appended: u8,
    lives: u32,
    since_tick: Stopwatch,
    /// So much real time passed between two ticks that the trace says nothing of leases.
    pub(crate) is_blurred: bool,
}

// === impl Rig ===

impl Rig {
    /// On a log in memory, whose clock is moved.
    pub(crate) async fn in_memory(seed: u64) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let bed = crate::memory::with(log, Waits::Moves(clock));
        Self::on(bed, Duration::from_secs(6), seed).await
    }

    /// On a bed, with this tick.
    pub(crate) async fn on(bed: Bed, tick: Duration, seed: u64) -> Self {
        let mut rig = Self {
            bed,
            tick,
            trace: Arc::default(),
            dice: Arc::new(Dice::new(seed)),
            calm: Arc::default(),
            effects: Arc::default(),
            letters: Letters::new(),
            seats: Vec::new(),
            appended: 0,
            lives: 0,
            since_tick: Stopwatch::start(),
            is_blurred: false,
        };
        for by in 0..MEMBERS {
            let seat = rig.seat(by);
            rig.seats.push(seat);
        }
        let sub = rig.subscription();
        rig.bed.log.ensure_group(&sub).await.unwrap();
        rig
    }

    fn subscription(&self) -> Subscription {
        let lanes = Lanes::only(&self.bed.stream);
        let name = ConsumerName::new(format!("life-{}", self.lives));
        Subscription::new(lanes, GroupName::new("g"), name)
    }

    fn seat(&mut self, by: u8) -> Seat {
        self.lives += 1;
        let trace = Arc::clone(&self.trace);
        let log = RecordingLog {
            inner: Arc::clone(&self.bed.log),
            admin: Arc::clone(&self.bed.admin),
            trace: Arc::clone(&trace),
            by,
        };
        let letters = RecordingLetters {
            inner: Arc::clone(&self.letters),
            trace: Arc::clone(&trace),
            by,
        };
        let policy = Policy {
            batch_max: 3,
            claim_idle: self.tick * 2,
            heartbeat: self.tick,
            retry_max: u32::from(RETRY_MAX),
            deliveries_max: u32::from(DELIVERIES_MAX),
            dead_letter_view: None,
            handler_timeout: Some(Duration::from_millis(5)),
            ..self.bed.policy()
        };
        let clock = self.bed.clock.clone();
        let (log, letters) = (Arc::new(log), Arc::new(letters));
        Seat {
            consumer: Consumer::new(log, letters, self.subscription(), policy, clock),
            actor: Actor {
                by,
                trace,
                dice: Arc::clone(&self.dice),
                calm: Arc::clone(&self.calm),
                died: Arc::default(),
                effects: Arc::clone(&self.effects),
            },
            stalled: false,
        }
    }

    /// So many turns of chance, then calm until everything has ended.
    pub(crate) async fn run(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn().await;
        }
        self.calm.store(true, Ordering::SeqCst);
        self.letters.set_down(false);
        while usize::from(self.appended) < KINDS.len() {
            self.append().await;
        }
        let mut quiet_turns = 0;
        for _ in 0..60 {
            for by in 0..MEMBERS {
                self.step(by).await;
                self.beat(by).await;
            }
            // What was doomed and then lost is seen by nobody until its letter is kept.
            quiet_turns = if self.is_over().await {
                quiet_turns + 1
            } else {
                0
            };
            if quiet_turns == 3 {
                return;
            }
            self.pass(true).await;
        }
        panic!("it never ended: {:#?}", self.trace.events());
    }

    async fn turn(&mut self) {
        let by = u8::try_from(self.dice.roll(u64::from(MEMBERS))).unwrap();
        match self.dice.roll(24) {
            0..=2 => self.append().await,
            3..=9 => self.step(by).await,
            10 => self.beat(by).await,
            11..=14 => self.pass(true).await,
            15..=16 => self.pass(false).await,
            17 => self.crash(by),
            18 => self.seats[usize::from(by)].consumer.hand_back().await,
            19 => self.trim().await,
            20 => self.lose_entry().await,
            21 if self.dice.roll(4) == 0 => self.lose_stream().await,
            22 => {
                let down = self.dice.roll(2) == 0;
                self.letters.set_down(down);
            }
            _ => {
                use Call::{Ack, Bury, Claim, Delay, Read, Release};
                let calls = [Read, Claim, Ack, Delay, Bury, Release];
                let call = calls[usize::try_from(self.dice.roll(6)).unwrap()];
                self.trace.lose_next_answer_of(call);
            }
        }
    }

    async fn append(&mut self) {
        if usize::from(self.appended) == KINDS.len() {
            return;
        }
        // Ids are never given twice, even when the stream begins anew.
        self.bed.pass(Duration::from_millis(1)).await;
        let message = Message::new(format!("id-{}", self.appended), "x");
        let append = Append::new(self.bed.stream.clone(), message);
        let id = self.bed.log.append(&[append]).await.remove(0).unwrap();
        self.appended += 1;
        self.trace.record(Event::Appended(id));
    }

    async fn step(&mut self, by: u8) {
        let Seat {
            consumer, actor, ..
        } = &self.seats[usize::from(by)];
        let stepped = tokio::select! {
            biased;
            stepped = consumer.step(actor) => Some(stepped),
            () = actor.died.notified() => None,
        };
        match stepped {
            Some(Ok(_) | Err(Error::NoGroup { .. } | Error::Connection(_))) => {}
            Some(Err(error)) => panic!("{error:?}"),
            None => self.crash(by),
        }
    }

    async fn beat(&mut self, by: u8) {
        let seat = &mut self.seats[usize::from(by)];
        seat.consumer.beat().await;
        seat.stalled = false;
    }

    fn crash(&mut self, by: u8) {
        self.seats[usize::from(by)] = self.seat(by);
        self.trace.record(Event::Crashed { by });
    }

    /// A tick. A heart that does not beat before it is a stalled one.
    async fn pass(&mut self, beating: bool) {
        for by in 0..MEMBERS {
            if beating {
                self.beat(by).await;
            }
            let seat = &mut self.seats[usize::from(by)];
            if !beating && !seat.stalled && seat.consumer.held() > 0 {
                seat.stalled = true;
                self.trace.record(Event::Stalled { by });
            }
        }
        self.is_blurred |= self.since_tick.elapsed() > self.tick / 3;
        self.bed.pass(self.tick).await;
        self.trace.record(Event::Passed);
        self.since_tick = Stopwatch::start();
    }

    async fn trim(&self) {
        let info = self.bed.admin.info(&self.bed.stream).await.unwrap();
        if info.is_none_or(|info| info.groups.is_empty()) {
            return;
        }
        let nothing = Retention {
            max_age: None,
            max_len: Some(0),
        };
        let trimmed = self
            .bed
            .admin
            .trim(&self.bed.stream, nothing)
            .await
            .unwrap();
        let removed = trimmed.removed;
        self.trace.record(Event::Trimmed { removed });
    }

    async fn lose_entry(&self) {
        let stream = &self.bed.stream;
        let stored = self
            .bed
            .admin
            .peek(stream, EntryId::MIN, 100)
            .await
            .unwrap();
        if stored.is_empty() {
            return;
        }
        let found = usize::try_from(self.dice.roll(stored.len() as u64)).unwrap();
        let id = stored[found].id;
        self.bed.sabotage.lose_entry(stream, id).await;
        self.trace.record(Event::EntryLost(id));
    }

    async fn lose_stream(&self) {
        self.bed.sabotage.lose_stream(&self.bed.stream).await;
        self.trace.record(Event::StreamLost);
    }

    /// What became of each message: its effects and its letters.
    pub(crate) fn became(&self) -> Vec<(u8, u8)> {
        let effects = self.effects.lock().unwrap();
        let letters: Vec<u8> = (self.letters.kept().iter())
            .map(|it| number(&it.message_id))
            .collect();
        let count = |of: &[u8], one: u8| of.iter().filter(|it| **it == one).count();
        let became = (0..self.appended).map(|one| (count(&effects, one), count(&letters, one)));
        became
            .map(|(effects, letters)| {
                (
                    u8::try_from(effects).unwrap(),
                    u8::try_from(letters).unwrap(),
                )
            })
            .collect()
    }

    /// Nothing is owed, and nobody holds anything.
    async fn is_over(&self) -> bool {
        let sub = self.subscription();
        let info = self.bed.admin.info(&self.bed.stream).await.unwrap();
        let floors = self.bed.admin.floor(&sub).await.unwrap();
        let held: usize = self.seats.iter().map(|it| it.consumer.held()).sum();
        held == 0
            && info.is_some_and(|info| !info.groups.is_empty())
            && floors.iter().all(|floor| floor.owed_from.is_none())
    }
}
