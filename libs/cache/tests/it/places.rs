//! The cache where its server is reached in other ways: over TLS as an ACL user, on a cluster, and
//! where Sentinels say which one it is.

use std::collections::HashMap;
use std::time::Duration;

use ratebox_cache::{Limits, Tier, ValkeyTier};
use ratebox_kit::{Secret, Tasks};
use ratebox_testkit::{
    Certificates, RedisCluster, RedisOptions, RedisServer, Replicas, TlsClients, WatchedRedis,
    wait_until,
};
use ratebox_valkey::{Login, Sentinels, Settings, Tls, Topology, Valkey};

use crate::ground::{Node, Origin, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);

/// A failover takes the Sentinels a while.
const FAILOVER: Duration = Duration::from_secs(60);

async fn node(settings: &Settings, origin: &Origin) -> Node {
    let tasks = Tasks::new();
    let valkey = Valkey::lazy(settings).unwrap();
    let quick = ValkeyTier {
        heartbeat: Duration::from_millis(200),
        ..ValkeyTier::default()
    };
    let tier = Tier::valkey(&valkey, &quick, &tasks).unwrap();
    wait_until(SOON, "the tier hears", || async { tier.is_watching() }).await;
    Node::over(tier, tasks, steady(HOUR), origin)
}

/// What two processes promise each other: one load for both, and no value older than a change.
async fn keeps_its_promises(settings: &Settings) {
    let origin = Origin::default();
    let (a, b) = (node(settings, &origin).await, node(settings, &origin).await);
    let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for key in &keys {
        origin.write(key);
        assert_eq!(a.read(key, Duration::ZERO).await.unwrap(), 1);
        assert_eq!(b.read(key, Duration::ZERO).await.unwrap(), 1);
    }
    assert_eq!(origin.loads(), 50);
    for key in &keys {
        a.write(key).await.unwrap();
        assert_eq!(a.read(key, Duration::ZERO).await.unwrap(), 2);
    }
    wait_until(SOON, "the other hears", || async {
        let mut new = true;
        for key in &keys {
            new &= b.read(key, Duration::ZERO).await.unwrap() == 2;
        }
        new
    })
    .await;
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let load = |missing: Vec<String>| async move {
        Err::<HashMap<String, u64>, _>(std::io::Error::other(format!("{missing:?} are missing")))
    };
    let many = b.cache.get_many_or_load(&asked, load).await.unwrap();
    assert!(many.iter().all(|value| value.as_deref() == Some(&2)));
    a.cache.invalidate_all().await.unwrap();
    assert_eq!(a.read("0", Duration::ZERO).await.unwrap(), 2);
    assert_eq!(origin.loads(), 101);
}

#[tokio::test]
async fn over_tls_an_acl_user_may_do_what_a_cache_does_and_no_more() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::MayShowOne);
    let server = RedisServer::start(options).unwrap();
    let rights = "ACL SETUSER app on >hunter2 ~cache:* +get +set +unlink +getrange +pttl +pexpire \
        +evalsha +eval +script +time +ping +hello +client +dbsize +info";
    let words: Vec<&str> = rights.split_whitespace().collect();
    server.command(&words).unwrap();
    let settings = Settings {
        login: Login {
            user: "app".to_owned(),
            password: Secret::new("hunter2"),
        },
        tls: Tls {
            ca: Some(certificates.pem("ca.pem")),
            ..Tls::default()
        },
        ..Settings::new(server.tls_url("localhost"))
    };
    keeps_its_promises(&settings).await;
}

#[tokio::test]
async fn on_a_cluster_every_primary_is_heard() {
    let cluster = RedisCluster::start(&RedisOptions::default(), Replicas::None).unwrap();
    let settings = Settings {
        topology: Topology::Cluster(Vec::new()),
        ..Settings::new(cluster.url())
    };
    keeps_its_promises(&settings).await;
}

#[tokio::test]
async fn vk_16_a_replica_serves_what_it_has_and_a_writer_reads_its_own_writes() {
    let soon = RedisOptions::default().set("repl-diskless-sync-delay", "0");
    let primary = RedisServer::start(soon.clone()).unwrap();
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::start(soon.set("replicaof", &of)).unwrap();
    let (tasks, origin) = (Tasks::new(), Origin::default());
    let settings = ValkeyTier {
        replica: Some(Valkey::lazy(&Settings::new(replica.url())).unwrap()),
        ..ValkeyTier::default()
    };
    let valkey = Valkey::lazy(&Settings::new(primary.url())).unwrap();
    let tier = Tier::valkey(&valkey, &settings, &tasks).unwrap();
    wait_until(SOON, "the tier hears", || async { tier.is_watching() }).await;
    let mut limits = Limits::default();
    limits.memory.bytes_max = 0;
    let node = Node::with(tier, tasks, steady(HOUR), limits, &origin);
    origin.write("k");
    let gets = || {
        let told = replica.command(&["INFO", "commandstats"]).unwrap();
        told.as_str().unwrap().contains("cmdstat_get:")
    };
    wait_until(SOON, "the replica to serve", || async {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
        gets()
    })
    .await;
    for version in 2..200 {
        assert_eq!(node.write("k").await.unwrap(), version);
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    }
    // From here on it follows nobody, and what it has grows old.
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let version = node.write("k").await.unwrap();
    for _ in 0..3 {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    }
    drop(replica);
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
}

#[tokio::test]
async fn behind_sentinels_a_failover_leaves_no_stale_value() {
    let mut watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    let addresses = watched.sentinels();
    let sentinels = Sentinels {
        primary: WatchedRedis::NAME.to_owned(),
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        login: Login::default(),
    };
    let settings = Settings {
        topology: Topology::Sentinel(sentinels),
        ..Settings::new("redis://not-used")
    };
    keeps_its_promises(&settings).await;
    let origin = Origin::default();
    let node = node(&settings, &origin).await;
    origin.write("k");
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    let old = watched.primary();
    watched.server(old).kill9();
    // The change cannot be told to anybody now; nobody may read the old value for that.
    let version = origin.write("k");
    assert!(node.cache.invalidate("k").await.is_err());
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    wait_until(FAILOVER, "another is the primary", || async {
        watched.primary() != old && node.tier.is_watching()
    })
    .await;
    for _ in 0..3 {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    }
}
