//! Order and fairness under load, with members that are killed and processes of their own.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, Message, Stopwatch, Tasks};
use ratebox_stream::conformance::{Effects, Fate, Letters, done};
use ratebox_stream::{
    Append, Consumer, ConsumerName, Door, Entrant, Entry, GroupName, Handler, KeyOrder, Lanes,
    Limit, Limits as _, Log, Outcome, Policy, RedisLog, Rooms, Scope, StreamName, Subscription,
    field,
};
use ratebox_testkit::{RedisServer, wait_until};
use ratebox_valkey::{Settings, Valkey};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(120);

/// Members come, go and die while one message in fifty fails; 1,000 keys over 8 partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_out_of_order_in_a_hundred_thousand_messages() {
    const MESSAGES: usize = 100_000;
    let url = RedisServer::shared().unwrap().url();
    let bed = crate::order::on(Settings::new(url));
    let partitions = bed.partitions(8);
    let tries = AtomicUsize::new(0);
    let effects = Effects::new(move |_, _| {
        let fails = tries.fetch_add(1, Ordering::SeqCst) % 50 == 49;
        fails.then_some(Fate::Retry)
    });
    bed.append_keyed(&partitions, MESSAGES, 1_000).await;
    let watch = Stopwatch::start();
    let start = |name: &str| {
        let terms = bed.terms(KeyOrder::PerKey);
        bed.process(name, &partitions, terms, effects.handlers())
    };
    let mut members = vec![start("m0"), start("m1"), start("m2")];
    let finished = || effects.count() + bed.letters.kept().len();
    for round in 1..=6 {
        wait_until(PATIENCE, "work flows", || async {
            finished() > round * 12_000
        })
        .await;
        let mut one = members.remove(0);
        if round % 2 == 0 {
            one.stop().await;
        } else {
            one.kill();
        }
        members.push(start(&format!("m{}", round + 2)));
    }
    wait_until(PATIENCE, "all are finished", || async {
        finished() >= MESSAGES
    })
    .await;
    wait_until(PATIENCE, "nothing is pending", || async {
        bed.pending(&partitions).await == 0
    })
    .await;
    println!(
        "{MESSAGES} messages, {} tries, {} letters, {} refused effects in {:?}",
        effects.tries(),
        bed.letters.kept().len(),
        effects.refused(),
        watch.elapsed()
    );
    assert_eq!(effects.inversions(), 0);
    assert_eq!(finished(), MESSAGES);
    for member in members {
        member.stop().await;
    }
}

fn connect(url: &str) -> Valkey {
    Valkey::lazy(&Settings::new(url)).unwrap()
}

fn member(stream: &str, name: &str) -> Subscription {
    let lanes = Lanes::of(&StreamName::new(stream));
    Subscription::new(lanes, GroupName::new("g"), ConsumerName::new(name))
}

/// Counts on the server what is done of each owner, and how many are at work.
struct Tally {
    valkey: Valkey,
    stream: String,
}

impl Tally {
    fn key(stream: &str, what: &str) -> String {
        format!("{stream}:{what}")
    }
}

#[async_trait]
impl Handler for Tally {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let owner = |entry: &Entry| {
            let owner = entry.field(field::OWNER).unwrap();
            String::from_utf8(owner.to_vec()).unwrap()
        };
        let mut owners: Vec<String> = batch.iter().map(owner).collect();
        owners.sort_unstable();
        let groups = owners.chunk_by(|a, b| a == b);
        let counts: Vec<(&String, i64)> = groups
            .map(|group| (&group[0], i64::try_from(group.len()).unwrap()))
            .collect();
        for (owner, count) in &counts {
            let mut begin = cmd("HINCRBY");
            begin
                .arg(Tally::key(&self.stream, "at-work"))
                .arg(*owner)
                .arg(*count);
            let at_work: i64 = self.valkey.query_as(&begin).await.unwrap();
            let mut most = cmd("ZADD");
            most.arg(Tally::key(&self.stream, "most"))
                .arg("GT")
                .arg(at_work)
                .arg(*owner);
            self.valkey.query(&most).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut end = redis::pipe();
        for (owner, count) in &counts {
            end.cmd("HINCRBY")
                .arg(Tally::key(&self.stream, "at-work"))
                .arg(*owner)
                .arg(-count);
            end.cmd("HINCRBY")
                .arg(Tally::key(&self.stream, "done"))
                .arg(*owner)
                .arg(*count);
        }
        self.valkey.pipeline(&end).await.unwrap();
        batch.into_iter().map(done).collect()
    }
}

/// What a process of its own runs: the test binary again, with this test alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "runs as a process of another test"]
async fn a_member_of_its_own() {
    let Ok(place) = std::env::var("RATEBOX_MEMBER") else {
        return;
    };
    let (url, stream) = place.split_once(' ').unwrap();
    let log = Arc::new(RedisLog::new(connect(url)));
    let sub = member(stream, &format!("member-{}", std::process::id()));
    let policy = Policy::default();
    let consumer = Consumer::new(log.clone(), Letters::new(), sub, policy, Clock::system())
        .with_limits(log.clone())
        .with_rooms(log, Door::default());
    let valkey = connect(url);
    let stream = stream.to_owned();
    let (tasks, handler) = (Tasks::new(), Arc::new(Tally { valkey, stream }));
    consumer.run(handler, &tasks).await;
}

struct Member(Child);

impl Member {
    fn start(url: &str, stream: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "order_load::a_member_of_its_own", "--ignored"])
            .env("RATEBOX_MEMBER", format!("{url} {stream}"))
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn count_of(valkey: &Valkey, stream: &str, owner: &str) -> u64 {
    let mut get = cmd("HGET");
    get.arg(Tally::key(stream, "done")).arg(owner);
    let count: Option<u64> = valkey.query_as(&get).await.unwrap();
    count.unwrap_or(0)
}

fn flood(stream: &str, owner: &str, from: usize, count: usize) -> Vec<Entrant> {
    let entrant = |number: usize| {
        let message = Message::new(format!("{owner}-{number}"), "x".repeat(200));
        Entrant {
            append: Append::new(
                StreamName::new(stream),
                message.with_header(field::OWNER, owner),
            ),
            owner: owner.to_owned(),
        }
    };
    (from..from + count).map(entrant).collect()
}

/// A stream with a producer, and the processes that work on it.
struct Scene {
    url: &'static str,
    valkey: Valkey,
    log: RedisLog,
    sub: Subscription,
    stream: String,
}

impl Scene {
    async fn new(stream: String) -> Self {
        let url = RedisServer::shared().unwrap().url();
        let valkey = connect(url);
        let (log, sub) = (RedisLog::new(valkey.clone()), member(&stream, "producer"));
        log.ensure_group(&sub).await.unwrap();
        Self {
            url,
            valkey,
            log,
            sub,
            stream,
        }
    }

    fn two_processes(&self) -> [Member; 2] {
        [(); 2].map(|()| Member::start(self.url, &self.stream))
    }

    async fn send(&self, owner: &str, from: usize, count: usize) {
        let entrants = flood(&self.stream, owner, from, count);
        for entered in self.log.enter(&self.sub, &entrants, Door::default()).await {
            entered.unwrap();
        }
    }

    async fn done(&self, owner: &str) -> u64 {
        count_of(&self.valkey, &self.stream, owner).await
    }

    /// How long ten messages of an owner take.
    async fn ten(&self, owner: &str) -> Duration {
        let watch = Stopwatch::start();
        self.send(owner, 0, 10).await;
        wait_until(PATIENCE, "ten are done", || async {
            self.done(owner).await == 10
        })
        .await;
        watch.elapsed()
    }
}

/// One owner sends `count` messages; then another sends ten. Two processes work.
async fn ten_beside(count: usize) {
    let scene = Scene::new(format!("fair{count}")).await;
    let cap = Limit {
        rate: None,
        at_work: Some(300),
    };
    let scope = Scope::owner("flood");
    scene.log.set_limit(&scene.sub, &scope, cap).await.unwrap();
    let members = scene.two_processes();
    scene.ten("first").await;
    let idle = scene.ten("idle").await;
    drop(members);
    let watch = Stopwatch::start();
    for from in (0..count).step_by(10_000) {
        scene.send("flood", from, 10_000.min(count - from)).await;
    }
    let sent = watch.elapsed();
    let members = scene.two_processes();
    wait_until(PATIENCE, "the flood flows", || async {
        scene.done("flood").await > 5_000
    })
    .await;
    let took = scene.ten("small").await;
    let of_flood = scene.done("flood").await;
    let mut most = cmd("ZSCORE");
    most.arg(Tally::key(&scene.stream, "most")).arg("flood");
    let most: f64 = scene.valkey.query_as(&most).await.unwrap();
    println!(
        "{count} entered in {sent:?}; ten took {idle:?} when idle and {took:?} beside the flood, \
         of which {of_flood} were done and {most} at work at most"
    );
    assert!(most <= 300.0, "the cap holds over processes");
    assert!(of_flood < count as u64, "the flood was not over");
    assert!(
        took < idle * 5 + Duration::from_secs(2),
        "{took:?} instead of {idle:?}"
    );
    drop(members);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_messages_do_not_wait_for_an_owners_sixty_thousand() {
    ten_beside(60_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn ten_messages_do_not_wait_for_an_owners_million() {
    ten_beside(1_000_000).await;
}

/// Microseconds of the server that a command took since the last look.
async fn server_us(valkey: &Valkey, command: &str) -> f64 {
    let mut info = cmd("INFO");
    info.arg("commandstats");
    let text: String = valkey.query_as(&info).await.unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let us = line.and_then(|line| line.split_once("usec=")?.1.split(',').next()?.parse().ok());
    let mut reset = cmd("CONFIG");
    reset.arg("RESETSTAT");
    valkey.query(&reset).await.unwrap();
    us.unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn what_doors_and_permits_cost_the_server() {
    const COUNT: usize = 50_000;
    let server = RedisServer::start(ratebox_testkit::RedisOptions::default()).unwrap();
    let valkey = connect(&server.url());
    let log = RedisLog::new(valkey.clone());
    let sub = member("cost", "a");
    log.ensure_group(&sub).await.unwrap();
    let each = |us: f64| us / COUNT as f64;
    let entrants = flood("cost", "o", 0, COUNT);
    let appends: Vec<Append> = entrants.iter().map(|it| it.append.clone()).collect();
    server_us(&valkey, "xadd").await;
    log.append(&appends).await;
    println!(
        "append: {:.2} us a message",
        each(server_us(&valkey, "xadd").await)
    );
    let wide = Door {
        window: usize::MAX / 2,
        turn: 10,
    };
    log.enter(&sub, &entrants, wide).await;
    println!(
        "enter onto a short lane: {:.2} us",
        each(server_us(&valkey, "evalsha").await)
    );
    let shut = Door {
        window: 0,
        turn: 10,
    };
    log.enter(&sub, &entrants, shut).await;
    println!(
        "enter into a room: {:.2} us",
        each(server_us(&valkey, "evalsha").await)
    );
    while log.admit(&sub, wide, &[], 500).await.unwrap() > 0 {}
    println!(
        "admit from it: {:.2} us",
        each(server_us(&valkey, "evalsha").await)
    );
    let limit = Limit {
        rate: Some(ratebox_stream::Rate::per_second(1_000_000)),
        at_work: Some(1_000_000),
    };
    for scope in [Scope::all(), Scope::each_owner(), Scope::each_key()] {
        log.set_limit(&sub, &scope, limit).await.unwrap();
    }
    let ask = ratebox_stream::limits::Ask {
        scopes: vec![Scope::all(), Scope::owner("o"), Scope::key("k")],
        count: 100,
    };
    server_us(&valkey, "evalsha").await;
    let lease = Duration::from_secs(12);
    for _ in 0..1_000 {
        log.acquire(
            &sub,
            std::slice::from_ref(&ask),
            &ratebox_stream::limits::AtWork::new(),
            lease,
        )
        .await
        .unwrap();
    }
    let us = server_us(&valkey, "evalsha").await / 1_000.0;
    println!("a call for permits under three scopes, with rate and cap each: {us:.1} us");
}
