//! The ACL users of `docs/Bus-Users.md`: the suite runs with exactly their rights, and they have no
//! others.

mod beyond;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Causes, Message, Secret};
use ratebox_stream::conformance::Bed;
use ratebox_stream::{
    Admin, Append, ClaimScope, ConsumerName, Delayed, Dispatcher as _, Entry, EntryId, Error,
    GroupName, HandTo, Keep, Lane, LaneFloor, LaneQuota, Lanes, Log, RedisLog, Retention,
    Settlement, StreamInfo, StreamName, Subscription, Trimmed, Wait,
};
use ratebox_testkit::{RedisOptions, RedisServer, tools};
use ratebox_valkey::{Error as ValkeyError, Login, Settings, Valkey};
use redis::{Cmd, cmd};
use tokio::sync::OnceCell;

use crate::redis::{Saboteur, bed_of};

ratebox_stream::conformance!(bed);

const PASSWORD: &str = "hunter2";
const ROLES: [&str; 7] = [
    "gateway", "worker", "relay", "producer", "cron", "monitor", "operator",
];

/// The suite's streams in place of those of the page.
const NAMES: [(&str, &str); 4] = [
    ("extension_responses", "t_????????????_answers"),
    ("importer_responses", "t_????????????_missing"),
    ("validation_dlq", "t_????????????_dlq"),
    ("validation_requests", "t_????????????"),
];

/// The rules of the page, one word each.
fn rules(role: &str, names: &[(&str, &str)]) -> Vec<String> {
    let page = std::fs::read_to_string(tools::workspace_root().join("docs/Bus-Users.md")).unwrap();
    let start = format!("user {role} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    let mut line = line.unwrap().replace("SECRET", PASSWORD);
    for (name, ours) in names {
        line = line.replace(name, ours);
    }
    line.split(' ').map(str::to_owned).collect()
}

fn server(names: &[(&str, &str)]) -> RedisServer {
    start(RedisOptions::default(), names)
}

fn start(options: RedisOptions, names: &[(&str, &str)]) -> RedisServer {
    let server = RedisServer::start(options).unwrap();
    for role in ROLES {
        let rules = rules(role, names);
        let mut words = vec!["ACL", "SETUSER", role];
        words.extend(rules.iter().map(String::as_str));
        server.command(&words).unwrap();
    }
    server
}

fn user(server: &RedisServer, role: &str) -> Valkey {
    let login = Login {
        user: role.to_owned(),
        password: Secret::new(PASSWORD),
    };
    let settings = Settings {
        login,
        ..Settings::new(server.url())
    };
    Valkey::lazy(&settings).unwrap()
}

/// The worker's log with the operators of two other roles.
async fn bed() -> Bed {
    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
    let server = SERVER.get_or_init(async || server(&NAMES)).await;
    // One case tails as a worker what only gateways tail.
    let tail = "(+xread +xinfo|stream %R~t_????????????*)";
    server.command(&["ACL", "SETUSER", "worker", tail]).unwrap();
    // Another trims a stream that is none of the page's.
    let missing = "~t_????????????_missing";
    server
        .command(&["ACL", "SETUSER", "relay", missing])
        .unwrap();
    let log = |role| RedisLog::new(user(server, role));
    let admin = Operators::of(server);
    let all = Valkey::lazy(&Settings::new(server.url())).unwrap();
    bed_of(Arc::new(log("worker")), Arc::new(admin), Saboteur(all))
        .with_dispatcher(Arc::new(log("producer")))
}

/// Who of the operators does what.
struct Operators {
    relay: RedisLog,
    monitor: RedisLog,
    operator: RedisLog,
}

impl Operators {
    fn of(server: &RedisServer) -> Self {
        let log = |role| RedisLog::new(user(server, role));
        Self {
            relay: log("relay"),
            monitor: log("monitor"),
            operator: log("operator"),
        }
    }
}

#[async_trait]
impl Admin for Operators {
    async fn info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, Error> {
        self.monitor.info(stream).await
    }

    async fn floor(&self, sub: &Subscription) -> Result<Vec<LaneFloor>, Error> {
        self.relay.floor(sub).await
    }

    async fn trim_but(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<Trimmed, Error> {
        self.relay.trim_but(stream, retention, ignored).await
    }

    async fn bytes(&self, stream: &StreamName) -> Result<u64, Error> {
        self.monitor.bytes(stream).await
    }

    async fn make_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: EntryId,
    ) -> Result<bool, Error> {
        self.operator.make_group(stream, group, from).await
    }

    async fn peek(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.monitor.peek(stream, from, max).await
    }

    async fn delayed(&self, sub: &Subscription) -> Result<Delayed, Error> {
        self.monitor.delayed(sub).await
    }

    async fn remove_dead_consumers(
        &self,
        sub: &Subscription,
        idle: Duration,
    ) -> Result<Vec<ConsumerName>, Error> {
        self.relay.remove_dead_consumers(sub, idle).await
    }

    async fn loss_window(&self) -> Result<Option<Duration>, Error> {
        self.monitor.loss_window().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.monitor.ping().await
    }
}

fn command(line: &str) -> Cmd {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

async fn refuses(valkey: &Valkey, line: &str) {
    let answer = valkey.query(&command(line)).await;
    let denied = matches!(&answer, Err(ValkeyError::Denied { code }) if code == "NOPERM");
    assert!(denied, "{line}: {answer:?}");
}

/// What nobody may do: administration, other people's keys, the whole key space.
const FORBIDDEN: [&str; 20] = [
    "ACL WHOAMI",
    "ACL SETUSER me on nopass ~* +@all",
    "CONFIG GET requirepass",
    "CONFIG SET maxmemory-policy allkeys-lru",
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "DEL validation_requests",
    "UNLINK validation_requests",
    "RENAME validation_requests x",
    "XDEL validation_requests 1-1",
    "XGROUP DESTROY validation_requests validator_workers",
    "XGROUP SETID validation_requests validator_workers 0",
    "XREADGROUP GROUP g c STREAMS somebody_elses >",
    "XADD somebody_elses * a b",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "DEBUG SLEEP 0",
    "MONITOR",
];

#[tokio::test]
async fn no_role_may_do_what_only_an_administrator_should() {
    let server = server(&[]);
    for role in ROLES {
        let valkey = user(&server, role);
        valkey.ping().await.unwrap();
        for line in FORBIDDEN {
            refuses(&valkey, line).await;
        }
        let info = valkey.server_info().await.unwrap();
        assert_eq!((info.check_for_bus(), info.appendfsync), (Ok(None), None));
    }
}

#[tokio::test]
async fn the_gateway_writes_requests_and_cannot_read_them() {
    let server = server(&[]);
    let gateway = user(&server, "gateway");
    let log = RedisLog::new(gateway.clone());
    for stream in [
        "validation_requests",
        "{validation_requests}:high",
        "{validation_requests}:low",
    ] {
        let append = Append::new(StreamName::new(stream), Message::new("m", "x"));
        log.append(&[append]).await.remove(0).unwrap();
        for line in [
            "XREAD COUNT 1 STREAMS $ 0",
            "XRANGE $ - +",
            "XINFO STREAM $",
        ] {
            refuses(&gateway, &line.replace('$', stream)).await;
        }
    }
    for line in [
        "XREADGROUP GROUP g c STREAMS validation_requests >",
        "XACK validation_requests g 1-1",
        "XTRIM validation_requests MAXLEN 0",
        "XADD extension_responses * data x",
        "EVAL return(1) 0",
        "GET ratebox:idempotency:k",
        "SET other v",
    ] {
        refuses(&gateway, line).await;
    }
    let answers = StreamName::new("extension_responses");
    let append = Append::new(answers.clone(), Message::new("a", "x"));
    let append = Append {
        keep: Keep::About(1_000),
        ..append
    };
    let worker = RedisLog::new(user(&server, "worker"));
    let missed = log.tail(&answers, None, 10, Duration::ZERO).await.unwrap();
    worker.append(&[append]).await.remove(0).unwrap();
    let wait = Duration::from_millis(50);
    let seen = log
        .tail(&answers, Some(missed.next), 10, wait)
        .await
        .unwrap();
    assert_eq!(seen.entries.len(), 1);
    let key = "ratebox:idempotency:k";
    let kept = gateway
        .set_if_absent(key, "v", Duration::from_secs(9))
        .await;
    assert_eq!(kept, Ok(None));
    let there = gateway
        .set_if_absent(key, "w", Duration::from_secs(9))
        .await;
    assert_eq!(there, Ok(Some("v".to_owned())));
}

#[tokio::test]
async fn each_role_stays_within_its_part() {
    let server = server(&[]);
    for (role, lines) in [
        (
            "worker",
            [
                "XTRIM validation_requests MAXLEN 0",
                "XRANGE extension_responses - +",
                "XRANGE validation_dlq - +",
                "XINFO GROUPS validation_requests",
                "SET ratebox:idempotency:k v",
            ],
        ),
        (
            "relay",
            [
                "XREADGROUP GROUP g c STREAMS validation_requests >",
                "XACK validation_requests g 1-1",
                "XRANGE extension_responses - +",
                "XGROUP CREATE validation_requests h 0",
                "ZREM {validation_requests}:delayed x",
            ],
        ),
        (
            "monitor",
            [
                "XADD validation_requests * a b",
                "XTRIM validation_requests MAXLEN 0",
                "XREADGROUP GROUP g c STREAMS validation_requests >",
                "EVALSHA x 1 validation_requests",
                "EVAL return(1) 0",
            ],
        ),
    ] {
        let valkey = user(&server, role);
        for line in lines {
            refuses(&valkey, line).await;
        }
    }
}

#[tokio::test]
async fn a_worker_follows_orders_and_a_producer_reads_no_request() {
    let server = server(&[]);
    let lanes = Lanes::of(&StreamName::new("validation_requests"));
    let worker = RedisLog::new(user(&server, "worker"));
    let producer = RedisLog::new(user(&server, "producer"));
    let operator = RedisLog::new(user(&server, "operator"));
    producer.order(&lanes, "pause", None).await.unwrap();
    assert_eq!(worker.orders(&lanes).await.unwrap().len(), 1);
    // Who only looks sees it, and can neither give an order nor end one.
    let monitor = RedisLog::new(user(&server, "monitor"));
    assert_eq!(monitor.orders(&lanes).await.unwrap()[0].name, "pause");
    for refused in [
        monitor.order(&lanes, "pause/h", None).await.unwrap_err(),
        monitor.withdraw(&lanes, "pause").await.unwrap_err(),
    ] {
        let text = Causes(&refused).to_string();
        assert_eq!(text.matches("NOPERM").count(), 1, "{text}");
    }
    assert!(operator.withdraw(&lanes, "pause").await.unwrap());
    operator.order(&lanes, "pause/g", None).await.unwrap();
    assert_eq!(worker.orders(&lanes).await.unwrap().len(), 1);
    let keep = Duration::from_secs(9);
    worker.note(&lanes, "m", "half", keep).await.unwrap();
    let noted = producer.noted(&lanes, "m").await.unwrap();
    assert_eq!(noted.as_deref(), Some("half"));
    let valkey = user(&server, "producer");
    for line in [
        "XRANGE validation_requests - +",
        "XREAD COUNT 1 STREAMS validation_requests 0",
        "XREADGROUP GROUP g c STREAMS validation_requests >",
        "XTRIM validation_requests MAXLEN 0",
        "XACK validation_requests g 1-1",
        "XADD extension_responses * a b",
        "HGETALL ratebox:idempotency:k",
    ] {
        refuses(&valkey, line).await;
    }
}

#[tokio::test]
async fn a_worker_on_redis_8_hands_back_by_the_new_command_with_one_right_more() {
    let server = start(RedisOptions::redis_8(), &[]);
    let log = RedisLog::new(user(&server, "worker"));
    let lanes = Lanes::of(&StreamName::new("validation_requests"));
    let sub = Subscription::new(lanes, GroupName::new("g"), ConsumerName::new("a"));
    log.ensure_group(&sub).await.unwrap();
    let add = ["XADD", "validation_requests", "*", "data", "x"];
    server.command(&add).unwrap();
    for right in [None, Some("+xnack")] {
        let quotas = [LaneQuota {
            lane: Lane::Normal,
            max: 1,
        }];
        if let Some(right) = right {
            server
                .command(&["ACL", "SETUSER", "worker", right])
                .unwrap();
        }
        // Whoever was refused asks again on its next connection.
        let log = RedisLog::new(user(&server, "worker"));
        let read = log.read(&sub, &quotas, Wait::WithReturned(Duration::from_millis(20)));
        let mut entries = read.await.unwrap();
        if entries.is_empty() {
            let scope = ClaimScope::Idle(Duration::from_secs(1));
            let claimed = log.claim(&sub, Lane::Normal, EntryId::MIN, scope, 1);
            entries = claimed.await.unwrap().entries;
        }
        let release = Settlement::Release {
            lane: Lane::Normal,
            id: entries[0].id,
            deliveries: entries[0].deliveries,
            to: HandTo::WhoeverWaits,
        };
        log.settle(&sub, &[release]).await.unwrap();
        let pending = ["XPENDING", "validation_requests", "g", "-", "+", "1"];
        let pending = server.command(&pending).unwrap();
        let owner = if right.is_some() { "" } else { "a" };
        assert_eq!((&pending[0][1], &pending[0][3]), (&owner.into(), &0.into()));
    }
}
