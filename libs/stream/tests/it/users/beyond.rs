//! Partitions, limits, rooms and jobs with the rights of `docs/Bus-Order-And-Limits.md` on top of
//! those of `docs/Bus-Users.md`, and no others.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_kit::{Message, Timestamp};
use ratebox_stream::conformance::{Connection, OrderBed};
use ratebox_stream::cron::Firings as _;
use ratebox_stream::{
    Append, Dispatcher as _, Door, Entered, Entrant, Error, Lanes, RedisLog, Room, Rooms,
    StreamName, Subscription,
};
use ratebox_testkit::{RedisServer, tools};
use ratebox_valkey::{Settings, Valkey};
use tokio::sync::OnceCell;

use super::{NAMES, Operators, refuses, server, user};
use crate::redis::{Saboteur, bed_of};

ratebox_stream::order_conformance! { bed =>
    a_lease_has_one_owner_until_it_ends_or_is_given_back
    members_that_left_or_died_are_not_met
    partitions_are_shared_out_evenly_and_each_has_an_owner
    a_stop_hands_everything_over_at_once
    a_key_keeps_its_order_over_owners_and_retries
    the_next_owner_counts_attempts_on
    rules_are_kept_until_they_are_removed
    a_rate_holds_over_members_that_come_go_and_die
    caps_hold_over_members_and_come_back_from_the_dead
    who_floods_waits_behind_himself
    who_is_skipped_stays_in_his_room
    a_consumer_opens_the_door
    a_backlog_is_counted_by_ourselves
}

/// Who may do what beyond the page of users: a role, and its further rules.
fn more_rules() -> Vec<(String, Vec<String>)> {
    let page = tools::workspace_root().join("docs/Bus-Order-And-Limits.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page.lines().skip_while(|line| *line != "```acl").skip(1);
    let (name, ours) = NAMES[3];
    let rules = lines.take_while(|line| *line != "```").map(|line| {
        let line = line.replace(name, ours);
        let mut words = line.split_whitespace().map(str::to_owned);
        let (_part, role) = (words.next().unwrap(), words.next().unwrap());
        (role, words.collect())
    });
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 3);
    rules
}

async fn bed() -> OrderBed {
    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
    let started = async || {
        let server = server(&NAMES);
        for (role, rules) in more_rules() {
            let mut words = vec!["ACL", "SETUSER", &role];
            words.extend(rules.iter().map(String::as_str));
            server.command(&words).unwrap();
        }
        server
    };
    let server: &'static RedisServer = SERVER.get_or_init(started).await;
    let log = move |role| Arc::new(RedisLog::new(user(server, role)));
    let admin = Arc::new(Operators::of(server));
    let all = Valkey::lazy(&Settings::new(server.url())).unwrap();
    let bed = bed_of(log("worker"), admin.clone(), Saboteur(all));
    OrderBed::new(bed, move || {
        let worker = log("worker");
        let rooms = BothSides {
            producer: log("producer"),
            worker: worker.clone(),
        };
        Connection {
            log: worker.clone(),
            ownership: worker.clone(),
            limits: worker.clone(),
            rooms: Arc::new(rooms),
            backlogs: worker,
            admin: admin.clone(),
        }
    })
}

/// Who sends lets messages in, who consumes lets them onto the lanes.
struct BothSides {
    producer: Arc<RedisLog>,
    worker: Arc<RedisLog>,
}

#[async_trait]
impl Rooms for BothSides {
    async fn enter(
        &self,
        sub: &Subscription,
        entrants: &[Entrant],
        door: Door,
    ) -> Vec<Result<Entered, Error>> {
        self.producer.enter(sub, entrants, door).await
    }

    async fn admit(
        &self,
        sub: &Subscription,
        door: Door,
        skip: &[String],
        max: usize,
    ) -> Result<usize, Error> {
        self.worker.admit(sub, door, skip, max).await
    }

    async fn rooms(&self, sub: &Subscription, max: usize) -> Result<Vec<Room>, Error> {
        self.worker.rooms(sub, max).await
    }
}

#[tokio::test]
async fn cron_fires_once_and_reads_no_request() {
    let server = server(&[]);
    let moment = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
    let stream = StreamName::new("validation_requests");
    let cron = [0, 1].map(|_| RedisLog::new(user(&server, "cron")));
    let last = cron[0].begin(&stream, "nightly", moment(0)).await.unwrap();
    assert_eq!(last, moment(0));
    let append = Append::new(stream, Message::new("cron/nightly/1", "x"));
    assert!(cron[0].fire("nightly", moment(60), &append).await.unwrap());
    assert!(!cron[1].fire("nightly", moment(60), &append).await.unwrap());
    let valkey = user(&server, "cron");
    for line in [
        "XRANGE validation_requests - +",
        "XREAD COUNT 1 STREAMS validation_requests 0",
        "XREADGROUP GROUP g c STREAMS validation_requests >",
        "XTRIM validation_requests MAXLEN 0",
        "HGETALL {validation_requests}:cron",
        "XADD extension_responses * a b",
    ] {
        refuses(&valkey, line).await;
    }
}

#[tokio::test]
async fn a_gateway_pauses_consumers_with_the_selector_of_the_page() {
    let server = server(&[]);
    let lanes = Lanes::of(&StreamName::new("validation_requests"));
    let gateway = || RedisLog::new(user(&server, "gateway"));
    let refused = gateway().order(&lanes, "pause", None).await;
    assert!(refused.is_err(), "it may not without");
    let page = tools::workspace_root().join("docs/Bus-Users.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut quoted = page.split('`');
    let selector = quoted.find(|text| text.ends_with(":orders)")).unwrap();
    let words = ["ACL", "SETUSER", "gateway", selector];
    server.command(&words).unwrap();
    gateway().order(&lanes, "pause", None).await.unwrap();
    let worker = RedisLog::new(user(&server, "worker"));
    assert_eq!(worker.orders(&lanes).await.unwrap().len(), 1);
    assert!(gateway().withdraw(&lanes, "pause").await.unwrap());
}
