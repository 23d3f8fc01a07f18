//! Handlers as async functions: extractors, outcomes, routes, batches, transactions, layers.

mod batches;
mod compile;
mod functions;
mod layers;
mod readme;
mod sql;
mod transactions;
