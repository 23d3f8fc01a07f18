//! Plays one scene: a saga, its faults, processes that die and are replaced, and an operator at
//! the end who has everything tried again once it is healed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{Tasks, Timestamp, id};

use super::check::check;
use super::script::{Break, Event, OfProcess, Script};
use crate::ctx::Cancel;
use crate::definition::plan::{Plan, Work};
use crate::engine::{Order, SIGNAL};
use crate::{
    By, Engine, EngineSettings, Error, Journal, Letter, MemoryStore, Outline, Result, SagaId,
    Status, StepState, Time, View,
};

/// What is played.
pub(super) struct Scene {
    pub(super) plan: Arc<Plan>,
    pub(super) input: Bytes,
    pub(super) signals: HashMap<String, Bytes>,
    pub(super) breaks: Vec<Break>,
    pub(super) seed: u64,
}

/// How it went.
pub(super) struct Played {
    pub(super) title: String,
    pub(super) status: Status,
    pub(super) violations: Vec<String>,
}

/// No saga takes longer, in virtual time.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// How often an operator has parked steps tried again; each try may uncover another.
const HEALS_MAX: usize = 50;

/// No saga on a database takes longer: there time passes slowly.
const LONGEST_ON: Duration = Duration::from_secs(6 * 3_600);

/// The stage: one journal, and the process that is alive.
struct Stage {
    scene: Scene,
    journal: Journal,
    /// Whether the journal judges leases by a clock that this stage does not set.
    has_own_clock: bool,
    time: Time,
    script: Arc<Script>,
    processes: usize,
    tasks: Tasks,
}

/// Plays a scene in a journal in memory, or in this one, in a database.
pub(super) async fn play(scene: Scene, journal: Option<&Journal>) -> Played {
    let title = if scene.breaks.is_empty() {
        "no fault".to_owned()
    } else {
        let name = |it: &Break| {
            let what = if it.undoing { "undo of " } else { "" };
            format!("{what}{} {:?}", it.step, it.harm)
        };
        let names: Vec<String> = scene.breaks.iter().map(name).collect();
        names.join(" and ")
    };
    // A moment that does not change, so that a scene is the same each time.
    let start = Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = Time::timers(start);
    let own = || Journal::new(MemoryStore::new(time.clone()));
    let mut stage = Stage {
        script: Script::new(scene.breaks.clone(), &scene.plan),
        scene,
        journal: journal.cloned().unwrap_or_else(own),
        has_own_clock: journal.is_some(),
        time,
        processes: 0,
        tasks: Tasks::new(),
    };
    let db = journal.and_then(|it| it.store().database().cloned());
    let played = match db {
        None => tokio::time::timeout(LONGEST, stage.act()).await,
        Some(db) => {
            let script = Arc::clone(&stage.script);
            tokio::select! {
                played = tokio::time::timeout(LONGEST_ON, stage.act()) => played,
                () = super::pace::pass(&db, &script) => unreachable!("time passes for ever"),
            }
        }
    };
    let (status, mut violations) = match played {
        Ok(Ok(played)) => played,
        Ok(Err(error)) => (Status::Pending, vec![format!("it was lost: {error}")]),
        Err(_) => {
            let what = "it neither ended nor was parked in all the time it had".to_owned();
            (Status::Executing, vec![what])
        }
    };
    violations.extend(check(&stage.scene.plan, status, &stage.script.events()));
    Played {
        title,
        status,
        violations,
    }
}

impl Stage {
    async fn act(&mut self) -> Result<(Status, Vec<String>)> {
        let (mut engine, mut died) = self.process()?;
        let id = SagaId::new();
        let order = Order {
            id,
            key: None,
            parent: None,
            input: self.scene.input.clone(),
            records: Vec::new(),
        };
        let plan = Arc::clone(&self.scene.plan);
        engine.start_plan(&plan, order).await?;
        self.answer(id).await?;
        let mut violations = Vec::new();
        let mut heals = 0;
        let is_settled = |it: Status| it.is_end() || it == Status::Parked;
        let status = loop {
            let ending = tokio::select! {
                biased;
                () = died.wait() => None,
                ending = engine.ending(id, is_settled) => Some(ending),
            };
            match ending.transpose()? {
                None => {
                    self.kill(&engine).await?;
                    self.script.note(Event::Died);
                    (engine, died) = self.process()?;
                }
                Some(ending) if ending.status == Status::Parked && heals < HEALS_MAX => {
                    heals += 1;
                    violations.extend(self.heal(&engine, id, heals).await?);
                }
                Some(ending) => break ending.status,
            }
        };
        self.kill(&engine).await?;
        violations.extend(self.outlined(id).await?);
        Ok((status, violations))
    }

    /// Ends a process at once. In time others notice; where that time is not ours, they know.
    async fn kill(&self, engine: &Engine) -> Result<()> {
        let owner = engine.owner();
        engine.crash();
        engine.0.stopped.wait().await;
        if let Some(owner) = owner.filter(|_| self.has_own_clock) {
            self.journal.store().leave(owner).await?;
        }
        Ok(())
    }

    /// A process without the definition sees the same as one that has it.
    async fn outlined(&self, id: SagaId) -> Result<Option<String>> {
        let outline = Outline::of(&self.scene.plan);
        let text = serde_json::to_string(&outline).map_err(Error::Json)?;
        let read: Outline = serde_json::from_str(&text).map_err(Error::Json)?;
        let mut stored = self.journal.store().load(&[id]).await?;
        let stored = stored.pop().ok_or(Error::NoSuchSaga { id })?;
        let see = |plan: Arc<Plan>| View::of(&plan, stored.clone(), None);
        let (own, others) = (see(Arc::clone(&self.scene.plan))?, see(read.plan())?);
        let is_same = own == others && read == outline;
        Ok((!is_same).then(|| "its outline shows another state".to_owned()))
    }

    /// Another process on the same journal.
    fn process(&mut self) -> Result<(Engine, Cancel)> {
        let died = Cancel::default();
        let faults = OfProcess {
            script: Arc::clone(&self.script),
            process: self.processes,
            died: died.clone(),
        };
        self.processes += 1;
        // A step that hangs in a transaction may hold the database for longer than a lease, and
        // nobody there notices that it ended.
        let lease = match self.has_own_clock {
            true => Duration::from_secs(3_600),
            false => Duration::from_secs(60),
        };
        let settings = EngineSettings {
            // Few timers, so that a month passes quickly.
            lease,
            renew_every: lease / 3,
            poll_every: Duration::from_secs(10),
            time: self.time.clone(),
            seed: Some(self.scene.seed),
            writers: 1,
            ..EngineSettings::default()
        };
        let engine = Engine::builder(&self.journal)
            .settings(settings)
            .plan(Arc::clone(&self.scene.plan))
            .faults(Arc::new(faults))
            .start(&self.tasks)?;
        Ok((engine, died))
    }

    /// Says everything that the saga may wait for.
    async fn answer(&self, saga: SagaId) -> Result<()> {
        for node in &self.scene.plan.nodes {
            let Work::Signal(signal) = &node.work else {
                continue;
            };
            let yes = Bytes::from_static(b"true");
            let value = self.scene.signals.get(&*signal.name).cloned();
            let letter = Letter {
                id: id::new(),
                saga,
                verb: SIGNAL.to_owned(),
                subject: signal.name.to_string(),
                payload: Some(value.unwrap_or(yes)),
                who: "the explorer".to_owned(),
                why: String::new(),
                at: self.time.now(),
            };
            self.journal.store().post(&letter).await?;
        }
        Ok(())
    }

    /// An operator repaired what was broken, and has every parked step tried again. A pivot that
    /// is refused by itself stays in doubt however often it is tried: somebody found out that it
    /// is not done.
    async fn heal(&self, engine: &Engine, saga: SagaId, heals: usize) -> Result<Option<String>> {
        self.script.heal();
        let by = By::new("the explorer", "healed");
        let view = engine.view(saga, None).await?;
        let parked = view.steps.iter().filter(|it| it.state == StepState::Parked);
        let parked: Vec<_> = parked.map(|it| (&it.name, it.pivot)).collect();
        if parked.is_empty() {
            return Ok(Some("it is parked, and no step is".to_owned()));
        }
        for (name, is_pivot) in parked {
            if is_pivot && heals > 1 {
                engine.skip(saga, name, &by).await?;
            } else {
                engine.retry(saga, name, &by).await?;
            }
        }
        // The engine needs to read the letter before it can be seen as parked again.
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok(None)
    }
}
