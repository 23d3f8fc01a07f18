//! The conformance suite over every backend, and what only one backend can show.

mod memory;
