//! The stores of sagas, on real databases.

#![expect(clippy::unwrap_used, reason = "tests")]

mod beds;
mod store_databases;
mod store_letters;
mod store_lists;
mod store_owners;
mod store_writes;
