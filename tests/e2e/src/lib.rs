//! The built binary as a black box.
