//! W4, sagas: five steps that do nothing, a → b, c → d → e, each of which is on disk before what
//! comes after it begins. So many clients start one and wait for its end, in a closed loop.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use ratebox_db::{Db, Dialect, Sql, SqliteSettings, migrate};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_saga::{
    Ctx, Engine, EngineSettings, Journal, MIGRATIONS, OWNER, Saga, SqlStore, StepResult,
};
use ratebox_testkit::TempDir;

use crate::Bench;
use crate::meter::Meter;
use crate::proc;
use crate::report::{Line, rounded};
use crate::servers::Servers;

/// Clients at a time, on PostgreSQL and on SQLite.
pub(crate) const POSTGRES: [usize; 4] = [1, 32, 64, 256];
pub(crate) const SQLITE: [usize; 2] = [1, 64];
/// How long is measured unless told.
const SECONDS: u64 = 6;
/// How long connections, plans and files are warmed up.
const WARM: Duration = Duration::from_secs(2);
/// Connections: the writers', and some for whoever looks.
const CONNECTIONS: usize = 8;

const STEPS: i64 = 5;
const WAL: Sql = Sql {
    postgres: "SELECT (pg_current_wal_lsn() - '0/0')::bigint, (SELECT xact_commit FROM \
               pg_stat_database WHERE datname = current_database())",
    sqlite: "SELECT 0, 0",
};
const KEPT: Sql = Sql::both(
    "SELECT (SELECT count(*) FROM sagas WHERE status = 'completed'),
        (SELECT count(*) FROM saga_journal WHERE kind = 3)",
);

/// Measures PostgreSQL with so many clients.
///
/// # Errors
/// When a saga does not complete, or its records are not all there.
pub(crate) async fn postgres(bench: &Bench, clients: usize) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    let db = servers.open(&fresh, CONNECTIONS)?;
    migrate(&db, OWNER, MIGRATIONS).await?;
    servers.settle().await?;
    run(bench, Some(servers), db, clients).await
}

/// Measures SQLite on a file, with a flush a commit.
///
/// # Errors
/// As [`postgres`].
pub(crate) async fn sqlite(bench: &Bench, clients: usize) -> Result<Line> {
    let folder = TempDir::new()?;
    let db = Db::sqlite(&SqliteSettings::new(folder.path().join("sagas.db")))?;
    migrate(&db, OWNER, MIGRATIONS).await?;
    run(bench, None, db, clients).await
}

async fn run(bench: &Bench, servers: Option<&Servers>, db: Db, clients: usize) -> Result<Line> {
    let saga = diamond()?;
    let tasks = Tasks::new();
    let journal = Journal::new(SqlStore::new(db.clone()));
    let engine = Engine::builder(&journal)
        .settings(EngineSettings::default())
        .register(&saga)
        .start(&tasks)?;
    let warm = closed_loop(&engine, &saga, clients, WARM).await?.len();
    let time = Duration::from_secs(bench.seconds.unwrap_or(SECONDS));
    let before = numbers(&db, WAL).await?;
    let postgres = servers.map_or(0, |it| it.postgres_pid);
    let cpu = || (proc::cpu_s(std::process::id()), proc::tree_cpu_s(postgres));
    let meter = Meter::start(servers, &[])?;
    let (watch, (own, theirs)) = (Stopwatch::start(), cpu());
    let mut took = closed_loop(&engine, &saga, clients, time).await?;
    let (wall, after) = (watch.elapsed().as_secs_f64(), cpu());
    let wal = numbers(&db, WAL).await?;
    let sagas = took.len();
    let each = |whole: f64, digits| rounded(whole / sagas as f64, digits);
    let backend = match db.dialect() {
        Dialect::Postgres => "postgres",
        Dialect::Sqlite => "sqlite",
    };
    let line = Line::new("W4", &format!("{backend}-c{clients}"))
        .with("conc", clients)
        .with("sagas", sagas)
        .with("sagas_per_s", rounded(sagas as f64 / wall, 1))
        .with_latencies(&mut took)
        .with("cpu_us_per_saga", each((after.0 - own) * 1e6, 0))
        .with("pg_cpu_us", each((after.1 - theirs) * 1e6, 0))
        .with("commits_per_saga", each((wal.1 - before.1) as f64, 3))
        .with("wal_bytes_per_saga", each((wal.0 - before.0) as f64, 0))
        .with("rss_mib", proc::rss_peak_mib(std::process::id()));
    let line = meter.finish(line)?;
    tasks.join(Duration::from_secs(5)).await;
    let (completed, done) = numbers(&db, KEPT).await?;
    let all = i64::try_from(sagas + warm)?;
    ensure!(completed == all, "{completed} sagas of {all} completed");
    ensure!(
        done == all * STEPS,
        "{done} steps of {} are kept",
        all * STEPS
    );
    Ok(line.with("saga_rows", completed).with("step_rows", done))
}

/// Runs sagas until the time is over; how long each took, in milliseconds.
async fn closed_loop(
    engine: &Engine,
    saga: &Saga<i64, i64>,
    clients: usize,
    time: Duration,
) -> Result<Vec<f64>> {
    let (watch, number) = (Stopwatch::start(), Cell::new(0));
    let took = RefCell::new(Vec::new());
    let client = async || {
        while watch.elapsed() < time {
            number.set(number.get() + 1);
            let (input, one) = (number.get(), Stopwatch::start());
            let output = engine.start(saga, &input).await?.wait().await?;
            took.borrow_mut().push(one.elapsed().as_secs_f64() * 1e3);
            ensure!(output == input, "a saga answered {output} for {input}");
        }
        Ok(())
    };
    try_join_all((0..clients).map(|_| client())).await?;
    Ok(took.into_inner())
}

fn diamond() -> Result<Saga<i64, i64>> {
    let one = async |number: i64| -> StepResult<i64> { Ok(number) };
    let builder = Saga::<i64>::builder("diamond");
    let a = builder
        .step("a", move |_: Ctx, it| one(it))
        .no_undo("nothing");
    let b = builder.after(a).step("b", move |_: Ctx, it| one(it));
    let c = builder.after(a).step("c", move |_: Ctx, it| one(it));
    let (b, c) = (b.no_undo("nothing"), c.no_undo("nothing"));
    let both = builder.after((b, c));
    let d = both
        .step("d", move |_: Ctx, (it, _)| one(it))
        .no_undo("nothing");
    let e = builder.after(d).step("e", move |_: Ctx, it| one(it));
    Ok(builder.returns(e.no_undo("nothing")).build()?)
}

async fn numbers(db: &Db, sql: Sql) -> Result<(i64, i64)> {
    let rows = db.query(sql).await?;
    let row = rows.first().ok_or(ratebox_db::Error::Shape)?;
    Ok((row.get(0)?, row.get(1)?))
}
