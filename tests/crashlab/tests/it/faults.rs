//! Single faults with a bar in seconds or with a second effect to fear; the lines of
//! `docs/Fault-Matrix.md` that need real processes.

use std::time::Duration;

use ratebox_crashlab::lab::{Lab, Waits};
use ratebox_kit::Stopwatch;
use ratebox_testkit::{HttpClient, RateboxOptions, TcpProxy, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that was sent has its effect.
async fn all_done(lab: &Lab) {
    wait_until(PATIENCE, "every message has its effect", || async {
        lab.effects() == Some(lab.sent())
    })
    .await;
}

/// Nothing was lost, doubled, forgotten or miscounted.
async fn check(lab: &mut Lab) {
    lab.calm(PATIENCE).await.unwrap();
    let violations = lab.evidence().await.unwrap().violations();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Sends until the worker of this name has entries in its hands. The database must stand still, or
/// they do not stay there.
async fn send_until_it_holds(lab: &mut Lab, name: &str) {
    for _ in 0..100 {
        lab.send(20).await.unwrap();
        let read = Stopwatch::start();
        while read.elapsed() < Duration::from_millis(300) {
            if lab.pending_of(name) > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    panic!("{name} reads nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_four_seconds_without_redis_it_consumes_again_within_two() {
    let mut lab = Lab::start(Waits::Default).unwrap();
    lab.add_worker().unwrap();
    lab.send(200).await.unwrap();
    all_done(&lab).await;
    lab.redis.kill9();
    // The length of the outage.
    tokio::time::sleep(Duration::from_secs(4)).await;
    lab.redis.restart().unwrap();
    let back = Stopwatch::start();
    lab.send(20).await.unwrap();
    all_done(&lab).await;
    let took = back.elapsed();
    println!("consuming again after {took:?}");
    assert!(took <= Duration::from_secs(2), "it took {took:?}");
    check(&mut lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_worker_is_noticed_within_fifteen_seconds_by_default() {
    let mut lab = Lab::start(Waits::Default).unwrap();
    lab.add_worker().unwrap();
    lab.add_worker().unwrap();
    lab.send(50).await.unwrap();
    all_done(&lab).await;
    lab.postgres.pause().unwrap();
    send_until_it_holds(&mut lab, "w0").await;
    let mut doomed = lab.members.remove(0);
    doomed.process.kill9();
    let dead = Stopwatch::start();
    lab.postgres.resume().unwrap();
    all_done(&lab).await;
    wait_until(PATIENCE, "all is taken over", || async {
        lab.pending_of("w0") == 0
    })
    .await;
    let took = dead.elapsed();
    println!("noticed and taken over after {took:?}");
    assert!(took <= Duration::from_secs(15), "it took {took:?}");
    check(&mut lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_sleeps_through_its_lease_has_no_second_effect() {
    let mut lab = Lab::start(Waits::Short).unwrap();
    lab.add_worker().unwrap();
    lab.add_worker().unwrap();
    lab.send(50).await.unwrap();
    all_done(&lab).await;
    for _ in 0..3 {
        lab.postgres.pause().unwrap();
        send_until_it_holds(&mut lab, "w0").await;
        lab.members[0].process.pause().unwrap();
        lab.postgres.resume().unwrap();
        // The other one takes over what the sleeper holds.
        wait_until(PATIENCE, "the lease is over", || async {
            lab.pending_of("w0") == 0
        })
        .await;
        lab.members[0].process.resume().unwrap();
        all_done(&lab).await;
    }
    check(&mut lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_cut_slow_or_silent_cost_no_message_and_double_none() {
    let mut lab = Lab::start(Waits::Short).unwrap();
    let (bus, store) = (lab.redis.port(), lab.postgres.port());
    let links = [TcpProxy::to(bus).unwrap(), TcpProxy::to(store).unwrap()];
    let (url, dsn) = (
        links[0].url(&lab.redis.url()),
        links[1].url(&lab.postgres.dsn()),
    );
    let by_links = |options: RateboxOptions| {
        let options = options.env("REDIS_URL", url).env("POSTGRES_DSN", dsn);
        options.env("RATEBOX_STORE__STATEMENT_TIMEOUT_MS", "1000")
    };
    lab.add_worker_with(by_links).unwrap();
    lab.add_worker().unwrap();
    for link in &links {
        // The other worker gets what this one holds, whichever of the two it lacks.
        let send = async |lab: &mut Lab| {
            lab.send(300).await.unwrap();
            all_done(lab).await;
        };
        lab.send(300).await.unwrap();
        link.cut_once();
        link.cut();
        send(&mut lab).await;
        link.resume();
        all_done(&lab).await;
        link.delay(Duration::from_millis(100));
        lab.send(300).await.unwrap();
        all_done(&lab).await;
        link.black_hole();
        send(&mut lab).await;
        link.resume();
        all_done(&lab).await;
    }
    check(&mut lab).await;
}

/// It lives, and its heart beats; yet it cannot work, so it must not keep others from working.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_its_store_hands_back_within_fifteen_seconds_by_default() {
    let mut lab = Lab::start(Waits::Default).unwrap();
    let link = TcpProxy::to(lab.postgres.port()).unwrap();
    let dsn = link.url(&lab.postgres.dsn());
    lab.add_worker_with(|options| options.env("POSTGRES_DSN", dsn))
        .unwrap();
    lab.add_worker().unwrap();
    lab.send(50).await.unwrap();
    all_done(&lab).await;
    lab.postgres.pause().unwrap();
    send_until_it_holds(&mut lab, "w0").await;
    link.cut();
    let cut = Stopwatch::start();
    lab.postgres.resume().unwrap();
    all_done(&lab).await;
    let took = cut.elapsed();
    println!("all handed back and done after {took:?}");
    assert!(took <= Duration::from_secs(15), "it took {took:?}");
    // It asks whether its store is back, and takes no entry to find out.
    lab.send(500).await.unwrap();
    all_done(&lab).await;
    assert_eq!(lab.pending_of("w0"), 0);
    link.resume();
    let works = |lab: &Lab| lab.members[0].process.logs().contains("inflow goes on");
    let watch = Stopwatch::start();
    while !works(&lab) {
        assert!(watch.elapsed() < PATIENCE, "it does not work again");
        lab.send(5).await.unwrap();
    }
    all_done(&lab).await;
    check(&mut lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_keeps_no_verdict_from_being_answered_later() {
    let mut lab = Lab::start(Waits::Short).unwrap();
    lab.add_worker().unwrap();
    lab.send(50).await.unwrap();
    all_done(&lab).await;
    lab.members[0].process.pause().unwrap();
    lab.send(500).await.unwrap();
    let limit = |bytes| lab.redis.command(&["CONFIG", "SET", "maxmemory", bytes]);
    limit("1").unwrap();
    let logged = lab.members[0].process.logs().lines().count();
    lab.members[0].process.resume().unwrap();
    // The length of the fault: refusals are met again and again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let lines = lab.members[0].process.logs().lines().count() - logged;
    assert!(lines < 200, "{lines} lines in three seconds: it spins");
    limit("0").unwrap();
    all_done(&lab).await;
    check(&mut lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_starts_without_its_bus_waits_for_it() {
    let mut lab = Lab::start(Waits::Short).unwrap();
    lab.redis.kill9();
    lab.add_worker().unwrap();
    let ready = |lab: &Lab| {
        let client = HttpClient::new(&lab.members[0].process.metrics_url());
        async move { client.get("/ready").await.ok().map(|answer| answer.status) }
    };
    wait_until(PATIENCE, "it says what it waits for", || async {
        let logs = lab.members[0].process.logs();
        logs.contains("waiting for the bus, which is not there") && ready(&lab).await == Some(503)
    })
    .await;
    lab.redis.restart().unwrap();
    lab.send(50).await.unwrap();
    all_done(&lab).await;
    assert_eq!(ready(&lab).await, Some(200));
    check(&mut lab).await;
}

/// The experiment found it: such a worker gave up, where one that finds no database waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_database_dies_while_it_starts_waits_for_it() {
    let mut lab = Lab::start(Waits::Short).unwrap();
    let dsn = lab.postgres.dsn();
    // Somebody else is migrating, so the worker is held up in the middle of its start.
    let other = std::thread::spawn(move || {
        let hold = "SELECT pg_advisory_lock(7261746562); SELECT pg_sleep(60);";
        let program = ratebox_testkit::tools::postgres_bin().unwrap().join("psql");
        std::process::Command::new(program)
            .args(["-X", "-q", "-d", &dsn, "-c", hold])
            .output()
    });
    let locks = |lab: &Lab, which: &str| {
        let sql =
            format!("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND {which}");
        lab.postgres
            .sql(&sql)
            .is_ok_and(|answer| answer.trim() == "t")
    };
    wait_until(PATIENCE, "the lock is taken", || async {
        locks(&lab, "granted")
    })
    .await;
    lab.add_worker().unwrap();
    wait_until(PATIENCE, "the worker is held up", || async {
        locks(&lab, "NOT granted")
    })
    .await;
    lab.postgres.kill9();
    lab.postgres.restart().unwrap();
    lab.send(50).await.unwrap();
    all_done(&lab).await;
    check(&mut lab).await;
    let _ended = other.join();
}
