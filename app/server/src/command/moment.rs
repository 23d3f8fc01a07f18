//! A moment as people name it: a time, or how long ago. What every `--from` and `--until` takes.
//! It is read as HTTP reads it.

pub(super) use ratebox_operator::{Moment, span};
