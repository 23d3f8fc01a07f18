//! Hearing of changes to keys: RESP3 client tracking in broadcast mode, on the connection that also
//! carries the commands.
//!
//! One connection for both is the point. The server tells of changes when it has answered all that
//! lay in its sockets, and what it tells is handed to the observer before any later answer is
//! handed to its caller. So an answer may overtake the news of a change that it has seen already;
//! the answer to a question that is asked after that one does not.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, PushInfo, PushKind, Value, cmd};

/// Hears what the server says about keys. Called on the connection's own task: it must be quick and
/// never wait.
pub trait Observer: Send + Sync + 'static {
    /// Another client changed or removed the key, or it expired or was evicted.
    fn changed(&self, key: &[u8]);

    /// Everything was removed at once.
    fn flushed(&self);

    /// A connection is gone or is about to be replaced: changes may be missed from now on, until a
    /// ping of a connection that is there is answered.
    fn lost(&self);
}

/// What is listened to, and who hears it.
pub(crate) struct Tracking {
    prefixes: Vec<String>,
    observer: Arc<dyn Observer>,
    /// Longest time for a new connection.
    pub(crate) dial_max: Duration,
}

// === impl Tracking ===

impl Tracking {
    pub(crate) fn new(prefixes: &[&str], observer: Arc<dyn Observer>, dial_max: Duration) -> Self {
        Self {
            dial_max,
            prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            observer,
        }
    }

    /// What a new connection says first. Own writes are not echoed, but for those of scripts, which
    /// the server takes for another client's.
    pub(crate) fn command(&self) -> Cmd {
        let mut command = cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in &self.prefixes {
            command.arg("PREFIX").arg(prefix);
        }
        command.arg("NOLOOP");
        command
    }

    pub(crate) fn lost(&self) {
        self.observer.lost();
    }

    /// Passes on what came without having been asked for.
    pub(crate) fn pushed(&self, push: &PushInfo) {
        match push.kind {
            PushKind::Disconnection => self.observer.lost(),
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => keys.iter().for_each(|key| self.changed(key)),
                _ => self.observer.flushed(),
            },
            _ => {}
        }
    }

    fn changed(&self, key: &Value) {
        match key {
            Value::BulkString(key) => self.observer.changed(key),
            Value::SimpleString(key) => self.observer.changed(key.as_bytes()),
            // What nobody understands may have been any key.
            _ => self.observer.flushed(),
        }
    }
}
