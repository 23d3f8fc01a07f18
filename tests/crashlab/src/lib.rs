//! Real processes and real servers that are killed with -9 under load, and a checker over what
//! everybody wrote down meanwhile.
//!
//! The experiment: [`one_effect`]. Workers of the built binary take messages from Redis into
//! PostgreSQL while a seeded script of faults kills them and both servers. Afterwards the
//! [`checker`] compares the sender's journal with what an unconstrained table in the database
//! counted, with the product's own figures and with the answers. Tests of single faults use the same
//! [`lab`]. Run more by hand:
//!
//! ```sh
//! cargo run -p ratebox-crashlab -- --messages 1000000 --seed 7
//! ```

pub mod checker;
pub mod lab;
pub mod one_effect;

mod evidence;
mod faults;
mod journal;
mod producer;
mod sink;
