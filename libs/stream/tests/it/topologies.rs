//! The log behind Sentinels and on a cluster: the suite, and failovers under load.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, Message, Stopwatch, Tasks};
use ratebox_stream::conformance::{Bed, Letters, done};
use ratebox_stream::{Append, Consumer, Entry, Handler, Log as _, Outcome, RedisLog, StreamName};
use ratebox_testkit::{
    Fsync, RedisCluster, RedisOptions, RedisServer, Replicas, WatchedRedis, wait_until,
};
use ratebox_valkey::{Login, Sentinels, Settings, Topology, Valkey};
use tokio::sync::OnceCell;

const PATIENCE: Duration = Duration::from_secs(60);

mod sentinel {
    use super::*;

    ratebox_stream::conformance!(bed);

    async fn bed() -> Bed {
        static SERVERS: OnceCell<WatchedRedis> = OnceCell::const_new();
        let start = async || WatchedRedis::start(RedisOptions::default()).unwrap();
        let settings = settings_behind(SERVERS.get_or_init(start).await);
        crate::redis::with(Valkey::lazy(&patient(settings)).unwrap())
    }
}

mod cluster {
    use super::*;

    ratebox_stream::conformance!(bed);

    async fn bed() -> Bed {
        crate::redis::with(Valkey::lazy(&cluster_settings().await).unwrap())
    }
}

/// The way to a cluster that the tests of this process share.
pub(crate) async fn cluster_settings() -> Settings {
    static NODES: OnceCell<RedisCluster> = OnceCell::const_new();
    let start = async || RedisCluster::start(&RedisOptions::default(), Replicas::None).unwrap();
    patient(settings_of(NODES.get_or_init(start).await))
}

/// For servers that are never away: a short wait would end with a machine that stands still.
pub(crate) fn patient(settings: Settings) -> Settings {
    Settings {
        connect_timeout: PATIENCE,
        response_timeout: PATIENCE,
        ..settings
    }
}

fn behind(watched: &WatchedRedis) -> Valkey {
    Valkey::lazy(&settings_behind(watched)).unwrap()
}

fn settings_behind(watched: &WatchedRedis) -> Settings {
    let addresses = watched.sentinels();
    let sentinels = Sentinels {
        primary: WatchedRedis::NAME.to_owned(),
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        login: Login::default(),
    };
    settings("redis://not-used", Topology::Sentinel(sentinels))
}

pub(crate) fn on(cluster: &RedisCluster) -> Valkey {
    Valkey::lazy(&settings_of(cluster)).unwrap()
}

pub(crate) fn settings_of(cluster: &RedisCluster) -> Settings {
    let others = cluster.ports();
    let others = others.map(|port| format!("127.0.0.1:{port}").parse().unwrap());
    settings(&cluster.url(), Topology::Cluster(others.collect()))
}

fn settings(url: &str, topology: Topology) -> Settings {
    Settings {
        topology,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..Settings::new(url)
    }
}

/// Remembers how often each message was done.
#[derive(Default)]
struct Ledger(Mutex<HashMap<String, u32>>);

impl Ledger {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn repeated(&self) -> usize {
        let done = self.0.lock().unwrap();
        done.values().filter(|times| **times > 1).count()
    }

    fn lacks(&self, ids: &[String]) -> Vec<String> {
        let done = self.0.lock().unwrap();
        ids.iter()
            .filter(|id| !done.contains_key(*id))
            .cloned()
            .collect()
    }
}

#[async_trait]
impl Handler for Ledger {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let mut seen = self.0.lock().unwrap();
        for entry in &batch {
            *seen.entry(entry.message_id().into_owned()).or_default() += 1;
        }
        batch.into_iter().map(done).collect()
    }
}

/// A consumer and a producer at work.
struct Load {
    ledger: Arc<Ledger>,
    accepted: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    consumer: Tasks,
    producer: Tasks,
}

impl Load {
    async fn start(bed: &Bed, valkey: Valkey) -> Self {
        let load = Self {
            ledger: Arc::default(),
            accepted: Arc::default(),
            stop: Arc::default(),
            consumer: Tasks::new(),
            producer: Tasks::new(),
        };
        let log = Arc::clone(&bed.log);
        let sub = bed.member("a").await;
        let consumer = Consumer::new(log, Letters::new(), sub, bed.policy(), Clock::system());
        let (of, ledger) = (load.consumer.clone(), load.ledger.clone());
        load.consumer
            .spawn("consumer", async move { consumer.run(ledger, &of).await });
        let produced = produce(
            RedisLog::new(valkey),
            bed.stream.clone(),
            load.stop.clone(),
            load.accepted.clone(),
        );
        load.producer.spawn("producer", produced);
        load
    }

    /// Until this many more were done.
    async fn flows(&self, more: usize) {
        let before = self.ledger.count();
        wait_until(PATIENCE, "work flows", || async {
            // Who panicked sends or does nothing more, however long is waited.
            let failed = [self.producer.failed(), self.consumer.failed()].concat();
            assert!(failed.is_empty(), "{failed:?} panicked");
            self.ledger.count() > before + more
        })
        .await;
    }

    /// So many messages were accepted.
    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Waits until the replica has everything that was accepted until now, and says how many that
    /// are: these must survive their primary, whatever the machine is busy with.
    async fn safe(&self, primary: &RedisServer) -> usize {
        let count = self.accepted();
        let (written, _) = offsets(primary).unwrap();
        wait_until(PATIENCE, "the replica has what was accepted", || async {
            offsets(primary).is_some_and(|(_, replicated)| replicated >= written)
        })
        .await;
        count
    }

    /// Ends the load; every message that was accepted must be done, but for those (by order) that
    /// only the lost primary had.
    async fn settle(self, bed: &Bed, may_be_lost: Range<usize>) {
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.producer.join(PATIENCE).await.is_empty());
        let accepted = self.accepted.lock().unwrap().clone();
        let must_be_done: Vec<String> = (0..)
            .zip(&accepted)
            .filter(|(place, _)| !may_be_lost.contains(place))
            .map(|(_, id)| id.clone())
            .collect();
        wait_until(PATIENCE, "all that was accepted is done", || async {
            self.ledger.lacks(&must_be_done).is_empty()
        })
        .await;
        wait_until(PATIENCE, "nothing is pending", || async {
            bed.pending("g").await == 0
        })
        .await;
        assert!(self.consumer.join(PATIENCE).await.is_empty());
        println!(
            "{} accepted, {} lost, {} done more than once",
            accepted.len(),
            self.ledger.lacks(&accepted).len(),
            self.ledger.repeated(),
        );
    }
}

/// Says how far everybody came when the test fails: a long stretch that is missing was accepted by a
/// server that lost it, and with nothing missing somebody stands still.
impl Drop for Load {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let accepted = self.accepted.lock();
        let accepted = accepted.unwrap_or_else(PoisonError::into_inner).clone();
        let lacks = self.ledger.lacks(&accepted);
        let place = |id: Option<&String>| accepted.iter().position(|it| Some(it) == id);
        println!(
            "{} accepted, {} of them not done, at places {:?} to {:?}; {} done; panicked: {:?}",
            accepted.len(),
            lacks.len(),
            place(lacks.first()),
            place(lacks.last()),
            self.ledger.count(),
            [self.producer.failed(), self.consumer.failed()].concat(),
        );
    }
}

/// Appends numbered messages until told to stop, and notes those that were accepted.
async fn produce(
    log: RedisLog,
    stream: StreamName,
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<Vec<String>>>,
) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let message = |number| Message::new(format!("m{number}"), "x".repeat(200));
        let batch = number..number + 20;
        let batch: Vec<Append> = batch
            .map(|number| Append::new(stream.clone(), message(number)))
            .collect();
        for (append, added) in batch.iter().zip(log.append(&batch).await) {
            match added {
                Ok(_) => accepted.lock().unwrap().push(append.message.id.0.clone()),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
        number += 20;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How far a primary has written, and how far its replica says it has come.
fn offsets(primary: &RedisServer) -> Option<(u64, u64)> {
    let info = primary.command(&["INFO", "replication"]).ok()?;
    let number = |text: &str, name: &str| {
        let (_, rest) = text.split_once(name)?;
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next();
        digits?.parse().ok()
    };
    let (text, replica) = (info.as_str()?, "slave0:");
    let (_, replica) = text.split_once(replica)?;
    Some((
        number(text, "master_repl_offset:")?,
        number(replica, "offset=")?,
    ))
}

/// Of a test's machine, which does much else: a second and a half by itself.
const FLOWS_AGAIN_MAX: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_work_goes_on_when_the_primary_dies_under_load() {
    let options = RedisOptions::default().fsync(Fsync::EverySecond);
    let mut watched = WatchedRedis::start(options).unwrap();
    let bed = crate::redis::with(behind(&watched));
    let load = Load::start(&bed, behind(&watched)).await;
    load.flows(500).await;
    let old = watched.primary();
    let safe = load.safe(watched.server(old)).await;
    let dead = Stopwatch::start();
    watched.server(old).kill9();
    wait_until(PATIENCE, "there is a new primary", || async {
        watched.primary() != old
    })
    .await;
    let may_be_lost = safe..load.accepted();
    load.flows(200).await;
    println!("work flowed again after {:?}", dead.elapsed());
    // Who comes back is told to follow, and says READONLY to whoever took it for the primary.
    watched.server(old).restart().unwrap();
    wait_until(PATIENCE, "the old primary follows", || async {
        watched.is_synced_replica(old)
    })
    .await;
    load.flows(200).await;
    load.settle(&bed, may_be_lost).await;
}

/// A frozen one keeps its connections: only the Sentinels can tell that nobody answers any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_work_goes_on_when_the_primary_freezes_under_load() {
    let options = RedisOptions::default().fsync(Fsync::EverySecond);
    let mut watched = WatchedRedis::start(options).unwrap();
    // Longer than this test waits: no timeout helps.
    let patient = || {
        let settings = settings_behind(&watched);
        Valkey::lazy(&Settings {
            response_timeout: PATIENCE * 2,
            ..settings
        })
        .unwrap()
    };
    let bed = crate::redis::with(patient());
    let load = Load::start(&bed, patient()).await;
    load.flows(500).await;
    let old = watched.primary();
    let safe = load.safe(watched.server(old)).await;
    watched.server(old).pause().unwrap();
    wait_until(PATIENCE, "there is a new primary", || async {
        watched.primary() != old
    })
    .await;
    let promoted = Stopwatch::start();
    let may_be_lost = safe..load.accepted();
    load.flows(200).await;
    let flows_after = promoted.elapsed();
    println!("work flowed again {flows_after:?} after the promotion");
    assert!(flows_after < FLOWS_AGAIN_MAX, "{flows_after:?}");
    watched.server(old).resume().unwrap();
    wait_until(PATIENCE, "the old primary follows", || async {
        watched.is_synced_replica(old)
    })
    .await;
    load.flows(200).await;
    load.settle(&bed, may_be_lost).await;
}

/// What the old primary takes after the Sentinels chose another one is lost when it is told to
/// follow, seconds later: nobody but the outbox of the sender can help there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_primary_is_demoted_under_load_everybody_moves_to_the_new_one() {
    let mut watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::with(behind(&watched));
    let load = Load::start(&bed, behind(&watched)).await;
    load.flows(500).await;
    let old = watched.primary();
    let safe = load.safe(watched.server(old)).await;
    wait_until(PATIENCE, "the Sentinels move it", || async {
        let _ = watched.fail_over();
        watched.primary() != old
    })
    .await;
    wait_until(PATIENCE, "the old primary follows", || async {
        watched.is_synced_replica(old)
    })
    .await;
    let may_be_lost = safe..load.accepted();
    load.flows(200).await;
    load.settle(&bed, may_be_lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_work_goes_on_when_its_primary_dies_under_load() {
    let mut cluster = RedisCluster::start(&RedisOptions::default(), Replicas::OneEach).unwrap();
    let settings = settings_of(&cluster);
    its_primary_dies(&mut cluster, &settings).await;
}

/// The primary of the stream dies and comes back, while work is sent and done.
pub(crate) async fn its_primary_dies(cluster: &mut RedisCluster, settings: &Settings) {
    let bed = crate::redis::with(Valkey::lazy(settings).unwrap());
    let load = Load::start(&bed, Valkey::lazy(settings).unwrap()).await;
    load.flows(500).await;
    let owner = cluster.owner_of(bed.stream.as_str()).unwrap();
    let safe = load.safe(&cluster.nodes()[owner]).await;
    let dead = Stopwatch::start();
    cluster.nodes()[owner].kill9();
    wait_until(PATIENCE, "its replica took over", || async {
        cluster
            .owner_of(bed.stream.as_str())
            .is_ok_and(|now| now != owner)
    })
    .await;
    let may_be_lost = safe..load.accepted();
    load.flows(200).await;
    println!("work flowed again after {:?}", dead.elapsed());
    cluster.nodes()[owner].restart().unwrap();
    load.flows(200).await;
    load.settle(&bed, may_be_lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_work_goes_on_after_the_stream_moved_to_another_node() {
    let cluster = RedisCluster::start(&RedisOptions::default(), Replicas::None).unwrap();
    let bed = crate::redis::with(on(&cluster));
    let load = Load::start(&bed, on(&cluster)).await;
    for _ in 0..3 {
        load.flows(300).await;
        let to = (cluster.owner_of(bed.stream.as_str()).unwrap() + 1) % 3;
        // In between, scripts over several keys are told to try again, and promotions wait: all
        // else goes on.
        cluster.begin_move(bed.stream.as_str(), to).unwrap();
        load.flows(300).await;
        cluster.end_move(bed.stream.as_str(), to).unwrap();
    }
    load.flows(300).await;
    load.settle(&bed, 0..0).await;
}
