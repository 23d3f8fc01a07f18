//! Take, check, record, answer.
