//! A database that is away for long, under handlers that need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use ratebox_db::{Committed, Sql};
use ratebox_kit::{Message, Stopwatch, Tasks};
use ratebox_stream::conformance::{Bed, Letters};
use ratebox_stream::handler::{Effects, Failure, FromRef, Json, Meta, Router, State, Tx};
use ratebox_stream::{Append, Policy};
use ratebox_testkit::wait_until;

use super::sql::{add, killable};
use crate::running::{Running, redis};

/// How long the database is away; the fault matrix asks for 30 s.
const OUTAGE_S: &str = "RATEBOX_TEST_OUTAGE_S";
/// Messages sent at a time.
const AT_ONCE: usize = 20;

#[derive(Clone)]
struct App {
    effects: Effects,
    calls: Arc<AtomicUsize>,
    /// The most attempts that any message had used up.
    attempts: Arc<AtomicU32>,
}

impl FromRef<App> for Effects {
    fn from_ref(app: &App) -> Self {
        app.effects.clone()
    }
}

async fn bill(
    State(app): State<App>,
    meta: Meta,
    Json(number): Json<i64>,
    mut tx: Tx,
) -> Result<Committed, Failure> {
    app.calls.fetch_add(1, Ordering::SeqCst);
    app.attempts.fetch_max(meta.attempt(), Ordering::SeqCst);
    add(&mut tx, number).await?;
    tx.commit().await
}

async fn send(bed: &Bed, from: usize) {
    let append = |number: usize| {
        let message = Message::new(format!("m{number}"), number.to_string());
        Append::new(bed.stream.clone(), message.with_header("type", "bill"))
    };
    let appends: Vec<_> = (from..from + AT_ONCE).map(append).collect();
    for sent in bed.log.append(&appends).await {
        sent.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_intake_rests_and_no_message_pays() {
    let outage = std::env::var(OUTAGE_S).map_or(4, |it| it.parse().unwrap());
    let outage = Duration::from_secs(outage);
    let (mut server, fresh) = killable().await;
    let (bed, tasks, letters) = (redis(), Tasks::new(), Letters::new());
    let (effects, _log) = fresh.effects(&tasks);
    let app = App {
        effects,
        calls: Arc::default(),
        attempts: Arc::default(),
    };
    let router = Router::with_state(app.clone()).on("bill", bill);
    let policy = Policy::default();
    let held_max = policy.batch_max * (policy.batches_in_flight + 1);
    let consumer = bed.consumer("a", &letters, policy).await;
    let running = Running::run(consumer, Arc::new(router));
    let mut sent = 0;
    while fresh.effects_so_far().await < 100 {
        send(&bed, sent).await;
        sent += AT_ONCE;
    }
    server.kill9();
    let away = Stopwatch::start();
    let calls = app.calls.load(Ordering::SeqCst);
    while away.elapsed() < outage {
        send(&bed, sent).await;
        sent += AT_ONCE;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(running.consumer.is_paused());
    let pending = usize::try_from(bed.pending("g").await).unwrap();
    assert!(pending <= held_max, "{pending} were taken, all in vain");
    let calls = app.calls.load(Ordering::SeqCst) - calls;
    assert!(calls <= held_max, "{calls} calls of the handler in vain");
    server.restart().unwrap();
    let back = Stopwatch::start();
    let patience = Duration::from_secs(60);
    wait_until(patience, "all messages have their effect", || async {
        let count = Sql::both("SELECT count(DISTINCT number) FROM effects");
        let Ok(rows) = fresh.db.query(count).await else {
            return false;
        };
        rows[0].get::<i64>(0).unwrap() == i64::try_from(sent).unwrap()
    })
    .await;
    eprintln!(
        "{sent} messages; all done {:?} after {outage:?} without the database; {calls} calls in vain",
        back.elapsed()
    );
    assert_eq!(fresh.effects_so_far().await, i64::try_from(sent).unwrap());
    assert_eq!(
        app.attempts.load(Ordering::SeqCst),
        0,
        "no attempt is spent"
    );
    assert!(letters.kept().is_empty(), "none is dead");
    running.stop().await;
}
