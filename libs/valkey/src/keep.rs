//! Values with an end: what many processes share for a while.

use std::time::Duration;

use redis::{Cmd, cmd};

use crate::{Error, Valkey};

impl Valkey {
    /// Keeps `value` under `key` for `kept` unless the key is there; answers the value that was
    /// there.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn set_if_absent(
        &self,
        key: &str,
        value: &str,
        kept: Duration,
    ) -> Result<Option<String>, Error> {
        let mut set = set(key, value, kept);
        set.arg("NX").arg("GET");
        self.query_as(&set).await
    }

    /// Keeps `value` under `key` for `kept`, whatever was there.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn set(&self, key: &str, value: &str, kept: Duration) -> Result<(), Error> {
        self.query(&set(key, value, kept)).await.map(drop)
    }
}

fn set(key: &str, value: &str, kept: Duration) -> Cmd {
    let ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut set = cmd("SET");
    set.arg(key).arg(value).arg("PX").arg(ms);
    set
}
