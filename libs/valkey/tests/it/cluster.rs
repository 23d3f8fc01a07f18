//! A cluster: commands find their node, follow slots that move, and outlive primaries.

use std::sync::Arc;
use std::time::Duration;

use ratebox_testkit::{RedisCluster, RedisOptions, Replicas, wait_until};
use ratebox_valkey::{Error, Script, Settings, Topology, Valkey};
use redis::{Cmd, Value, cmd, pipe};

const PATIENCE: Duration = Duration::from_secs(30);

fn settings(cluster: &RedisCluster) -> Settings {
    Settings {
        topology: Topology::Cluster(Vec::new()),
        ..crate::settings(&cluster.url())
    }
}

fn line(line: &str) -> Cmd {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

#[tokio::test]
async fn commands_pipelines_and_scripts_find_their_nodes() {
    let cluster = RedisCluster::start(&RedisOptions::default(), Replicas::None).unwrap();
    let valkey = Valkey::connect(&settings(&cluster)).await.unwrap();
    let keys: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
    let owners: Vec<usize> = keys
        .iter()
        .map(|key| cluster.owner_of(key).unwrap())
        .collect();
    assert!((0..3).all(|node| owners.contains(&node)), "{owners:?}");
    let mut asked = pipe();
    for key in &keys {
        asked.cmd("SET").arg(key).arg(format!("v{key}"));
    }
    asked.cmd("TIME");
    for key in &keys {
        asked.cmd("GET").arg(key);
    }
    let answers = valkey.pipeline(&asked).await.unwrap();
    assert_eq!(answers.len(), 61);
    for (key, answer) in keys.iter().zip(&answers[31..]) {
        assert_eq!(
            *answer,
            Ok(Value::BulkString(format!("v{key}").into_bytes()))
        );
    }
    let script = Script::new("return redis.call('GET', KEYS[1]) .. ARGV[1]");
    for key in &keys {
        let call = script.call().key(key).arg("!");
        let expected = Value::BulkString(format!("v{key}!").into_bytes());
        assert_eq!(valkey.run(&call).await, Ok(expected));
    }
    let error = valkey.query(&line("MGET k1 k2 k3")).await.unwrap_err();
    assert!(error.to_string().contains("CROSSSLOT"), "{error}");
    let info = valkey.server_info().await.unwrap();
    assert!(info.cluster_enabled && info.check_for_bus() == Ok(None));
    assert_eq!(info.loss_window(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn one_node_that_would_evict_streams_is_enough_to_refuse() {
    let mut cluster = RedisCluster::start(&RedisOptions::default(), Replicas::None).unwrap();
    let valkey = Valkey::connect(&settings(&cluster)).await.unwrap();
    let evict = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    cluster.nodes()[2].command(&evict).unwrap();
    let info = valkey.server_info().await.unwrap();
    assert!(matches!(info.check_for_bus(), Err(Error::Policy { .. })));
    let never = ["CONFIG", "SET", "appendfsync", "no"];
    cluster.nodes()[1].command(&never).unwrap();
    assert_eq!(valkey.server_info().await.unwrap().loss_window(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start(&RedisOptions::default(), Replicas::None).unwrap();
    let valkey = Valkey::connect(&settings(&cluster)).await.unwrap();
    let mut blocking = valkey.blocking();
    valkey.query(&line("RPUSH {s}there 1")).await.unwrap();
    let to = (cluster.owner_of("s").unwrap() + 1) % 3;
    cluster.begin_move("s", to).unwrap();
    // What is not there yet is asked for where it goes, by every kind of call.
    valkey.query(&line("RPUSH {s}new 1")).await.unwrap();
    let mut asked = pipe();
    asked.add_command(line("RPUSH {s}there 2"));
    asked.add_command(line("RPUSH {s}new 2"));
    asked.add_command(line("RPUSH elsewhere 1"));
    let answers = valkey.pipeline(&asked).await.unwrap();
    assert_eq!(
        answers,
        [Ok(Value::Int(2)), Ok(Value::Int(2)), Ok(Value::Int(1))]
    );
    let script = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");
    let call = script.call().key("{s}new").arg(3);
    assert_eq!(valkey.run(&call).await, Ok(Value::Int(3)));
    // A read that blocks meanwhile is sent on, too.
    let waiting = line("BLPOP {s}there2 10");
    let (popped, ()) = tokio::join!(blocking.query(&waiting, Duration::from_secs(10)), async {
        cluster.end_move("s", to).unwrap();
        let pushed = valkey.query(&line("RPUSH {s}there2 1")).await;
        assert_eq!(pushed, Ok(Value::Int(1)));
    });
    assert_ne!(popped.unwrap(), Value::Nil);
    assert_eq!(cluster.owner_of("s").unwrap(), to);
    let length = valkey.query(&line("LLEN {s}there")).await;
    assert_eq!(length, Ok(Value::Int(2)));
    assert_eq!(valkey.query(&line("LLEN {s}new")).await, Ok(Value::Int(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_costs_its_slots_some_seconds_and_the_others_nothing() {
    let mut cluster = RedisCluster::start(
        &RedisOptions::default().set("cluster-require-full-coverage", "no"),
        Replicas::OneEach,
    )
    .unwrap();
    let mut settings = settings(&cluster);
    let others = cluster
        .nodes()
        .iter()
        .map(ratebox_testkit::RedisServer::port);
    let others = others.map(|port| format!("127.0.0.1:{port}").parse().unwrap());
    settings.topology = Topology::Cluster(others.collect());
    let valkey = Valkey::connect(&settings).await.unwrap();
    let keys = ["k1", "k2", "k3", "k4", "k5"];
    let owner = cluster.owner_of("k1").unwrap();
    let other = keys
        .iter()
        .find(|key| cluster.owner_of(key).unwrap() != owner);
    let (hit, spared) = (line("INCR k1"), line(&format!("INCR {}", other.unwrap())));
    valkey.query(&hit).await.unwrap();
    cluster.nodes()[owner].kill9();
    let error = valkey.query(&hit).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(valkey.ping().await.is_err(), "a part is missing");
    let valkey = Arc::new(valkey);
    wait_until(PATIENCE, "the replica serves", || async {
        valkey.query(&spared).await.unwrap();
        valkey.query(&hit).await.is_ok()
    })
    .await;
    assert_ne!(cluster.owner_of("k1").unwrap(), owner);
    wait_until(PATIENCE, "all parts answer", || async {
        valkey.ping().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn settings_that_no_cluster_has_are_refused() {
    for url in ["redis://h/1", "unix:///socket"] {
        let wrong = Settings {
            topology: Topology::Cluster(Vec::new()),
            ..crate::settings(url)
        };
        let error = Valkey::lazy(&wrong).unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{error:?}");
    }
}
