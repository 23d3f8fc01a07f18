//! The model: every key is a register with versions. A read must not answer a version older than
//! one whose change was acknowledged before the read began: at once in the writer's process, and in
//! another within the time that a change takes to be heard.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_cache::Policy;
use ratebox_kit::Stopwatch;
use ratebox_testkit::{RedisOptions, RedisServer, TcpProxy};

use crate::ground::{Node, Origin, Place, setting};

const MS: Duration = Duration::from_millis(1);

/// How long a change may take to be heard by another process on a busy machine.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// Acknowledged changes: version and time, by process and key.
#[derive(Default)]
struct History(Mutex<HashMap<(usize, String), Changes>>);

/// When changes of a key were acknowledged, in order, and the newest version until then.
type Changes = Vec<(Duration, u64)>;

impl History {
    fn acknowledge(&self, node: usize, key: &str, version: u64, at: Duration) {
        let mut history = self.0.lock().unwrap();
        let of_key = history.entry((node, key.to_owned())).or_default();
        // Of two at the same time the later one to come here may have been the earlier.
        let (last, newest) = of_key.last().copied().unwrap_or_default();
        of_key.push((last.max(at), newest.max(version)));
    }

    /// The least version that a read by `node` which began then may answer.
    fn floor(&self, node: usize, key: &str, began: Duration) -> u64 {
        let history = self.0.lock().unwrap();
        let floors = (0..2).map(|writer| {
            let by = match writer == node {
                true => Some(began),
                false => began.checked_sub(HEARD_WITHIN),
            };
            let Some((by, changes)) = by.zip(history.get(&(writer, key.to_owned()))) else {
                return 0;
            };
            let seen = changes.partition_point(|(at, _)| *at < by);
            let newest = seen.checked_sub(1).map(|last| changes[last].1);
            newest.unwrap_or(0)
        });
        floors.max().unwrap_or(0)
    }
}

/// How many operations: a million, for instance, with `RATEBOX_TEST_CACHE_OPERATIONS`.
fn operations(default: u64) -> usize {
    usize::try_from(setting("RATEBOX_TEST_CACHE_OPERATIONS", default)).unwrap()
}

/// What all chance of a run begins with; an earlier run's is named to see it again.
fn seed() -> u64 {
    setting("RATEBOX_TEST_SEED", fastrand::u64(..1 << 40))
}

fn policy() -> Policy {
    Policy {
        // Ends often, so that loads, fills and changes meet.
        jitter: 0.5,
        tags: vec!["all".to_owned()],
        stale: Duration::ZERO,
        ..Policy::ttl(MS * 20)
    }
}

/// One client that reads and changes keys by chance; answers the reads that were too old.
async fn client(
    nodes: &[Node; 2],
    seed: u64,
    operations: usize,
    history: &History,
    running: Stopwatch,
) -> usize {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut wrong = 0;
    for _ in 0..operations {
        let at = chance.usize(0..2);
        let (node, key) = (&nodes[at], chance.u8(0..10).to_string());
        match chance.u8(0..20) {
            0 => {
                let version = node.origin.write(&key);
                if node.cache.invalidate(&key).await.is_ok() {
                    history.acknowledge(at, &key, version, running.elapsed());
                }
            }
            1 => {
                let version = node.origin.write(&key);
                if node.cache.invalidate_tag("all").await.is_ok() {
                    history.acknowledge(at, &key, version, running.elapsed());
                }
            }
            2 => {
                let (origin, row) = (node.origin.clone(), key.clone());
                let write = async move { Ok::<_, std::io::Error>(origin.write(&row)) };
                let written = node.cache.write_through(&key, write).await.unwrap();
                if node.tier.is_watching() {
                    history.acknowledge(at, &key, *written.unwrap(), running.elapsed());
                }
            }
            _ => {
                let began = running.elapsed();
                let floor = history.floor(at, &key, began);
                let takes = MS * u32::from(chance.u8(0..3));
                if let Ok(version) = node.read(&key, takes).await {
                    wrong += usize::from(version < floor);
                }
            }
        }
    }
    wrong
}

async fn run(nodes: &[Node; 2], seed: u64, operations: usize) -> usize {
    let (history, running) = (History::default(), Stopwatch::start());
    let clients = (0..20).map(|n| client(nodes, seed + n, operations / 20, &history, running));
    join_all(clients).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_a_change_that_was_acknowledged_before_it() {
    let place = Place::shared();
    let origin = Origin::default();
    let nodes = [
        place.node(policy(), &origin).await,
        place.node(policy(), &origin).await,
    ];
    let seed = seed();
    assert_eq!(
        run(&nodes, seed, operations(40_000)).await,
        0,
        "seed {seed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_while_links_are_cut_at_random() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let place = Place::at(&server.url());
    let origin = Origin::default();
    let proxies = [(); 2].map(|()| TcpProxy::to(server.port()).unwrap());
    let through = |n: usize| place.by(&proxies[n].url(&server.url()));
    let nodes = [
        through(0).node(policy(), &origin).await,
        through(1).node(policy(), &origin).await,
    ];
    let seed = seed();
    let faults = async {
        let mut chance = fastrand::Rng::with_seed(seed);
        loop {
            tokio::time::sleep(MS * u32::from(chance.u8(50..250))).await;
            let proxy = &proxies[chance.usize(0..2)];
            proxy.cut();
            tokio::time::sleep(MS * u32::from(chance.u8(1..100))).await;
            proxy.resume();
        }
    };
    let wrong = tokio::select! {
        wrong = run(&nodes, seed, operations(20_000)) => wrong,
        () = faults => unreachable!("faults never end"),
    };
    assert_eq!(wrong, 0, "seed {seed}");
}
