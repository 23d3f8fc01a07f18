//! The rate limiter in one process and on a server.

use std::time::Duration;

use ratebox_cache::{CountedBy, Limiter, Ruling, WhenAway};
use ratebox_kit::{Clock, Quota, Stopwatch, Timestamp};
use ratebox_testkit::{RedisOptions, RedisServer, TcpProxy, unique_name, wait_until};
use ratebox_valkey::{Settings, Valkey};

fn at(url: &str) -> Valkey {
    Valkey::lazy(&Settings::new(url)).unwrap()
}

fn shared(url: &str, quota: Quota, when_away: WhenAway) -> Limiter {
    let prefix = unique_name("rate:");
    Limiter::shared(at(url), prefix, quota, when_away, Clock::system())
}

async fn allowed_of(limiter: &Limiter, key: &str, times: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..times {
        allowed += usize::from(limiter.take(key).await.allowed);
    }
    allowed
}

#[tokio::test]
async fn a_ruling_tells_limit_rest_and_when_to_come_again() {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let limiter = Limiter::local(Quota::per_minute(3), clock.clone());
    for remaining in [2, 1, 0] {
        let ruling = limiter.take("a").await;
        assert!(ruling.allowed && ruling.retry_after.is_none());
        assert_eq!((ruling.limit, ruling.remaining), (3, remaining));
    }
    let refused = limiter.take("a").await;
    let expected = Ruling {
        allowed: false,
        limit: 3,
        remaining: 0,
        retry_after: Some(Duration::from_secs(20)),
        reset_after: Duration::from_secs(60),
        counted_by: CountedBy::Process,
    };
    assert_eq!(refused, expected);
    assert_eq!(limiter.take("b").await.remaining, 2, "keys do not share");
    clock.advance(Duration::from_secs(20));
    assert!(limiter.take("a").await.allowed);
    assert!(!limiter.take("a").await.allowed);
}

#[tokio::test]
async fn processes_that_share_a_server_share_the_limit() {
    for server in [
        RedisServer::shared().unwrap(),
        RedisServer::shared_valkey().unwrap(),
    ] {
        let quota = Quota {
            burst: 50,
            window: Duration::from_secs(3_600),
        };
        let prefix = unique_name("rate:");
        let limiters: Vec<Limiter> = (0..4)
            .map(|_| {
                let valkey = at(server.url());
                Limiter::shared(valkey, &*prefix, quota, WhenAway::Refuse, Clock::system())
            })
            .collect();
        let asked = limiters.iter().map(|limiter| allowed_of(limiter, "k", 40));
        let allowed: usize = futures_util::future::join_all(asked)
            .await
            .into_iter()
            .sum();
        assert_eq!(allowed, 50);
        let refused = limiters[0].take("k").await;
        assert_eq!(refused.counted_by, CountedBy::Server);
        let wait = refused.retry_after.unwrap();
        assert!(
            wait > Duration::from_secs(60) && wait <= Duration::from_secs(72),
            "{wait:?}"
        );
        assert!(refused.reset_after > Duration::from_secs(3_500));
    }
}

#[tokio::test]
async fn vk_07_a_steady_client_below_the_rate_is_never_locked_out() {
    let quota = Quota {
        burst: 2,
        window: Duration::from_millis(200),
    };
    let limiter = shared(
        RedisServer::shared().unwrap().url(),
        quota,
        WhenAway::Refuse,
    );
    assert_eq!(allowed_of(&limiter, "steady", 3).await, 2);
    for _ in 0..20 {
        // It asks while it is refused, too: that must not push its window on.
        wait_until(Duration::from_secs(2), "the next to pass", || async {
            limiter.take("steady").await.allowed
        })
        .await;
    }
}

#[tokio::test]
async fn vk_07_keys_go_away_when_they_no_longer_matter_and_garbage_in_one_is_no_error() {
    let server = RedisServer::shared().unwrap();
    let quota = Quota {
        burst: 5,
        window: Duration::from_millis(500),
    };
    let prefix = unique_name("rate:");
    let limiter = Limiter::shared(
        at(server.url()),
        &*prefix,
        quota,
        WhenAway::Refuse,
        Clock::system(),
    );
    let key = format!("{prefix}k");
    server.command(&["SET", &key, "garbage"]).unwrap();
    assert_eq!(limiter.take("k").await.remaining, 4);
    server.command(&["SET", &key, "9007199254740000"]).unwrap();
    let cut = limiter.take("k").await;
    assert!(!cut.allowed && cut.retry_after.unwrap() <= Duration::from_millis(100));
    wait_until(Duration::from_secs(5), "the key to pass again", || async {
        limiter.take("k").await.allowed
    })
    .await;
    wait_until(Duration::from_secs(5), "the key to go", || async {
        server.command(&["EXISTS", &key]).unwrap() == 0
    })
    .await;
}

#[tokio::test]
async fn while_the_server_is_away_the_settings_decide_and_nobody_waits_long() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let quota = Quota {
        burst: 3,
        window: Duration::from_secs(3_600),
    };
    let of = |when_away| shared(&server.url(), quota, when_away);
    let (local, refuse, allow) = (
        of(WhenAway::Local),
        of(WhenAway::Refuse),
        of(WhenAway::Allow),
    );
    assert_eq!(allowed_of(&local, "k", 5).await, 3);
    server.kill9();
    assert_eq!(
        allowed_of(&local, "k", 5).await,
        3,
        "each process counts from zero"
    );
    assert_eq!(local.take("k").await.counted_by, CountedBy::Process);
    assert_eq!(allowed_of(&refuse, "k", 5).await, 0);
    assert!(refuse.take("k").await.retry_after.is_some());
    assert_eq!(allowed_of(&allow, "k", 5).await, 5);
    server.restart().unwrap();
    wait_until(
        Duration::from_secs(5),
        "the server to count again",
        || async { allow.take("other").await.counted_by == CountedBy::Server },
    )
    .await;
}

#[tokio::test]
async fn a_server_that_hangs_holds_one_request_up_for_a_quarter_of_a_second() {
    let server = RedisServer::shared().unwrap();
    let port = server
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .trim_matches('/')
        .parse()
        .unwrap();
    let proxy = TcpProxy::to(port).unwrap();
    let limiter = shared(
        &proxy.url(server.url()),
        Quota::per_minute(1_000),
        WhenAway::Local,
    );
    assert_eq!(limiter.take("k").await.counted_by, CountedBy::Server);
    proxy.black_hole();
    let waited = Stopwatch::start();
    for _ in 0..200 {
        assert_eq!(limiter.take("k").await.counted_by, CountedBy::Process);
    }
    assert!(
        waited.elapsed() < Duration::from_millis(900),
        "{:?}",
        waited.elapsed()
    );
}
