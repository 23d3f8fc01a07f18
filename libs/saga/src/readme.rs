//! The README, whose first program is compiled and run.
#![doc = include_str!("../README.md")]
