//! Sagas whose process dies go on in another. In two terminals:
//!
//! `cargo run -p ratebox-saga --example two_processes -- trips.db 5` starts five slow sagas in the
//! file `trips.db` (or in PostgreSQL: `postgresql://…`), and
//! `cargo run -p ratebox-saga --example two_processes -- trips.db` starts none and waits.
//! Kill the first with `kill -9`: within five seconds the second goes on where it was. It ends when
//! all sagas have.

use std::time::Duration;

use ratebox_db::{Db, PostgresSettings, SqliteSettings};
use ratebox_kit::{Secret, Tasks};
use ratebox_saga::{
    Ctx, Engine, Filter, Journal, MIGRATIONS, OWNER, Saga, SqlStore, Status, StepError, StepResult,
};

async fn work<A>(ctx: Ctx, _: A) -> StepResult<u32> {
    let (process, saga) = (std::process::id(), ctx.saga().to_string());
    let short = saga.get(24..).unwrap_or_default().to_owned();
    println!(
        "process {process}: {} of {short}, attempt {}",
        ctx.step(),
        ctx.attempt()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    match ctx.step() {
        "flight" if short.ends_with(['0', '1', '2', '3']) => Err(StepError::rejected("it is full")),
        _ => Ok(1),
    }
}

async fn back(ctx: Ctx, _: u32, _: Option<u32>) -> StepResult {
    println!("process {}: undid {}", std::process::id(), ctx.step());
    Ok(())
}

fn trip() -> ratebox_saga::Result<Saga<u32, u32>> {
    let b = Saga::<u32>::builder("slow-trip");
    let hotel = b.step("hotel", work).undo(back);
    let flight = b.step("flight", work).undo(back);
    let paid = b.after((hotel, flight)).step("pay", work).pivot();
    b.returns(paid).build()
}

fn open(place: &str) -> Result<Db, ratebox_db::Error> {
    if place.starts_with("postgres") {
        Db::postgres(&PostgresSettings::new(Secret::new(place)))
    } else {
        Db::sqlite(&SqliteSettings::new(place))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let place = words.next().unwrap_or_else(|| "trips.db".to_owned());
    let sagas: u32 = words.next().map_or(Ok(0), |it| it.parse())?;
    let db = open(&place)?;
    ratebox_db::migrate(&db, OWNER, MIGRATIONS).await?;
    let (saga, tasks) = (trip()?, Tasks::new());
    let engine = Engine::builder(&Journal::new(SqlStore::new(db)));
    let engine = engine.register(&saga).start(&tasks)?;
    for number in 0..sagas {
        engine.start(&saga, &number).await?;
    }
    let open = Filter {
        statuses: Status::ALL.into_iter().filter(|it| !it.is_end()).collect(),
        limit: 1,
        ..Filter::default()
    };
    while !engine.list(&open).await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for count in engine.counts().await? {
        println!("{} {}: {}", count.definition, count.status, count.sagas);
    }
    tasks.join(Duration::from_secs(5)).await;
    Ok(())
}
