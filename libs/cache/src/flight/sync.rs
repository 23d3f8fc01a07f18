//! The locks over the flights: the standard ones, and in this crate's own unit tests those of
//! shuttle, which runs the threads of a test in every order it can think of.

#[cfg(not(test))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
