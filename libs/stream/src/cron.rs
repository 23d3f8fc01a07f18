//! Messages by the calendar: cron expressions in IANA time zones, fired once over all processes.
//!
//! ```
//! # use std::sync::Arc;
//! # use std::time::Duration;
//! # use ratebox_kit::Clock;
//! # use ratebox_stream::MemoryLog;
//! use ratebox_stream::cron::{CatchUp, Cron, Job};
//!
//! # fn main() -> Result<(), ratebox_stream::Error> {
//! # let log = Arc::new(MemoryLog::new(Clock::system()));
//! let nightly = Job::new("invoices", "30 2 * * *", "Europe/Berlin", "billing", "invoices.due")?
//!     .catch_up(CatchUp::Last)
//!     .jitter(Duration::from_secs(120));
//! let cron = Cron::new(log, Clock::system()).job(nightly);
//! # Ok(()) }
//! ```
//!
//! Every process may run the same jobs: there is no leader. The log compares the moment with the
//! job's last one and appends the message in one step ([`Firings::fire`]), so a moment is fired
//! once, whoever comes first, and a process that dies at any point neither loses nor doubles one.
//!
//! **When clocks are turned.** A job that names its hours (`30 2 * * *`) fires once a day: where
//! the hour is skipped, at the moment it would have begun; where it comes twice, the first time. A
//! job whose hour is `*` or `*/n` goes by what the clock shows: it is silent in a skipped hour and
//! fires in both of a doubled one.

mod expression;
mod firings;
mod job;
mod runner;
mod schedule;

pub use expression::Expression;
pub use firings::Firings;
pub(crate) use firings::key;
pub use job::CatchUp;
pub use job::Job;
pub use runner::Cron;
pub use schedule::Schedule;
