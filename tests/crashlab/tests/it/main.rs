//! The experiment as CI runs it, and the checker on evidence that is false on purpose.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod checker;
mod faults;
mod one_effect;
