//! The binary `ratebox`.

#![expect(
    unreachable_pub,
    reason = "a binary exports nothing; `pub` marks what other files use"
)]

mod answers;
mod broker;
mod cache_door;
mod cli;
mod closed_door;
mod command;
mod config;
mod door;
mod log;
mod metrics;
mod out;
mod readiness;
mod roles;
mod sample;
mod visible;
mod wiring;

use std::process::ExitCode;

/// Threads hand memory to one another here, request by request, and the system's allocator takes
/// a lock for that. Its settings stand in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run()
}
