//! Fills behind the reader's back.

use std::sync::Arc;
use std::time::Duration;

use ratebox_cache::{Lookup, Policy};
use ratebox_testkit::{RedisOptions, RedisServer, TcpProxy, wait_until};

use crate::ground::{Node, Origin, Place, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);

fn behind() -> Policy {
    Policy {
        fill_behind: true,
        ..steady(HOUR)
    }
}

/// Loads a key over a link on which no answer comes any more from the loader on, so not the fill's
/// either. Returns how many fills had ended when the reader had its value.
async fn fills_ended_at_the_answer(node: &Node, link: &Arc<TcpProxy>, key: &str) -> u64 {
    let held = Arc::clone(link);
    let load = move || async move {
        held.mute();
        Ok::<_, std::io::Error>(7)
    };
    assert_eq!(
        *node.cache.get_or_load(key, load).await.unwrap().unwrap(),
        7
    );
    let stats = node.cache.stats();
    link.resume();
    stats.fills + stats.fills_failed
}

#[tokio::test]
async fn a_reader_waits_for_the_fill_unless_it_goes_behind_its_back() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let link = Arc::new(TcpProxy::to(server.port()).unwrap());
    let (place, origin) = (Place::at(&server.url()), Origin::default());
    let by = place.by(&link.url(&server.url()));
    let waits = by.node(steady(HOUR), &origin).await;
    assert_eq!(fills_ended_at_the_answer(&waits, &link, "a").await, 1);
    let goes_on = by.node(behind(), &origin).await;
    assert_eq!(fills_ended_at_the_answer(&goes_on, &link, "b").await, 0);
    wait_until(SOON, "the fill to end", || async {
        let stats = goes_on.cache.stats();
        stats.fills + stats.fills_failed == 1
    })
    .await;
    let other = place.node(behind(), &origin).await;
    let found = other.cache.get("b").await.unwrap();
    assert_eq!(found, Lookup::Value(Arc::new(7)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_again_before_the_fill_has_arrived_waits_for_it_and_loads_nothing() {
    for place in [Place::shared(), Place::shared_valkey()] {
        let origin = Origin::default();
        let node = place.node(behind(), &origin).await;
        let other = place.node(behind(), &origin).await;
        for n in 0..300 {
            let key = n.to_string();
            let version = origin.write(&key);
            assert_eq!(node.read(&key, Duration::ZERO).await.unwrap(), version);
            let again = tokio::join!(
                node.read(&key, Duration::ZERO),
                other.read(&key, Duration::ZERO)
            );
            assert_eq!((again.0.unwrap(), again.1.unwrap()), (version, version));
        }
        assert_eq!(origin.loads(), 300);
    }
}
