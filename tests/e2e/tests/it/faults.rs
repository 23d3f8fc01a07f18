//! Faults under load: nothing lost, nothing twice.

mod bus;
mod poison;
mod processes;
mod store;
