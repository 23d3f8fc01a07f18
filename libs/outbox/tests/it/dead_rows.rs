//! Dead rows that an old snapshot keeps, on PostgreSQL: the table's file is replaced beside the work.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ratebox_db::{Db, Sql, Tx};
use ratebox_kit::{Shutdown, Stopwatch, Tasks};
use ratebox_outbox::{Event, Outbox, Relay, RelaySettings, Settings, Step};
use ratebox_testkit::wait_until;

use crate::broker::{FakeBroker, Mood};
use crate::databases::{Fresh, both};
use crate::relay::add;

/// Below it nothing is replaced.
pub(crate) const SMALL: i64 = 1 << 20;

/// The file, and the table whose name is `outbox`.
const FILE: &str = "SELECT pg_relation_filenode('outbox'::regclass)::bigint";
pub(crate) const TABLE: &str = "SELECT 'outbox'::regclass::oid::bigint";

/// Rows that were sent under a snapshot that stays open.
pub(crate) const FILL: &str = "INSERT INTO outbox (partition, id, topic, body)
        SELECT n % 16, gen_random_uuid(), 't', repeat('x', 200)::bytea
        FROM generate_series(1, 100000) n;
    DELETE FROM outbox;";

pub(crate) async fn postgres() -> Fresh {
    both().await.remove(1)
}

/// A transaction that still sees what is there now.
pub(crate) async fn old_snapshot(db: &Db) -> Tx {
    let mut snapshot = db.begin().await.unwrap();
    let isolation = Sql::both("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    snapshot.execute(isolation).await.unwrap();
    let any = Sql::both("SELECT count(*) FROM pg_class");
    snapshot.query(any).await.unwrap();
    snapshot
}

/// Makes each truncation take so long, its lock included.
async fn slow_down(db: &Db, seconds: u32) {
    let trigger = format!(
        "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
        CREATE TRIGGER rest BEFORE TRUNCATE ON outbox EXECUTE FUNCTION rest();"
    );
    db.script(trigger).await.unwrap();
}

pub(crate) async fn number(db: &Db, sql: &'static str) -> i64 {
    let rows = db.query(Sql::both(sql)).await.unwrap();
    rows[0].get(0).unwrap()
}

pub(crate) async fn file_size(db: &Db) -> i64 {
    number(db, "SELECT pg_relation_size('outbox'::regclass)").await
}

pub(crate) fn relay(db: &Db, broker: &Arc<FakeBroker>, holder: &str) -> Relay {
    let settings = RelaySettings::default();
    Relay::new(db.clone(), broker.clone(), holder, settings, Arc::default())
}

#[tokio::test]
async fn dead_rows_under_an_old_snapshot_do_not_slow_the_relay_down() {
    let fresh = postgres().await;
    let snapshot = old_snapshot(&fresh.db).await;
    fresh.db.script(FILL.to_owned()).await.unwrap();
    fresh.db.script("VACUUM outbox".to_owned()).await.unwrap();
    let broker = FakeBroker::new(Mood::Up);
    let mut relay = relay(&fresh.db, &broker, "r1");
    let watch = Stopwatch::start();
    relay.step().await.unwrap();
    let slow = watch.elapsed();
    for n in 0..5 {
        add(&fresh.db, vec![Event::new("t", format!("{n}"))]).await;
        relay.step().await.unwrap();
    }
    // A replacement that others hold up goes on beside the looks.
    let watch = Stopwatch::start();
    while file_size(&fresh.db).await >= SMALL {
        assert!(watch.elapsed() < Duration::from_secs(30), "not replaced");
        relay.step().await.unwrap();
    }
    let all = ["0", "1", "2", "3", "4"];
    assert_eq!(broker.bodies(), all, "and nothing was lost");
    let watch = Stopwatch::start();
    relay.step().await.unwrap();
    let fast = watch.elapsed();
    eprintln!("a look took {slow:?} with 100,000 dead rows, {fast:?} after");
    snapshot.rollback().await.unwrap();
}

#[tokio::test]
async fn the_look_that_finds_that_it_is_time_does_not_wait_for_the_replacement() {
    let fresh = postgres().await;
    slow_down(&fresh.db, 2).await;
    let snapshot = old_snapshot(&fresh.db).await;
    fresh.db.script(FILL.to_owned()).await.unwrap();
    let broker = FakeBroker::new(Mood::Up);
    let mut relay = relay(&fresh.db, &broker, "r1");
    // The second look finds that it is time.
    for _ in 0..2 {
        let watch = Stopwatch::start();
        assert_eq!(relay.step().await.unwrap(), Step::Idle);
        let took = watch.elapsed();
        assert!(took < Duration::from_secs(2), "a look took {took:?}");
    }
    add(&fresh.db, vec![Event::new("t", "a")]).await;
    while file_size(&fresh.db).await >= SMALL {
        relay.step().await.unwrap();
    }
    relay.step().await.unwrap();
    assert_eq!(broker.bodies(), ["a"]);
    snapshot.rollback().await.unwrap();
}

#[tokio::test]
async fn a_replacement_that_is_killed_half_way_loses_nothing() {
    let fresh = postgres().await;
    slow_down(&fresh.db, 30).await;
    let snapshot = old_snapshot(&fresh.db).await;
    fresh.db.script(FILL.to_owned()).await.unwrap();
    let later = |n: u32| Event::new("t", n.to_string()).deliver_after(Duration::from_secs(3600));
    add(&fresh.db, (0..100).map(later).collect()).await;
    let broker = FakeBroker::new(Mood::Up);
    let tasks = Tasks::new();
    let running = relay(&fresh.db, &broker, "r1").run(tasks.shutdown());
    tasks.spawn("relay", running);
    let kill = Sql::both(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'
            AND pid <> pg_backend_pid() AND query LIKE '%TRUNCATE outbox%'
            AND EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = pg_stat_activity.pid
                AND l.mode = 'AccessExclusiveLock' AND l.granted)",
    );
    while fresh.db.query(kill).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let waiting = "SELECT count(*) FROM outbox";
    assert_eq!(number(&fresh.db, waiting).await, 100);
    let unhindered = "DROP TRIGGER rest ON outbox".to_owned();
    fresh.db.script(unhindered).await.unwrap();
    let watch = Stopwatch::start();
    while file_size(&fresh.db).await >= SMALL {
        assert!(watch.elapsed() < Duration::from_secs(30), "not tried again");
        add(&fresh.db, vec![Event::new("t", "now")]).await;
    }
    let delayed = "SELECT count(*) FROM outbox WHERE delay_ms IS NOT NULL";
    assert_eq!(number(&fresh.db, delayed).await, 100);
    tasks.stop();
    tasks.join(Duration::from_secs(10)).await;
    snapshot.rollback().await.unwrap();
}

/// Adds an event to each of twenty aggregates, again and again until it is told to stop; counts how
/// often.
async fn write(db: Db, name: &str, outbox: Outbox, stop: Shutdown, count: Arc<AtomicUsize>) {
    let mut written = 0;
    while !stop.is_stopping() {
        let event = |n: usize| {
            let key = format!("{name}{n}");
            Event::new("t", format!("{key} {written}")).ordered_by(key)
        };
        let (insert, _left) = outbox.stage((0..20).map(event).collect()).unwrap();
        db.run(vec![insert]).await.unwrap();
        written += 1;
        count.store(written, Ordering::SeqCst);
        // As many as the relays get done.
        stop.sleep(Duration::from_millis(20)).await;
    }
}

/// How a program of the previous version replaces the file, which may run beside this one.
const BEFORE: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '50ms';
    DO $$ DECLARE live outbox[]; BEGIN
        LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE;
        live := ARRAY(SELECT o FROM outbox o LIMIT 1001);
        IF pg_relation_size('outbox'::regclass) > 1048576 AND cardinality(live) <= 1000 THEN
            LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
            TRUNCATE outbox;
            INSERT INTO outbox SELECT (row).* FROM unnest(live) AS row;
        END IF;
    END $$;
    COMMIT;";

async fn replace_as_before(db: Db, stop: Shutdown) {
    while !stop.is_stopping() {
        // It gives up when it does not get its lock.
        let _ = db.script(BEFORE.to_owned()).await;
        stop.sleep(Duration::from_secs(3)).await;
    }
}

/// Adds an event of one aggregate in a transaction that stays open for a while, again and again.
async fn write_slowly(db: Db, outbox: Outbox, stop: Shutdown, count: Arc<AtomicUsize>) {
    let mut written = 0;
    while !stop.is_stopping() {
        let mut tx = db.begin().await.unwrap();
        // Sometimes it sees the outbox as it was before.
        if written % 2 == 0 {
            let isolation = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
            tx.execute(Sql::both(isolation)).await.unwrap();
        }
        tx.query(Sql::both("SELECT 1")).await.unwrap();
        stop.sleep(Duration::from_millis(15)).await;
        let event = Event::new("t", format!("slow0 {written}")).ordered_by("slow0");
        let staged = outbox.add(&mut tx, event).await.unwrap();
        stop.sleep(Duration::from_millis(15)).await;
        outbox.commit(tx, staged).await.unwrap();
        written += 1;
        count.store(written, Ordering::SeqCst);
        stop.sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn files_are_replaced_under_senders_and_relays_that_never_rest() {
    let fresh = postgres().await;
    let snapshot = old_snapshot(&fresh.db).await;
    let broker = FakeBroker::new(Mood::Up);
    let (tasks, senders) = (Tasks::new(), Tasks::new());
    for name in ["r1", "r2"] {
        tasks.spawn(name, relay(&fresh.db, &broker, name).run(tasks.shutdown()));
    }
    let settings = Settings {
        optimistic: false,
        ..Settings::default()
    };
    let outbox = Outbox::new(fresh.db.clone(), broker.clone(), settings, &tasks);
    let counts = ["a", "b", "c", "slow"].map(|name| (name, Arc::<AtomicUsize>::default()));
    for (name, count) in counts.clone() {
        let (db, stop, outbox) = (fresh.db.clone(), senders.shutdown(), outbox.clone());
        if name == "slow" {
            senders.spawn(name, write_slowly(db, outbox, stop, count));
        } else {
            senders.spawn(name, write(db, name, outbox, stop, count));
        }
    }
    let before = replace_as_before(fresh.db.clone(), senders.shutdown());
    senders.spawn("before", before);
    let (mut files, mut tables) = (Vec::new(), HashSet::new());
    let watch = Stopwatch::start();
    while files.len() < 8 || tables.len() < 2 {
        let is_late = watch.elapsed() > Duration::from_secs(90);
        assert!(!is_late, "files {files:?} of {tables:?}");
        files.push(number(&fresh.db, FILE).await);
        files.dedup();
        tables.insert(number(&fresh.db, TABLE).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    senders.stop();
    assert!(senders.join(Duration::from_secs(10)).await.is_empty());
    let waiting = || async { Relay::pending(&fresh.db).await.unwrap() == 0 };
    wait_until(Duration::from_secs(60), "the outbox is empty", waiting).await;
    let mut got: HashMap<String, usize> = HashMap::new();
    for body in broker.bodies() {
        let (key, n) = body.split_once(' ').unwrap();
        let next = got.entry(key.to_owned()).or_default();
        assert_eq!(
            n.parse::<usize>().unwrap(),
            *next,
            "{key}: each once, in order"
        );
        *next += 1;
    }
    for (name, count) in counts {
        for n in 0..if name == "slow" { 1 } else { 20 } {
            let count = count.load(Ordering::SeqCst);
            assert_eq!(got[&format!("{name}{n}")], count, "{name}{n}");
        }
    }
    eprintln!(
        "{} events, files {files:?} of {tables:?}",
        broker.got().len()
    );
    tasks.stop();
    tasks.join(Duration::from_secs(10)).await;
    snapshot.rollback().await.unwrap();
}
