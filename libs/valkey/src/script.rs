//! Lua scripts that run by their hash, and by their source where the hash is not known yet.

use redis::{Cmd, RedisWrite as _, ToRedisArgs};

/// A script. Keep every one bounded by a count argument: nothing else runs on the server
/// meanwhile. In a cluster all its keys must lie in one slot.
#[derive(Debug)]
pub struct Script {
    source: String,
    hash: String,
}

// === impl Script ===

impl Script {
    /// Hashes the source.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            hash: redis::Script::new(source).get_hash().to_owned(),
        }
    }

    /// What names it to a server that knows it, for an `EVALSHA` among other commands. A server
    /// that does not answers `NOSCRIPT`; [`crate::Valkey::run`] teaches it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Prepares a call.
    pub fn call(&self) -> Call<'_> {
        Call {
            script: self,
            keys: Vec::new(),
            args: Vec::new(),
        }
    }
}

/// A script with its keys and arguments.
pub struct Call<'a> {
    script: &'a Script,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

// === impl Call ===

impl Call<'_> {
    /// Adds a key: `KEYS[n]`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.keys.push(key.as_bytes().to_vec());
        self
    }

    /// Adds an argument: `ARGV[n]`.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.push(arg);
        self
    }

    /// Adds an argument in a loop.
    pub fn push(&mut self, arg: impl ToRedisArgs) {
        arg.write_redis_args(&mut self.args);
    }

    /// The short call, for a server that knows the script.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// The long call, after which the server knows the script.
    pub(crate) fn by_source(&self) -> Cmd {
        self.command("EVAL", &self.script.source)
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let parts = self.keys.iter().chain(&self.args);
        let bytes: usize = parts.map(Vec::len).sum();
        let count = 3 + self.keys.len() + self.args.len();
        let mut command = Cmd::with_capacity(count, bytes + verb.len() + script.len() + 8);
        command.arg(verb).arg(script).arg(self.keys.len());
        for part in self.keys.iter().chain(&self.args) {
            command.write_arg(part);
        }
        command
    }
}
