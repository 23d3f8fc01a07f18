//! Real processes that are killed with -9, and what becomes of their sagas: on a real PostgreSQL,
//! with a ledger of effects beside the journal.
//!
//! Short here; `RATEBOX_TEST_SAGAS` and `RATEBOX_TEST_KILL_EVERY_S` make it long.

use std::process::{Child, Command};
use std::time::Duration;

use ratebox_db::{Db, PostgresSettings, Sql, migrate};
use ratebox_kit::{Secret, Stopwatch, Tasks};
use ratebox_saga::{
    Ctx, Engine, Journal, MIGRATIONS, OWNER, Retry, Saga, SqlStore, StepError, StepResult, Time,
};
use ratebox_testkit::{PostgresServer, unique_name, wait_until};

const TABLES: &str = "
    CREATE TABLE effects (key text PRIMARY KEY, number bigint NOT NULL, amount bigint NOT NULL);
    CREATE TABLE runs (saga uuid NOT NULL, what text NOT NULL, epoch bigint NOT NULL,
        at_us bigint NOT NULL)";
/// An effect as its receiver has it who knows the idempotency key: once.
const EFFECT: Sql = Sql {
    postgres: "INSERT INTO effects VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    sqlite: "",
};
/// Takes an effect back, if it happened.
const REVERSE: Sql = Sql {
    postgres: "INSERT INTO effects SELECT $1, $2, -amount FROM effects WHERE key = $3
        ON CONFLICT DO NOTHING",
    sqlite: "",
};
const RUN: Sql = Sql {
    postgres: "INSERT INTO runs VALUES ($1, $2, $3, $4)",
    sqlite: "",
};
const UNFINISHED: Sql = Sql::both("SELECT count(*) FROM sagas WHERE ended_at IS NULL");
const STARTED: Sql = Sql::both("SELECT count(*) FROM sagas");
/// How the sagas ended.
const ENDS: Sql = Sql::both(
    "SELECT count(*) FILTER (WHERE status = 'completed'),
        count(*) FILTER (WHERE status = 'rolled_back'), count(*) FROM sagas",
);
/// Sums that are wrong: a completed saga moved 10 from one side to the other, and what was undone
/// left nothing on either side.
const WRONG: Sql = Sql::both(
    "SELECT count(*) FROM (
        SELECT status,
            coalesce(sum(amount) FILTER (WHERE e.key LIKE '%:debit%'), 0)::int AS debit,
            coalesce(sum(amount) FILTER (WHERE e.key LIKE '%:credit%'), 0)::int AS credit
        FROM sagas s LEFT JOIN effects e ON e.number = s.key::bigint
        GROUP BY s.id, status) it
     WHERE (debit, credit) <> CASE status WHEN 'completed' THEN (-10, 10) ELSE (0, 0) END",
);
/// Steps of a saga that began under an older membership after a younger one had begun one.
const ZOMBIES: Sql = Sql::both(
    "SELECT count(*) FROM runs old JOIN runs new ON new.saga = old.saga
     WHERE new.epoch > old.epoch AND new.at_us < old.at_us",
);
const UNDONE_TWICE: Sql = Sql::both(
    "SELECT count(*) FROM (SELECT FROM saga_journal WHERE kind = 10
        GROUP BY saga, step HAVING count(*) > 1) it",
);
const HEIRS: Sql = Sql {
    postgres: "SELECT count(*) FROM runs WHERE epoch > $1",
    sqlite: "",
};
const EPOCH: Sql = Sql::both("SELECT coalesce(max(epoch), 0) FROM saga_processes");

const PLACE: &str = "RATEBOX_TEST_SAGA_PLACE";
const WORK: &str = "RATEBOX_TEST_SAGA_WORK";

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|it| it.parse().ok()).unwrap_or(default)
}

fn open(dsn: &str) -> Db {
    Db::postgres(&PostgresSettings::new(Secret::new(dsn.to_owned()))).unwrap()
}

async fn database() -> (String, Db) {
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("killed")).unwrap();
    let db = open(&dsn);
    migrate(&db, OWNER, MIGRATIONS).await.unwrap();
    db.script(TABLES.to_owned()).await.unwrap();
    (dsn, db)
}

async fn number(db: &Db, sql: Sql) -> i64 {
    db.query(sql).await.unwrap()[0].get(0).unwrap()
}

/// Notes that a step begins, as the one who sees its beginning.
async fn begins(db: &Db, ctx: &Ctx, what: &str) -> StepResult {
    let at_us = Time::system().now().as_microsecond();
    let run = RUN.with(vec![
        ctx.saga().0.into(),
        what.into(),
        ctx.fencing_token().into(),
        at_us.into(),
    ]);
    let kept = db.execute(run).await;
    kept.map(drop).map_err(StepError::retryable)
}

async fn moves(db: Db, ctx: Ctx, number: i64, amount: i64) -> StepResult {
    begins(&db, &ctx, ctx.step()).await?;
    let values = vec![ctx.idempotency_key().into(), number.into(), amount.into()];
    let done = db.execute(EFFECT.with(values)).await;
    done.map(drop).map_err(StepError::unknown)
}

async fn reverses(db: Db, ctx: Ctx, number: i64) -> StepResult {
    begins(&db, &ctx, &format!("undo {}", ctx.step())).await?;
    let undo = ctx.idempotency_key();
    let key = undo.trim_end_matches(":undo").to_owned();
    let reverse = REVERSE.with(vec![undo.into(), number.into(), key.into()]);
    let done = db.execute(reverse).await;
    done.map(drop).map_err(StepError::unknown)
}

/// Moves 10 from one side to the other; every fifth is refused at the end. With `hangs` it stands
/// still in the middle, until another process has it.
fn transfer(db: &Db, hangs: bool) -> Saga<i64, ()> {
    let patient = Retry::times(20);
    let b = Saga::<i64>::builder("transfer");
    let (one, two) = (db.clone(), db.clone());
    let debit = b
        .step("debit", move |ctx, it| moves(one.clone(), ctx, it, -10))
        .retry(patient)
        .undo(move |ctx, it, _| reverses(two.clone(), ctx, it));
    let hold = b.after((debit, b.input())).step("hold", {
        let db = db.clone();
        move |ctx: Ctx, (_, it): (_, i64)| {
            let db = db.clone();
            async move {
                begins(&db, &ctx, "hold").await?;
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(it)
            }
        }
    });
    let hold = hold.retry(patient).read_only();
    let (one, two) = (db.clone(), db.clone());
    let credit = b
        .after(hold)
        .step("credit", move |ctx, it| moves(one.clone(), ctx, it, 10))
        .retry(patient)
        .undo(move |ctx, it, _| reverses(two.clone(), ctx, it));
    let confirm = b
        .after((credit, hold))
        .step("confirm", async |_: Ctx, (_, it): (_, i64)| {
            if it % 5 == 0 {
                return Err(StepError::rejected("every fifth is refused"));
            }
            Ok(())
        });
    b.returns(confirm.read_only()).build().unwrap()
}

fn engine(db: &Db, saga: &Saga<i64, ()>, tasks: &Tasks) -> Engine {
    let journal = Journal::new(SqlStore::new(db.clone()));
    Engine::builder(&journal)
        .register(saga)
        .start(tasks)
        .unwrap()
}

/// Starts sagas from `first` on, `clients` at a time, and waits for their ends unless they hang.
async fn work(engine: &Engine, saga: &Saga<i64, ()>, sagas: std::ops::Range<i64>, hangs: bool) {
    let numbers = std::sync::Mutex::new(sagas);
    let client = async || loop {
        let Some(number) = numbers.lock().unwrap().next() else {
            return;
        };
        let started = engine.start(saga, &number).key(number.to_string()).await;
        if !hangs {
            let _ = started.unwrap().settled().await;
        }
    };
    futures_util::future::join_all((0..64).map(|_| client())).await;
}

/// Not a test by itself: a process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_runs_sagas_until_it_is_killed() {
    let (Ok(dsn), Ok(text)) = (std::env::var(PLACE), std::env::var(WORK)) else {
        return;
    };
    let [first, end, hangs] = text
        .split(' ')
        .map(|it| it.parse().unwrap())
        .collect::<Vec<i64>>()[..]
    else {
        return;
    };
    let db = open(&dsn);
    let (saga, tasks) = (transfer(&db, hangs == 1), Tasks::new());
    let engine = engine(&db, &saga, &tasks);
    work(&engine, &saga, first..end, hangs == 1).await;
    std::future::pending::<()>().await;
}

fn spawn(dsn: &str, first: u64, end: u64, hangs: bool) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "killed::child_that_runs_sagas_until_it_is_killed",
        ])
        .env(PLACE, dsn)
        .env(WORK, format!("{first} {end} {}", i32::from(hangs)))
        .stdout(std::process::Stdio::null());
    child.spawn().unwrap()
}

/// Ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // `kill` is SIGKILL: no destructor runs, no buffer is written.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn check(db: &Db, sagas: u64) {
    // Without statistics yet, the checks' joins would take minutes.
    db.script("ANALYZE".to_owned()).await.unwrap();
    let rows = db.query(ENDS).await.unwrap();
    let ends: [u64; 3] = [0, 1, 2].map(|it| rows[0].get(it).unwrap());
    let refused = sagas / 5;
    assert_eq!(ends, [sagas - refused, refused, sagas]);
    assert_eq!(number(db, WRONG).await, 0, "sums are wrong");
    assert_eq!(number(db, ZOMBIES).await, 0, "steps of a lost lease");
    assert_eq!(number(db, UNDONE_TWICE).await, 0, "undone twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sagas_of_a_killed_process_go_on_elsewhere_within_five_seconds() {
    let sagas = setting("RATEBOX_TEST_SAGAS", 1_000);
    let deadline = Duration::from_secs(120);
    let (dsn, db) = database().await;
    let child = Killed(spawn(&dsn, 1, sagas + 1, true));
    let held = Sql::both("SELECT count(*) FROM runs WHERE what = 'hold'");
    let all = || async { number(&db, held).await.unsigned_abs() >= sagas };
    wait_until(deadline, "every saga is held", all).await;
    let dead = number(&db, EPOCH).await;
    let (saga, tasks) = (transfer(&db, false), Tasks::new());
    let _engine = engine(&db, &saga, &tasks);
    let joined = || async { number(&db, EPOCH).await > dead };
    wait_until(deadline, "the heir has joined", joined).await;
    drop(child);
    let watch = Stopwatch::start();
    let moves = || async {
        let heirs = db.query(HEIRS.with(vec![dead.into()])).await.unwrap();
        heirs[0].get::<u64>(0).unwrap() > 0
    };
    wait_until(deadline, "something moves", moves).await;
    let first = watch.elapsed();
    let ended = || async { number(&db, UNFINISHED).await == 0 };
    wait_until(deadline, "all have ended", ended).await;
    eprintln!(
        "{sagas} sagas: the first moved after {first:?}, all ended after {:?}",
        watch.elapsed()
    );
    assert!(first < Duration::from_secs(5), "{first:?}");
    check(&db, sagas).await;
    tasks.join(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_again_and_again_lose_and_double_nothing() {
    let sagas = setting("RATEBOX_TEST_SAGAS", 1_000);
    let every = Duration::from_secs(setting("RATEBOX_TEST_KILL_EVERY_S", 2));
    let (dsn, db) = database().await;
    let half = sagas / 2 + 1;
    let start = |which: usize| match which {
        0 => Killed(spawn(&dsn, 1, half, false)),
        _ => Killed(spawn(&dsn, half, sagas + 1, false)),
    };
    let mut children = [start(0), start(1)];
    let (watch, mut kills) = (Stopwatch::start(), 0);
    loop {
        let missing = sagas.abs_diff(number(&db, STARTED).await.unsigned_abs());
        // Three kills at least, however quick the machine is.
        if missing == 0 && kills >= 3 && number(&db, UNFINISHED).await == 0 {
            break;
        }
        assert!(
            watch.elapsed() < Duration::from_secs(600),
            "{missing} are missing"
        );
        // The time between two kills is what is tested, not a way to wait for something.
        tokio::time::sleep(every).await;
        let victim = kills % 2;
        // Replacing it drops it: SIGKILL.
        children[victim] = start(victim);
        kills += 1;
    }
    eprintln!("{sagas} sagas, {kills} kills, {:?}", watch.elapsed());
    drop(children);
    check(&db, sagas).await;
}
