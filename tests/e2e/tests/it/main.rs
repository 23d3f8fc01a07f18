//! The built binary as its users meet it: started, asked, killed, started again.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod backup;
mod bad_input;
mod cache_behind;
mod cache_entries;
mod cache_faults;
mod cache_forgets;
mod cache_names;
mod cache_openapi;
mod cache_origins;
mod cache_reads;
mod cache_service;
mod cache_tour;
mod cache_writes;
mod cli;
mod clients;
mod descriptors;
mod doctor;
mod embedded;
mod faults;
mod imports;
mod jwt;
mod load;
mod lookups;
mod operators;
mod outbox;
mod place;
mod producers;
mod rights;
mod sagas;
mod servers;
mod top;
