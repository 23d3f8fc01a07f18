//! The conformance suite over every backend, and what only one backend can show.

#![expect(clippy::unwrap_used, reason = "tests")]

mod broken_replies;
mod bulk;
mod bulk_ends;
mod clocks;
mod control;
mod counted;
mod cron;
mod handlers;
mod hands;
mod heartbeat;
mod matrix;
mod memory;
mod model;
mod on_disk;
mod order;
mod order_load;
mod outages;
mod recognised;
mod redis;
mod redis_8;
mod running;
mod schedule;
mod sqlite;
mod tls;
mod topologies;
mod trips;
mod unreadable;
mod users;
mod valkey;
