//! An order: reserve the goods, charge the customer, ship. The charge is the point of no return.
//!
//! `cargo run -p ratebox-saga --example order_processing` runs three orders, one that goes well,
//! one whose card is refused, and one whose carrier is away, and draws the last two.

use std::time::Duration;

use ratebox_kit::Tasks;
use ratebox_saga::{Ctx, Engine, Journal, Retry, Saga, StepError, StepResult};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) item: String,
    pub(crate) pence: u32,
    pub(crate) carrier_is_away: bool,
}

#[derive(Serialize, Deserialize)]
struct Reservation(String);

#[derive(Serialize, Deserialize)]
struct Receipt(String);

async fn reserve(ctx: Ctx, order: Order) -> StepResult<Reservation> {
    println!("  reserved {} under {}", order.item, short(&ctx));
    Ok(Reservation(ctx.idempotency_key()))
}

async fn release(_: Ctx, order: Order, reserved: Option<Reservation>) -> StepResult {
    match reserved {
        Some(Reservation(_)) => println!("  released {}", order.item),
        None => println!("  released {} in case it was reserved", order.item),
    }
    Ok(())
}

async fn check(_: Ctx, order: Order) -> StepResult<bool> {
    Ok(order.pence < 100_000)
}

async fn charge(ctx: Ctx, (order, _, is_small): (Order, Reservation, bool)) -> StepResult<Receipt> {
    if !is_small {
        return Err(StepError::rejected("the card was refused"));
    }
    println!("  charged {}.{:02}", order.pence / 100, order.pence % 100);
    Ok(Receipt(ctx.idempotency_key()))
}

async fn ship(ctx: Ctx, (order, _): (Order, Receipt)) -> StepResult<String> {
    if order.carrier_is_away {
        return Err(StepError::retryable("the carrier is away"));
    }
    println!("  shipped {} at attempt {}", order.item, ctx.attempt());
    Ok("by road".to_owned())
}

async fn ship_by_post(_: Ctx, (order, _): (Order, Receipt)) -> StepResult<String> {
    println!("  shipped {} by post instead", order.item);
    Ok("by post".to_owned())
}

fn short(ctx: &Ctx) -> String {
    let key = ctx.idempotency_key();
    key.split_once(':')
        .map_or_else(String::new, |(_, step)| format!("…:{step}"))
}

pub(crate) fn definition() -> ratebox_saga::Result<Saga<Order, String>> {
    let b = Saga::<Order>::builder("order").deadline(Duration::from_secs(3_600));
    let reserved = b.step("reserve", reserve).undo(release);
    let is_small = b.step("check", check).read_only();
    let paid = b
        .after((b.input(), reserved, is_small))
        .step("charge", charge)
        .pivot();
    let shipped = b
        .after((b.input(), paid))
        .step("ship", ship)
        .retry(Retry::times(2).between(Duration::from_millis(20), Duration::from_millis(50)))
        .or_else(ship_by_post);
    b.returns(shipped).build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let saga = definition()?;
    let tasks = Tasks::new();
    let engine = Engine::builder(&Journal::memory())
        .register(&saga)
        .start(&tasks)?;
    for (name, pence, carrier_is_away) in [
        ("a lamp", 4_200, false),
        ("a piano", 420_000, false),
        ("a chair", 9_900, true),
    ] {
        println!("{name}:");
        let order = Order {
            item: name.to_owned(),
            pence,
            carrier_is_away,
        };
        let handle = engine.start(&saga, &order).key(name).await?;
        match handle.wait().await {
            Ok(way) => println!("  done, {way}"),
            Err(error) => println!("  {error}"),
        }
        if name != "a lamp" {
            println!("{}", engine.view(handle.id(), None).await?.mermaid());
        }
    }
    tasks.join(Duration::from_secs(5)).await;
    Ok(())
}
