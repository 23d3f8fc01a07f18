//! The binary `ratebox`.

#![expect(
    unreachable_pub,
    reason = "a binary exports nothing; `pub` marks what other files use"
)]

mod broker;
mod cli;
mod command;
mod config;
mod door;
mod log;
mod metrics;
mod roles;
mod sample;
mod wiring;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
