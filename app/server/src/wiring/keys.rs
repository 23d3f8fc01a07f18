//! Idempotency keys of the stream mode: on the bus' server, or beside the embedded bus in the store.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_gateway::IdempotencyKeys;
use ratebox_kit::PortError;
use ratebox_store::Store;
use ratebox_valkey::Valkey;

/// Keys with expiry on Redis or Valkey.
pub struct ValkeyKeys(pub Valkey);

#[async_trait]
impl IdempotencyKeys for ValkeyKeys {
    async fn keep_if_absent(
        &self,
        key: &str,
        value: &str,
        kept: Duration,
    ) -> Result<Option<String>, PortError> {
        let there = self.0.set_if_absent(key, value, kept).await;
        there.map_err(|error| PortError::new("the bus did not answer for a key", error))
    }

    async fn keep(&self, key: &str, value: &str, kept: Duration) -> Result<(), PortError> {
        let kept = self.0.set(key, value, kept).await;
        kept.map_err(|error| PortError::new("the bus did not keep a key", error))
    }
}

/// Keys in the store, which forgets them by a time of its own (`relay.idempotency_hours`).
pub struct StoreKeys(pub Store);

#[async_trait]
impl IdempotencyKeys for StoreKeys {
    async fn keep_if_absent(
        &self,
        key: &str,
        value: &str,
        _kept: Duration,
    ) -> Result<Option<String>, PortError> {
        let there = self.0.keep_beside_if_absent(key, value).await;
        there.map_err(|error| PortError::new("the store did not answer for a key", error))
    }

    async fn keep(&self, key: &str, value: &str, _kept: Duration) -> Result<(), PortError> {
        let kept = self.0.keep_beside(key, value).await;
        kept.map_err(|error| PortError::new("the store did not keep a key", error))
    }
}
