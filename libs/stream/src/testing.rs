//! A bus for your tests: no servers, no real time. Feature `testing`.
//!
//! The real consumer works on the log in memory, on a clock that the test moves: what retries,
//! dies or is claimed here does so in production for the same reasons.
//!
//! ```
//! use std::time::Duration;
//! use ratebox_stream::handler::{Failure, Json, Meta, NoEffects, Router};
//! use ratebox_stream::testing::TestBus;
//!
//! async fn settle(meta: Meta, Json(cents): Json<u64>) -> Result<NoEffects, Failure> {
//!     match (meta.attempt(), cents) {
//!         (_, 0) => Err(Failure::dead("amount.zero", "nothing to settle")),
//!         (0, _) => Err(Failure::retry("ledger.busy", "try later")),
//!         _ => Ok(NoEffects),
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let bus = TestBus::new().worker("payments", "ledger", Router::new().on("settle", settle));
//! let paid = bus.send("payments", "settle", &100).await;
//! let void = bus.send("payments", "settle", &0).await;
//! bus.run_until_idle().await;
//! bus.assert_retried(&paid, 1);
//! bus.assert_dead(&void, "amount.zero");
//! bus.advance(Duration::from_secs(60)).await;
//! bus.assert_done(&paid);
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A batch handler gets what is there when the bus runs; nobody lingers for more.

mod bus;
mod recorder;

pub use bus::TestBus;
pub use recorder::Ending;
pub use recorder::Recorded;
