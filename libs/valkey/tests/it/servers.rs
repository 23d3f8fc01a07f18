//! What servers tell of themselves, and the errors that only a server in trouble gives.

use std::time::Duration;

use ratebox_kit::Secret;
use ratebox_testkit::{Fsync, RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Ability, Appendfsync, Error, Flavour, Login, Settings, Valkey};
use redis::cmd;

async fn connect(server: &RedisServer) -> Valkey {
    Valkey::connect(&crate::settings(&server.url()))
        .await
        .unwrap()
}

#[tokio::test]
async fn redis_and_valkey_are_told_apart() {
    for (options, flavour, version) in [
        (RedisOptions::default(), Flavour::Redis, "7."),
        (RedisOptions::redis_8(), Flavour::Redis, "8."),
        (RedisOptions::valkey(), Flavour::Valkey, "8."),
    ] {
        let server = RedisServer::start(options).unwrap();
        let info = connect(&server).await.server_info().await.unwrap();
        assert_eq!(info.flavour, flavour);
        assert!(info.version.starts_with(version), "{}", info.version);
        assert_eq!(info.maxmemory_policy, "noeviction");
        assert_eq!(info.appendfsync, Some(Appendfsync::Everysec));
        assert_eq!(info.loss_window(), Some(Duration::from_secs(1)));
        assert_eq!(info.rdb_saves.as_deref(), Some(""));
        assert_eq!(info.check_for_bus(), Ok(None));
        assert!(info.used_memory_bytes > 0 && !info.cluster_enabled);
    }
}

#[tokio::test]
async fn what_a_server_can_do_beyond_the_commands_that_are_needed_is_found_out() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = connect(&server).await;
    let version = valkey.server_info().await.unwrap().version;
    assert!(version.starts_with("7.0"), "{version}");
    assert_eq!(valkey.abilities().await, Ok(Vec::new()));
    for (options, expected) in [
        (RedisOptions::redis_8(), Ability::ALL.to_vec()),
        (RedisOptions::valkey(), vec![Ability::WaitAof]),
    ] {
        let newer = RedisServer::start(options).unwrap();
        let found = connect(&newer).await.abilities().await;
        assert_eq!(found, Ok(expected));
    }
    server
        .command(&["ACL", "SETUSER", "default", "-command"])
        .unwrap();
    let refused = valkey.abilities().await;
    assert!(matches!(refused, Err(Error::Denied { .. })), "{refused:?}");
}

/// Questions of `COMMAND INFO` since the server's start; each look at what it has asks three.
fn looks(server: &RedisServer) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let stats = stats.as_str().unwrap();
    let calls = stats.split("cmdstat_command|info:calls=").nth(1);
    let calls = calls.and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse::<u64>().unwrap() / 3)
}

#[tokio::test]
async fn a_server_is_asked_what_it_has_once_for_each_connection() {
    let mut server = RedisServer::start(RedisOptions::redis_8()).unwrap();
    let valkey = Valkey::lazy(&crate::settings(&server.url())).unwrap();
    let (first, second) = tokio::join!(valkey.has(Ability::Nack), valkey.has(Ability::ReadClaim));
    assert!(first && second);
    let first_looks = looks(&server);
    assert!((1..=2).contains(&first_looks), "the first one dials, too");
    valkey.do_without(Ability::Nack);
    for _ in 0..3 {
        assert!(!valkey.has(Ability::Nack).await && valkey.has(Ability::WaitAof).await);
    }
    assert_eq!(looks(&server), first_looks);
    server.restart().unwrap();
    let patience = Duration::from_secs(10);
    wait_until(patience, "the next connection has it again", || async {
        let _ = valkey.ping().await;
        valkey.has(Ability::Nack).await
    })
    .await;
    server.replace(RedisOptions::valkey()).unwrap();
    wait_until(patience, "another server has other things", || async {
        let _ = valkey.ping().await;
        !valkey.has(Ability::Nack).await && valkey.has(Ability::WaitAof).await
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_has_nothing() {
    let mut server = RedisServer::start(RedisOptions::redis_8()).unwrap();
    let deny = ["ACL", "SETUSER", "default", "-command"];
    server.command(&deny).unwrap();
    let valkey = connect(&server).await;
    assert!(!valkey.has(Ability::Nack).await);
    server.stop().unwrap();
    let away = Valkey::lazy(&crate::settings(&server.url())).unwrap();
    assert!(!away.has(Ability::Nack).await);
}

#[tokio::test]
async fn the_loss_window_is_zero_only_with_fsync_always() {
    for (fsync, window) in [(Fsync::Always, Some(Duration::ZERO)), (Fsync::NoFile, None)] {
        let server = RedisServer::start(RedisOptions::default().fsync(fsync)).unwrap();
        let info = connect(&server).await.server_info().await.unwrap();
        assert_eq!(info.loss_window(), window);
    }
}

#[tokio::test]
async fn a_server_that_evicts_streams_is_refused() {
    let options = RedisOptions::default().set("maxmemory-policy", "allkeys-lru");
    let server = RedisServer::start(options).unwrap();
    let info = connect(&server).await.server_info().await.unwrap();
    let error = info.check_for_bus().unwrap_err();
    assert_eq!(
        error,
        Error::Policy {
            policy: "allkeys-lru".to_owned()
        }
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_user_that_may_not_ask_for_the_configuration_still_learns_the_policy() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let user = [
        "ACL", "SETUSER", "bus", "on", ">hunter2", "~*", "+@all", "-config",
    ];
    server.command(&user).unwrap();
    let url = server.url().replace("redis://", "redis://bus:hunter2@");
    let valkey = Valkey::connect(&crate::settings(&url)).await.unwrap();
    let info = valkey.server_info().await.unwrap();
    assert_eq!(info.maxmemory_policy, "noeviction");
    assert_eq!((info.appendfsync, info.rdb_saves.clone()), (None, None));
    assert_eq!(info.loss_window(), None);
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_retried() {
    let server = RedisServer::start(RedisOptions::default().set("requirepass", "right")).unwrap();
    for url in [
        server.url(),
        server.url().replace("redis://", "redis://:wrong@"),
    ] {
        let error = Valkey::connect(&crate::settings(&url)).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
    let url = server.url().replace("redis://", "redis://:right@");
    Valkey::connect(&crate::settings(&url)).await.unwrap();
    let login = Login {
        user: "default".to_owned(),
        password: Secret::new("right"),
    };
    let beside_the_url = Settings {
        login,
        ..crate::settings(&server.url())
    };
    Valkey::connect(&beside_the_url).await.unwrap();
}

#[tokio::test]
async fn a_full_server_says_so() {
    let options = RedisOptions::default()
        .set("maxmemory", "2mb")
        .set("maxmemory-policy", "noeviction");
    let server = RedisServer::start(options).unwrap();
    let valkey = connect(&server).await;
    let mut add = cmd("XADD");
    add.arg("s").arg("*").arg("data").arg(vec![b'x'; 100_000]);
    let mut result = Ok(redis::Value::Nil);
    for _ in 0..100 {
        result = valkey.query(&add).await;
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(Error::OutOfMemory));
    assert!(Error::OutOfMemory.is_retryable());
}

#[tokio::test]
async fn a_replica_refuses_writes_in_a_way_that_may_pass() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = connect(&server).await;
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let mut set = cmd("SET");
    let error = valkey.query(set.arg("k").arg("v")).await.unwrap_err();
    assert_eq!(
        error,
        Error::Unavailable {
            code: "READONLY".to_owned()
        }
    );
    assert!(error.is_retryable());
}
