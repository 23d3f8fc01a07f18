//! Handlers as async functions: extractors, outcomes, routes, batches, transactions, layers.

mod asyncapi;
mod batches;
mod compile;
mod functions;
mod layers;
mod outage;
mod packed;
mod payloads;
mod readme;
mod sql;
mod transactions;
