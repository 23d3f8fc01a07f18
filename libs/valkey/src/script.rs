//! Lua scripts that run by their hash and load themselves where they are not known.

use redis::{ScriptInvocation, ToRedisArgs};

/// A script. Keep every one bounded by a count argument: nothing else runs on the server
/// meanwhile.
#[derive(Debug)]
pub struct Script(redis::Script);

impl Script {
    /// Hashes the source.
    pub fn new(source: &str) -> Self {
        Self(redis::Script::new(source))
    }

    /// Prepares a call.
    pub fn call(&self) -> Call<'_> {
        Call(self.0.prepare_invoke())
    }
}

/// A script with its keys and arguments.
pub struct Call<'a>(pub(crate) ScriptInvocation<'a>);

impl Call<'_> {
    /// Adds a key: `KEYS[n]`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.key(key);
        self
    }

    /// Adds an argument: `ARGV[n]`.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.0.arg(arg);
        self
    }

    /// Adds an argument in a loop.
    pub fn push(&mut self, arg: impl ToRedisArgs) {
        self.0.arg(arg);
    }
}
