//! Redis and Valkey: start, kill, restart, freeze.

use ratebox_testkit::{Fsync, RedisOptions, RedisServer, unique_name};
use serde_json::json;

fn survives_its_own_death(options: RedisOptions) {
    let mut server = RedisServer::start(options.fsync(Fsync::Always)).unwrap();
    server.command(&["SET", "a", "1"]).unwrap();
    server.kill9();
    assert!(server.pid().is_none());
    assert!(server.command(&["GET", "a"]).is_err());
    server.restart().unwrap();
    assert_eq!(server.command(&["GET", "a"]).unwrap(), json!("1"));
    server.restart().unwrap();
    assert_eq!(server.command(&["GET", "a"]).unwrap(), json!("1"));
    server.stop().unwrap();
    assert!(server.command(&["PING"]).is_err());
}

#[test]
fn a_killed_redis_comes_back_on_its_port_with_its_data() {
    survives_its_own_death(RedisOptions::default());
}

#[test]
fn a_killed_valkey_comes_back_on_its_port_with_its_data() {
    survives_its_own_death(RedisOptions::valkey());
}

#[test]
fn a_killed_redis_8_comes_back_on_its_port_with_its_data() {
    survives_its_own_death(RedisOptions::redis_8());
}

#[test]
fn settings_reach_the_server() {
    let options = RedisOptions::default().set("maxmemory-policy", "allkeys-lru");
    let server = RedisServer::start(options.fsync(Fsync::NoFile)).unwrap();
    let policy = server
        .command(&["CONFIG", "GET", "maxmemory-policy"])
        .unwrap();
    assert_eq!(policy, json!(["maxmemory-policy", "allkeys-lru"]));
    assert_eq!(server.command(&["LLEN", "none"]).unwrap(), json!(0));
    assert_eq!(server.command(&["GET", "none"]).unwrap(), json!(null));
}

#[test]
fn a_server_with_a_password_starts_and_refuses_strangers() {
    let server = RedisServer::start(RedisOptions::default().set("requirepass", "pw")).unwrap();
    let error = server.command(&["PING"]).unwrap_err().to_string();
    assert!(error.contains("NOAUTH"), "{error}");
}

#[test]
fn a_wrong_setting_is_told_with_the_servers_own_words() {
    let error = RedisServer::start(RedisOptions::default().set("no-such", "1")).unwrap_err();
    assert!(error.to_string().contains("no-such"), "{error}");
}

#[test]
fn a_frozen_server_answers_nothing_until_it_thaws() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    server.pause().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.command(&["PING"]).unwrap());
        assert!(!asking.is_finished());
        server.resume().unwrap();
        assert_eq!(asking.join().unwrap(), json!("PONG"));
    });
}

#[test]
fn the_shared_servers_serve() {
    for shared in [
        RedisServer::shared().unwrap(),
        RedisServer::shared_valkey().unwrap(),
    ] {
        let key = unique_name("key");
        assert_eq!(shared.command(&["INCR", &key]).unwrap(), json!(1));
    }
}
