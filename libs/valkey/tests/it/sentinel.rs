//! A primary that Sentinels name: found, lost, found again.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use ratebox_kit::{Secret, Stopwatch};
use ratebox_testkit::{RedisOptions, RedisServer, WatchedRedis, wait_until};
use ratebox_valkey::{Address, Error, Login, Sentinels, Settings, Topology, Valkey};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(30);

fn settings(watched: &WatchedRedis, login: Login) -> Settings {
    let addresses = watched.sentinels();
    let sentinels = Sentinels {
        primary: WatchedRedis::NAME.to_owned(),
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        login,
    };
    Settings {
        topology: Topology::Sentinel(sentinels),
        ..crate::settings("redis://not-used")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_found_again_after_each_failover() {
    let mut watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    let looker = ["ACL", "SETUSER", "looker", "on", ">hunter2"];
    let rights = ["-@all", "+sentinel|get-master-addr-by-name"];
    watched
        .tell_sentinels(&[&looker[..], &rights[..]].concat())
        .unwrap();
    let login = Login {
        user: "looker".to_owned(),
        password: Secret::new("hunter2"),
    };
    let settings = settings(&watched, login);
    let valkey = Valkey::connect(&settings).await.unwrap();
    let (mut set, mut get) = (cmd("SET"), cmd("GET"));
    set.arg("k").arg("v");
    get.arg("k");
    valkey.query(&set).await.unwrap();
    // One Sentinel less and a primary that dies.
    watched.lose_a_sentinel();
    let old = watched.primary();
    watched.server(old).kill9();
    wait_until(PATIENCE, "it writes again", || async {
        valkey.query(&set).await.is_ok()
    })
    .await;
    let new = watched.primary();
    assert_ne!(new, old);
    // The old primary comes back as a replica, and is promoted by hand.
    watched.server(old).restart().unwrap();
    wait_until(PATIENCE, "the old primary is a replica", || async {
        watched.is_synced_replica(old)
    })
    .await;
    wait_until(PATIENCE, "the Sentinels move back", || async {
        let _ = watched.fail_over();
        watched.primary() == old
    })
    .await;
    let back = Stopwatch::start();
    wait_until(PATIENCE, "it writes on the revived one", || async {
        valkey.query(&set).await.is_ok()
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(3),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(valkey.query_as::<String>(&get).await.unwrap(), "v");
}

/// It keeps its connections, and its kernel acknowledges whatever is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_left_as_soon_as_another_one_is_promoted() {
    let mut watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    // Longer than this test waits: only the Sentinels can end a call.
    let settings = Settings {
        response_timeout: PATIENCE * 2,
        ..settings(&watched, Login::default())
    };
    let valkey = Valkey::connect(&settings).await.unwrap();
    let idle = valkey.separate();
    idle.ping().await.unwrap();
    let mut blocking = valkey.blocking();
    blocking.query(&cmd("PING"), Duration::ZERO).await.unwrap();
    let old = watched.primary();
    watched.server(old).pause().unwrap();
    let mut read = cmd("BLPOP");
    read.arg("nothing").arg(1);
    let (called, read) = tokio::join!(valkey.ping(), blocking.query(&read, Duration::from_secs(1)));
    for error in [called.unwrap_err(), read.unwrap_err()] {
        assert!(error.to_string().contains("another primary"), "{error}");
        assert!(error.is_retryable());
    }
    assert_ne!(watched.primary(), old);
    for link in [&valkey, &idle] {
        let back = Stopwatch::start();
        wait_until(PATIENCE, "it is served", || async {
            link.ping().await.is_ok()
        })
        .await;
        assert!(
            back.elapsed() < Duration::from_secs(4),
            "{:?}",
            back.elapsed()
        );
    }
    watched.server(old).resume().unwrap();
}

/// Names a server to whoever asks it, after a while; returns where it listens.
fn one_that_names(primary: u16, after: Duration) -> Address {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            std::thread::spawn(move || answer(client, primary, after));
        }
    });
    address.parse().unwrap()
}

fn answer(mut client: TcpStream, primary: u16, after: Duration) {
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        let asked = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let mut said = String::new();
        if asked.contains("HELLO") {
            said.push_str("%1\r\n$5\r\nproto\r\n:3\r\n");
        }
        if asked.contains("GET-MASTER-ADDR-BY-NAME") {
            std::thread::sleep(after);
            let port = primary.to_string();
            let digits = port.len();
            said.push_str(&format!("*2\r\n$9\r\n127.0.0.1\r\n${digits}\r\n{port}\r\n"));
        }
        if client.write_all(said.as_bytes()).is_err() {
            return;
        }
    }
}

fn settings_with(addresses: Vec<Address>) -> Settings {
    let sentinels = Sentinels {
        primary: "main".to_owned(),
        addresses,
        login: Login::default(),
    };
    Settings {
        topology: Topology::Sentinel(sentinels),
        ..crate::settings("redis://not-used")
    }
}

/// An old primary that comes back takes writes until it is told to follow, and they are lost then.
#[tokio::test]
async fn a_sentinel_that_has_not_heard_of_a_failover_leads_nobody_astray() {
    let start = || RedisServer::start(RedisOptions::default()).unwrap();
    let (old, new) = (start(), start());
    let slow = Duration::from_millis(50);
    let valkey = Valkey::connect(&settings_with(vec![
        one_that_names(old.port(), Duration::ZERO),
        one_that_names(new.port(), slow),
        one_that_names(new.port(), slow),
    ]))
    .await
    .unwrap();
    let mut set = cmd("SET");
    set.arg("k").arg("v");
    valkey.query(&set).await.unwrap();
    let (mut blocking, mut push) = (valkey.blocking(), cmd("RPUSH"));
    push.arg("l").arg("v");
    blocking.query(&push, Duration::ZERO).await.unwrap();
    let keys = |server: &RedisServer| server.command(&["DBSIZE"]).unwrap();
    assert_eq!((keys(&old), keys(&new)), (0.into(), 2.into()));
}

#[tokio::test]
async fn one_sentinel_that_is_left_is_believed_soon() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    // It takes connections and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let since = Stopwatch::start();
    Valkey::connect(&settings_with(vec![
        silent_at.parse().unwrap(),
        "127.0.0.1:1".parse().unwrap(),
        one_that_names(server.port(), Duration::ZERO),
    ]))
    .await
    .unwrap();
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    let mut unknown = settings(&watched, Login::default());
    if let Topology::Sentinel(sentinels) = &mut unknown.topology {
        sentinels.primary = "other".to_owned();
    }
    let error = Valkey::connect(&unknown).await.unwrap_err();
    assert!(matches!(error, Error::NoPrimary { .. }) && error.is_retryable());
    assert!(
        error.to_string().contains("no primary named other"),
        "{error}"
    );
    let wrong = Login {
        user: "nobody".to_owned(),
        password: Secret::new("hunter2"),
    };
    let error = Valkey::connect(&settings(&watched, wrong))
        .await
        .unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(
        said.contains("refused the user") && !said.contains("hunter2"),
        "{said}"
    );
    drop(watched);
    let nobody = Sentinels {
        primary: "main".to_owned(),
        addresses: vec!["127.0.0.1:1".parse().unwrap()],
        login: Login::default(),
    };
    let nobody = Settings {
        topology: Topology::Sentinel(nobody),
        ..crate::settings("redis://not-used")
    };
    let error = Valkey::connect(&nobody).await.unwrap_err();
    assert!(
        error.to_string().contains("Sentinel 127.0.0.1:1"),
        "{error}"
    );
    for (url, addresses) in [
        ("redis://h", vec![]),
        ("unix:///s", vec!["h:1".parse().unwrap()]),
    ] {
        let topology = Topology::Sentinel(Sentinels {
            primary: "main".to_owned(),
            addresses,
            login: Login::default(),
        });
        let wrong = Settings {
            topology,
            ..crate::settings(url)
        };
        assert!(matches!(Valkey::lazy(&wrong), Err(Error::Url { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_is_left_for_the_new_one() {
    let mut watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    let settings = settings(&watched, Login::default());
    let valkey = Valkey::connect(&settings).await.unwrap();
    let mut blocking = valkey.blocking();
    let (mut set, mut pop) = (cmd("SET"), cmd("BLPOP"));
    set.arg("k").arg("v");
    pop.arg("nothing").arg("0.1");
    let old = watched.primary();
    watched.server(old).pause().unwrap();
    assert!(valkey.query(&set).await.unwrap_err().is_retryable());
    wait_until(PATIENCE, "it writes again", || async {
        valkey.query(&set).await.is_ok()
    })
    .await;
    assert_ne!(watched.primary(), old);
    // What thaws is told to follow; nobody writes to it meanwhile.
    watched.server(old).resume().unwrap();
    let wait = Duration::from_millis(100);
    let popped = blocking.query(&pop, wait).await;
    assert_eq!(popped, Ok(redis::Value::Nil));
    wait_until(PATIENCE, "the old primary follows", || async {
        valkey.query(&set).await.unwrap();
        watched.is_synced_replica(old)
    })
    .await;
}
