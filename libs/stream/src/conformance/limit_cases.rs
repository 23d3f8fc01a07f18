//! Cases about rates and caps over several members.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Stopwatch;

use super::{OrderBed, done};
use crate::{Entry, Handler, Limit, Outcome, Rate, Rules, Scope, field};

/// Notes when each message started and how many of an owner were at work at once.
struct Meter {
    watch: Stopwatch,
    takes: Duration,
    state: Mutex<Metered>,
}

#[derive(Default)]
struct Metered {
    starts: Vec<(u64, String)>,
    at_work: HashMap<String, usize>,
    most: HashMap<String, usize>,
    most_of_all: usize,
    again: usize,
}

impl Meter {
    fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            watch: Stopwatch::start(),
            takes,
            state: Mutex::default(),
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Metered) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self) -> usize {
        self.with(|state| state.starts.len())
    }

    fn count_of(&self, name: &str) -> usize {
        self.with(|state| {
            state
                .starts
                .iter()
                .filter(|(_, of)| of.starts_with(name))
                .count()
        })
    }

    /// The most starts in any window.
    fn most_in(&self, window_ms: u64) -> usize {
        self.with(|state| {
            let times: Vec<u64> = state.starts.iter().map(|(at, _)| *at).collect();
            let within = |from: u64| move |at: &&u64| (from..from + window_ms).contains(*at);
            let counts = times
                .iter()
                .map(|from| times.iter().filter(within(*from)).count());
            counts.max().unwrap_or(0)
        })
    }
}

fn name_of(entry: &Entry) -> String {
    let text = |name: &str| {
        let value = entry
            .field(name)
            .map(|value| value.to_vec())
            .unwrap_or_default();
        String::from_utf8(value).unwrap()
    };
    text(field::OWNER)
}

#[async_trait]
impl Handler for Meter {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let now = self.watch.elapsed_ms();
        self.with(|state| {
            for entry in &batch {
                let id = entry.message_id().into_owned();
                state.again += usize::from(entry.attempt() > 0);
                state.starts.push((now, id));
                let at_work = state.at_work.entry(name_of(entry)).or_default();
                *at_work += 1;
                let (name, now_at_work) = (name_of(entry), *at_work);
                let most = state.most.entry(name).or_default();
                *most = now_at_work.max(*most);
            }
            let all = state.at_work.values().sum();
            state.most_of_all = state.most_of_all.max(all);
        });
        tokio::time::sleep(self.takes).await;
        self.with(|state| {
            for entry in &batch {
                *state.at_work.entry(name_of(entry)).or_default() -= 1;
            }
        });
        batch.into_iter().map(done).collect()
    }
}

fn rate(max: u32, window_ms: u64) -> Limit {
    Limit {
        rate: Some(Rate { max, window_ms }),
        at_work: None,
    }
}

fn cap(max: u32) -> Limit {
    Limit {
        rate: None,
        at_work: Some(max),
    }
}

/// Rules are read as they were set.
pub async fn rules_are_kept_until_they_are_removed(bed: OrderBed) {
    let limits = bed.connect().limits;
    let sub = bed.bed.member("a").await;
    assert_eq!(limits.rules(&sub).await.unwrap(), Rules::new());
    let both = Limit {
        rate: Some(Rate::per_second(5)),
        at_work: Some(2),
    };
    bed.limit(Scope::all(), both).await;
    bed.limit(Scope::owner("some/one"), cap(0)).await;
    let rules = limits.rules(&sub).await.unwrap();
    assert_eq!(
        rules,
        Rules::from([(Scope::all(), both), (Scope::owner("some/one"), cap(0))])
    );
    bed.limit(Scope::all(), Limit::default()).await;
    assert_eq!(limits.rules(&sub).await.unwrap().len(), 1);
    let hasty = limits.set_limit(&sub, &Scope::all(), rate(1, 10)).await;
    assert!(hasty.is_err(), "too short a window");
}

/// In no window more start than the rate says, and waiting costs no attempt.
pub async fn a_rate_holds_over_members_that_come_go_and_die(bed: OrderBed) {
    const WINDOW_MS: u64 = 500;
    bed.limit(Scope::all(), rate(30, WINDOW_MS)).await;
    let meter = Meter::new(Duration::from_millis(1));
    bed.append_of("o", "k", 150).await;
    let mut a = bed.limited("a", meter.clone()).await;
    let b = bed.limited("b", meter.clone()).await;
    bed.until("some started", async || meter.count() >= 40)
        .await;
    a.kill();
    let c = bed.limited("c", meter.clone()).await;
    bed.until("more started", async || meter.count() >= 80)
        .await;
    b.stop().await;
    bed.until("nothing is owed", async || {
        meter.count() >= 150 && bed.bed.pending("g").await == 0
    })
    .await;
    // What a permit may be late is in the rate already; what the runtime is late is not.
    let most = meter.most_in(WINDOW_MS - 50);
    assert!(most <= 30, "{most} in a window");
    assert_eq!(
        (meter.with(|it| it.again), bed.letters.kept().len()),
        (0, 0)
    );
    c.stop().await;
}

/// What waits for its key's rate lets all others pass, and keeps its order.
pub async fn a_limited_key_holds_up_no_other(bed: OrderBed) {
    bed.limit(Scope::key("slow"), rate(5, 500)).await;
    let meter = Meter::new(Duration::ZERO);
    bed.append_of("o", "slow", 20).await;
    bed.append_of("o", "quick", 300).await;
    let a = bed.limited("a", meter.clone()).await;
    bed.until("the others are done", async || {
        meter.count_of("o-quick") == 300
    })
    .await;
    assert!(
        meter.count_of("o-slow") <= 10,
        "{}",
        meter.count_of("o-slow")
    );
    bed.until("all are done", async || meter.count() == 320)
        .await;
    let order = meter.with(|it| {
        let slow = it.starts.iter().filter(|(_, id)| id.starts_with("o-slow"));
        slow.map(|(_, id)| id.clone()).collect::<Vec<_>>()
    });
    let expected: Vec<String> = (0..20).map(|number| format!("o-slow-{number}")).collect();
    assert_eq!(order, expected);
    a.stop().await;
}

/// So many at once of each owner, so many of all, over two members; a dead one's are free again.
pub async fn caps_hold_over_members_and_come_back_from_the_dead(bed: OrderBed) {
    bed.limit(Scope::each_owner(), cap(3)).await;
    bed.limit(Scope::owner("big"), cap(4)).await;
    bed.limit(Scope::all(), cap(6)).await;
    let meter = Meter::new(Duration::from_millis(10));
    bed.append_of("big", "k", 40).await;
    bed.append_of("small", "k", 40).await;
    let mut a = bed.limited("a", meter.clone()).await;
    let b = bed.limited("b", meter.clone()).await;
    bed.until("some are done", async || meter.count() >= 30)
        .await;
    assert!(meter.with(|it| it.most["big"] <= 4 && it.most["small"] <= 3 && it.most_of_all <= 6));
    a.kill();
    // What the dead one had at work never ends in the meter.
    bed.until("nothing is owed", async || {
        meter.count() >= 80 && bed.bed.pending("g").await == 0
    })
    .await;
    assert_eq!(bed.letters.kept().len(), 0);
    b.stop().await;
}

/// From none to one, to a wider one, to none.
pub async fn a_limit_changes_while_it_holds(bed: OrderBed) {
    let meter = Meter::new(Duration::ZERO);
    let a = bed.limited("a", meter.clone()).await;
    bed.append_of("o", "k", 50).await;
    bed.until("without a limit all are done", async || meter.count() == 50)
        .await;
    bed.limit(Scope::all(), rate(0, 500)).await;
    bed.bed.pass(bed.policy().claim_every * 3).await;
    bed.append_of("o", "l", 50).await;
    bed.bed.pass(Duration::from_millis(300)).await;
    assert_eq!(meter.count(), 50, "a rate of nothing lets nothing pass");
    bed.limit(Scope::all(), rate(10, 500)).await;
    bed.until("some are done", async || meter.count() >= 60)
        .await;
    assert!(meter.count() <= 80);
    bed.limit(Scope::all(), Limit::default()).await;
    bed.until("all are done", async || meter.count() == 100)
        .await;
    a.stop().await;
}
