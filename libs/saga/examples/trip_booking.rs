//! A trip: hotel and flight side by side, then a person approves, then it is paid.
//!
//! `cargo run -p ratebox-saga --example trip_booking` books two trips, one of which is refused,
//! and draws the definition and both runs.

use std::time::Duration;

use ratebox_kit::Tasks;
use ratebox_saga::{Approval, By, Ctx, Engine, Journal, Retry, Saga, StepResult};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Trip {
    pub(crate) to: String,
    pub(crate) days: u32,
}

#[derive(Serialize, Deserialize)]
struct Booking {
    what: String,
    pence: u32,
}

async fn hotel(_: Ctx, trip: Trip) -> StepResult<Booking> {
    let what = format!("{} nights in {}", trip.days, trip.to);
    Ok(Booking {
        what,
        pence: trip.days * 9_000,
    })
}

async fn flight(_: Ctx, trip: Trip) -> StepResult<Booking> {
    let what = format!("a flight to {}", trip.to);
    Ok(Booking {
        what,
        pence: 21_000,
    })
}

async fn give_back(ctx: Ctx, _: Trip, booked: Option<Booking>) -> StepResult {
    let what = booked.map_or_else(|| "whatever was booked".to_owned(), |it| it.what);
    println!("  {}: gave back {what}", ctx.step());
    Ok(())
}

async fn pay(
    _: Ctx,
    (room, seat, approval): (Booking, Booking, Approval),
) -> StepResult<(String, u32)> {
    let pence = room.pence + seat.pence;
    println!(
        "  paid for {} and {}: {} said yes",
        room.what, seat.what, approval.who
    );
    Ok((approval.who, pence))
}

async fn mail(_: Ctx, (who, pence): (String, u32)) -> StepResult {
    println!(
        "  told {who} that {}.{:02} were paid",
        pence / 100,
        pence % 100
    );
    Ok(())
}

pub(crate) fn definition() -> ratebox_saga::Result<Saga<Trip>> {
    let b = Saga::<Trip>::builder("trip");
    let room = b.step("hotel", hotel).undo(give_back);
    let seat = b.step("flight", flight).undo(give_back);
    let yes = b
        .after((room, seat))
        .approval("approve", Duration::from_secs(86_400));
    let paid = b.after((room, seat, yes)).step("pay", pay).pivot();
    b.after(paid).step("mail", mail).retry(Retry::forever());
    b.build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let saga = definition()?;
    println!("{}", saga.mermaid());
    let tasks = Tasks::new();
    let engine = Engine::builder(&Journal::memory())
        .register(&saga)
        .start(&tasks)?;
    for (to, days, is_approved) in [("Turin", 3, true), ("Ushuaia", 40, false)] {
        println!("{to}:");
        let trip = Trip {
            to: to.to_owned(),
            days,
        };
        let handle = engine.start(&saga, &trip).key(to).await?;
        let by = By::new("the budget", if is_approved { "fine" } else { "too long" });
        engine
            .approve(handle.id(), "approve", is_approved, &by)
            .await?;
        if let Err(error) = handle.wait().await {
            println!("  {error}");
        }
        println!("{}", engine.view(handle.id(), None).await?.mermaid());
    }
    tasks.join(Duration::from_secs(5)).await;
    Ok(())
}
