//! The built binary as a black box: everything is in `tests/it`.
