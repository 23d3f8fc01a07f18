//! The log over TLS: the suite on a cluster of Valkey nodes that speak it with each other, too, and a
//! failover under load on one of Redis nodes.

use std::time::Duration;

use ratebox_kit::{Message, Secret};
use ratebox_stream::conformance::Bed;
use ratebox_stream::{Append, Error, Log as _, RedisLog, StreamName};
use ratebox_testkit::{
    Certificates, RedisCluster, RedisOptions, RedisServer, Replicas, TlsClients, unique_name,
    wait_until,
};
use ratebox_valkey::{ClientCertificate, Settings, Tls, Topology, Valkey};
use tokio::sync::OnceCell;

use crate::topologies::patient;

ratebox_stream::conformance!(bed);

/// The whole suite on Valkey 8 with TLS. Nobody drops what is static: of the certificates only what
/// clients need is kept, and their files go when the nodes have read them.
async fn bed() -> Bed {
    static NODES: OnceCell<(Settings, RedisCluster)> = OnceCell::const_new();
    let start = async || {
        let certificates = certificates();
        let options = RedisOptions::valkey().tls(&certificates, TlsClients::NeedCertificate);
        let cluster = RedisCluster::start(&options, Replicas::None).unwrap();
        (patient(settings(&cluster, &certificates)), cluster)
    };
    let (settings, _) = NODES.get_or_init(start).await;
    crate::redis::with(Valkey::lazy(settings).unwrap())
}

/// Nodes of a cluster are known by their addresses.
fn certificates() -> Certificates {
    Certificates::new("DNS:localhost,IP:127.0.0.1").unwrap()
}

fn tls(certificates: &Certificates) -> Tls {
    Tls {
        ca: Some(certificates.pem("ca.pem")),
        client: Some(ClientCertificate {
            certificate: certificates.pem("client.pem"),
            key: Secret::new(certificates.pem("client.key")),
        }),
        ..Tls::default()
    }
}

fn settings(cluster: &RedisCluster, certificates: &Certificates) -> Settings {
    let nodes = cluster.tls_ports();
    let mut nodes = nodes.map(|port| format!("127.0.0.1:{port}"));
    let first = nodes.next().unwrap();
    let others = nodes.map(|node| node.parse().unwrap()).collect();
    Settings {
        topology: Topology::Cluster(others),
        tls: tls(certificates),
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..Settings::new(format!("rediss://{first}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_with_tls_work_goes_on_when_its_primary_dies_under_load() {
    let certificates = certificates();
    let options = RedisOptions::default().tls(&certificates, TlsClients::NeedCertificate);
    let mut cluster = RedisCluster::start(&options, Replicas::OneEach).unwrap();
    let settings = settings(&cluster, &certificates);
    crate::topologies::its_primary_dies(&mut cluster, &settings).await;
}

/// What a Valkey with TLS takes only from whom it knows, before and after its restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valkey_with_tls_is_used_by_whom_it_knows_and_after_its_restart() {
    let certificates = certificates();
    let options = RedisOptions::valkey().tls(&certificates, TlsClients::NeedCertificate);
    let mut server = RedisServer::start(options).unwrap();
    let known = Settings {
        tls: tls(&certificates),
        ..Settings::new(server.tls_url("localhost"))
    };
    let stranger = Settings {
        tls: Tls {
            client: None,
            ..tls(&certificates)
        },
        ..known.clone()
    };
    let append = || {
        [Append::new(
            StreamName::new(unique_name("t")),
            Message::new("m", "x"),
        )]
    };
    let append_as = async |settings: &Settings| {
        let log = RedisLog::new(Valkey::lazy(settings).unwrap());
        log.append(&append()).await.remove(0)
    };
    append_as(&known).await.unwrap();
    let refused = append_as(&stranger).await.unwrap_err();
    assert!(matches!(refused, Error::Connection(_)), "{refused:?}");
    let log = RedisLog::new(Valkey::lazy(&known).unwrap());
    log.append(&append()).await.remove(0).unwrap();
    server.restart().unwrap();
    wait_until(Duration::from_secs(5), "it is used again", || async {
        log.append(&append()).await.remove(0).is_ok()
    })
    .await;
}
