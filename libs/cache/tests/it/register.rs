//! The model: every key is a register with versions. Clients read and change keys by chance, through
//! two caches that share a server and nothing else, as those of two processes do; the whole history
//! is judged afterwards. Tiers that lack one of their guards show that the judge finds it.
//!
//! A run of CI does some tens of thousands of operations; by hand it is a million:
//! `RATEBOX_TEST_CACHE_OPERATIONS=1000000`. Each prints its seed, its size, its time and its faults.

mod clients;
mod faults;
mod history;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clients::{Client, Done, LoadsMay, Rows};
use faults::Faults;
use history::{Findings, judge};
use ratebox_cache::{Early, Guard, Policy};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_testkit::{Fsync, RedisOptions, RedisServer, TcpProxy, wait_until};
use tokio::task::JoinSet;

use crate::ground::{Node, Origin, Place, SOON, setting};

const MS: Duration = Duration::from_millis(1);

/// How long a change may take to be heard by another process on a busy machine, while that runs.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// The same where links may be silent: the heartbeat and the timeout of the tests' tiers are added.
const NOTICED_WITHIN: Duration = Duration::from_millis(1_200);

/// Of a load; short, so that one that stalls outlives it.
const LEASE: Duration = Duration::from_millis(300);

/// Clients at work at once.
const CLIENTS: usize = 64;

/// One run: processes, what they may expect, and how much is done.
struct Run {
    nodes: Vec<Node>,
    loads: LoadsMay,
    heard_within: Duration,
    operations: usize,
    seed: u64,
}

/// What a run came to.
struct Outcome {
    findings: Findings,
    errors: usize,
    text: String,
}

// === impl Run ===

impl Run {
    async fn new(nodes: Vec<Node>, operations: usize) -> Self {
        for node in &nodes {
            let tier = &node.tier;
            wait_until(SOON, "the tier hears", || async { tier.is_watching() }).await;
        }
        Self {
            nodes,
            loads: LoadsMay::Succeed,
            heard_within: HEARD_WITHIN,
            operations,
            seed: setting("RATEBOX_TEST_SEED", fastrand::u64(..1 << 40)),
        }
    }

    async fn go(self, mut faults: Option<&mut Faults>) -> Outcome {
        let watch = Stopwatch::start();
        let (rows, nodes) = (Rows::new(self.loads), Arc::new(self.nodes));
        let client = |n: usize| Client {
            nodes: Arc::clone(&nodes),
            rows: rows.clone(),
            chance: fastrand::Rng::with_seed(self.seed + n as u64),
        };
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            clients.spawn(client(n).run(self.operations / CLIENTS));
        }
        let mut done: Vec<Done> = match faults.as_deref_mut() {
            None => clients.join_all().await,
            Some(faults) => tokio::select! {
                done = clients.join_all() => done,
                () = faults.run() => unreachable!("faults never end"),
            },
        };
        let took = watch.elapsed();
        if let Some(faults) = faults.as_deref_mut() {
            faults.end();
        }
        // Everything is in order again: nothing old may be left anywhere.
        for node in nodes.iter() {
            wait_until(SOON, "all hear", || async { node.tier.is_watching() }).await;
        }
        tokio::time::sleep(self.heard_within).await;
        done.push(client(CLIENTS).read_all().await);
        let errors = done.iter().map(|done| done.errors).sum();
        let calls = done.into_iter().flat_map(|done| done.calls);
        let calls: Vec<_> = calls.map(|call| rows.awake(call)).collect();
        let findings = judge(&calls, nodes.len(), &rows.begun(), self.heard_within);
        let counts: Vec<_> = nodes.iter().map(|node| node.cache.stats()).collect();
        let loads: u64 = counts.iter().map(|stats| stats.loads).sum();
        let refused: u64 = counts.iter().map(|stats| stats.fills_refused).sum();
        let text = format!(
            "seed {}: {} operations in {:.1} s, judged after {:.1} s: {} reads, {} writes, {errors} \
             errors, {loads} loads, {refused} fills refused, faults {:?}; {} stale, {} invented; {}",
            self.seed,
            self.operations,
            took.as_secs_f64(),
            watch.elapsed().as_secs_f64(),
            findings.reads,
            findings.writes,
            faults.map(|faults| faults.done.clone()).unwrap_or_default(),
            findings.stale,
            findings.invented,
            findings.example.as_deref().unwrap_or_default(),
        );
        println!("{text}");
        Outcome {
            findings,
            errors,
            text,
        }
    }
}

/// How many operations: a million, for instance, with `RATEBOX_TEST_CACHE_OPERATIONS`.
fn operations(default: u64) -> usize {
    usize::try_from(setting("RATEBOX_TEST_CACHE_OPERATIONS", default)).unwrap()
}

/// Long lives: what is missed stays missed.
fn policy() -> Policy {
    Policy {
        jitter: 0.5,
        tags: vec!["all".to_owned()],
        stale: Duration::ZERO,
        lease: LEASE,
        ..Policy::ttl(Duration::from_secs(20))
    }
}

/// Short lives, stale values and early refreshes: loads that nobody waits for.
fn restless() -> Policy {
    let policy = Policy {
        ttl: MS * 50,
        early: Early::Chance(1.0),
        ..policy()
    };
    policy.stale_while_revalidate(MS * 200)
}

async fn two(place: &Place, policy: &Policy) -> Vec<Node> {
    let origin = Origin::default();
    vec![
        place.node(policy.clone(), &origin).await,
        place.node(policy.clone(), &origin).await,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_a_change_that_was_acknowledged_before_it() {
    for place in [Place::shared(), Place::shared_valkey()] {
        let run = Run::new(two(&place, &policy()).await, operations(30_000)).await;
        let outcome = run.go(None).await;
        assert_eq!(outcome.findings.wrong(), 0, "{}", outcome.text);
        assert_eq!(outcome.errors, 0, "{}", outcome.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_lives_are_short_and_stale_values_stand_in() {
    let run = Run::new(two(&Place::shared(), &restless()).await, operations(30_000)).await;
    let outcome = run.go(None).await;
    assert_eq!(outcome.findings.wrong(), 0, "{}", outcome.text);
    assert_eq!(outcome.errors, 0, "{}", outcome.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_values_are_filled_behind_their_readers() {
    let policy = Policy {
        fill_behind: true,
        ..policy()
    };
    let run = Run::new(two(&Place::shared(), &policy).await, operations(30_000)).await;
    let outcome = run.go(None).await;
    assert_eq!(outcome.findings.wrong(), 0, "{}", outcome.text);
    assert_eq!(outcome.errors, 0, "{}", outcome.text);
}

/// Two processes, each with a link of its own to a server that keeps nothing over a restart.
async fn breakable(guard: Option<Guard>, operations: usize) -> (Run, Faults) {
    let options = RedisOptions::default().fsync(Fsync::NoFile);
    let server = RedisServer::start(options).unwrap();
    let place = Place::at(&server.url());
    let links: Vec<TcpProxy> = (0..2)
        .map(|_| TcpProxy::to(server.port()).unwrap())
        .collect();
    let nodes = links.iter().map(|link| {
        let by = place.by(&link.url(&server.url()));
        lacking(&by, &policy(), guard)
    });
    let run = Run {
        loads: LoadsMay::FailAndStall,
        heard_within: NOTICED_WITHIN,
        ..Run::new(nodes.collect(), operations).await
    };
    let chance = fastrand::Rng::with_seed(run.seed);
    let faults = Faults {
        server,
        links,
        chance,
        done: BTreeMap::new(),
    };
    (run, faults)
}

/// A process without one of the guards.
fn lacking(place: &Place, policy: &Policy, guard: Option<Guard>) -> Node {
    let tasks = Tasks::new();
    let tier = place.lazy_tier(&tasks);
    let tier = match guard {
        Some(guard) => tier.without(guard),
        None => tier,
    };
    Node::over(tier, tasks, policy.clone(), &Origin::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_while_links_and_server_fail_and_loads_with_them() {
    let (run, mut faults) = breakable(None, operations(20_000)).await;
    let outcome = run.go(Some(&mut faults)).await;
    assert_eq!(outcome.findings.wrong(), 0, "{}", outcome.text);
    assert!(!faults.done.is_empty(), "{}", outcome.text);
}

/// Runs over tiers without a guard until a read is stale: which one it takes is chance.
async fn is_caught(guard: Guard) {
    for n in 0..RUNS_MAX {
        let outcome = match guard {
            Guard::Doubt | Guard::Repairs => {
                let (mut run, mut faults) = breakable(Some(guard), 60_000).await;
                run.seed += n;
                faults.chance = fastrand::Rng::with_seed(run.seed);
                run.go(Some(&mut faults)).await
            }
            Guard::Leases | Guard::Ear | Guard::Fence | Guard::Counts => {
                let place = Place::shared();
                let nodes = (0..2).map(|_| lacking(&place, &policy(), Some(guard)));
                Run::new(nodes.collect(), 30_000).await.go(None).await
            }
        };
        if outcome.findings.stale > 0 {
            return;
        }
    }
    panic!("nothing was stale without {guard:?}");
}

/// Most are caught by the first.
const RUNS_MAX: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_without_leases_is_caught() {
    is_caught(Guard::Leases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_without_its_ear_is_caught() {
    is_caught(Guard::Ear).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_without_its_fence_is_caught() {
    is_caught(Guard::Fence).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_without_counts_is_caught() {
    is_caught(Guard::Counts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_without_doubt_is_caught() {
    is_caught(Guard::Doubt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_without_repairs_is_caught() {
    is_caught(Guard::Repairs).await;
}
