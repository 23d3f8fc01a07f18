//! Brokers beside the bus, for events whose topic names one: `kafka:orders`.

use anyhow::{Result, ensure};
use ratebox_kit::Secret;
use serde::Deserialize;

/// Where they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokersConfig {
    /// Kafka's bootstrap servers; empty = none.
    pub kafka: String,
    /// Address of RabbitMQ; empty = none.
    pub rabbitmq_url: Secret,
    /// File that holds the address instead.
    pub rabbitmq_url_file: String,
    /// Exchange of RabbitMQ; empty = topics are queues.
    pub rabbitmq_exchange: String,
    /// Address of NATS; empty = none.
    pub nats_url: Secret,
    /// File that holds the address instead.
    pub nats_url_file: String,
}

impl BrokersConfig {
    /// The address of RabbitMQ, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
    #[cfg(feature = "rabbitmq")]
    pub fn rabbitmq(&self) -> Result<Option<Secret>> {
        let (direct, file) = (&self.rabbitmq_url, &self.rabbitmq_url_file);
        super::store::secret("brokers.rabbitmq_url_file", direct, file)
    }

    /// The address of NATS, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
    #[cfg(feature = "nats")]
    pub fn nats(&self) -> Result<Option<Secret>> {
        super::store::secret("brokers.nats_url_file", &self.nats_url, &self.nats_url_file)
    }

    /// Is there a broker of this name, beside the bus?
    pub fn has(&self, name: &str) -> bool {
        match name {
            "kafka" => !self.kafka.is_empty(),
            "rabbitmq" => !self.rabbitmq_url.is_empty() || !self.rabbitmq_url_file.is_empty(),
            "nats" => !self.nats_url.is_empty() || !self.nats_url_file.is_empty(),
            _ => false,
        }
    }

    /// Refuses a broker that this binary was built without.
    ///
    /// # Errors
    /// With the feature to build with.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.has("rabbitmq") || self.rabbitmq_exchange.is_empty(),
            "brokers.rabbitmq_exchange is set, but no address of RabbitMQ; set brokers.rabbitmq_url, or unset it"
        );
        for (name, is_built) in [
            ("kafka", cfg!(feature = "kafka")),
            ("rabbitmq", cfg!(feature = "rabbitmq")),
            ("nats", cfg!(feature = "nats")),
        ] {
            ensure!(
                is_built || !self.has(name),
                "brokers.{name} is set, but this binary was built without it; build with `--features {name}`, or unset it"
            );
        }
        Ok(())
    }
}
