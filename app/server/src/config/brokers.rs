//! Brokers beside the bus, for events whose topic names one: `kafka:orders`.

use std::net::Ipv6Addr;

use anyhow::{Result, bail, ensure};
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
    pub fn rabbitmq(&self) -> Result<Option<Secret>> {
        let (direct, file) = (&self.rabbitmq_url, &self.rabbitmq_url_file);
        super::store::secret("brokers.rabbitmq_url_file", direct, file)
    }

    /// The address of NATS, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
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

    /// Refuses a broker that this binary was built without, and an address that cannot work; never with
    /// a word of it, since it may hold a password. What stands in files is not looked at.
    ///
    /// # Errors
    /// With the key, and what to write or to build with.
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
        check_kafka(&self.kafka)?;
        check_rabbitmq("brokers.rabbitmq_url", self.rabbitmq_url.reveal())?;
        check_nats("brokers.nats_url", self.nats_url.reveal())
    }

    /// Likewise for addresses that stand in files.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no address that can work.
    pub fn check_files(&self) -> Result<()> {
        if let Some(url) = self.rabbitmq()? {
            check_rabbitmq("brokers.rabbitmq_url", url.reveal())?;
        }
        if let Some(url) = self.nats()? {
            check_nats("brokers.nats_url", url.reveal())?;
        }
        Ok(())
    }
}

fn check_kafka(servers: &str) -> Result<()> {
    let mut servers = servers.split(',').map(str::trim);
    ensure!(
        servers.all(|it| it.is_empty() || is_place(it)),
        "brokers.kafka is no list of servers; write host:port, with commas between, and neither a \
         scheme nor a login"
    );
    Ok(())
}

fn check_rabbitmq(key: &str, address: &str) -> Result<()> {
    if address.is_empty() {
        return Ok(());
    }
    match parts(address) {
        (Some("amqp"), place) if is_place(place) => Ok(()),
        (Some("amqps"), _) => bail!(
            "{key} begins with amqps://, but there is no TLS to RabbitMQ in this program; let a TLS \
             proxy beside it connect, and name that with amqp://"
        ),
        _ => bail!(
            "{key} cannot be read; write amqp://user:password@host:port/vhost, with %2F for a slash \
             in a name or password"
        ),
    }
}

fn check_nats(key: &str, addresses: &str) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    for address in addresses.split(',') {
        match parts(address.trim()) {
            (None | Some("nats" | "tls"), place) if is_place(place) => {}
            (Some("ws" | "wss"), _) => bail!(
                "{key} names a WebSocket, which this program does not speak to NATS; write nats:// or \
                 tls://"
            ),
            _ => bail!(
                "{key} cannot be read; write nats://user:password@host:port, with commas between \
                 several, and with %2F for a slash in a name or password"
            ),
        }
    }
    Ok(())
}

/// The scheme of an address, and its host and port.
fn parts(address: &str) -> (Option<&str>, &str) {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, address),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    (scheme, place)
}

/// Whether it is a host, or a host and a port.
fn is_place(text: &str) -> bool {
    let is_host = |host: &str| {
        let is_letter = |it: char| it.is_alphanumeric() || "-._".contains(it);
        let number = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        match number {
            Some(number) => number.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(is_letter),
        }
    };
    match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => {
            is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        _ => is_host(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(checked: Result<()>) -> String {
        let error = checked.err().map(|error| error.to_string());
        error.unwrap_or_default()
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_without_a_word_of_it() {
        let rabbitmq = |address| refusal(check_rabbitmq("brokers.rabbitmq_url", address));
        for sound in ["", "amqp://mq", "amqp://me:a%2Fb@mq.example:5672/%2f"] {
            assert_eq!(rabbitmq(sound), "", "{sound}");
        }
        for wrong in [
            "amqp://me:se/sekret@127.0.0.1:25672/%2f",
            "me:sekret@127.0.0.1:25672",
            "http://guest:sekret@127.0.0.1:25672/",
            "amqp://me:sekret@mq:port/",
            "amqp://me:sekret@/",
        ] {
            let told = rabbitmq(wrong);
            assert!(
                told.contains("brokers.rabbitmq_url cannot be read"),
                "{wrong}"
            );
            assert!(!told.contains("sekret"), "{told}");
        }
        let told = rabbitmq("amqps://me:sekret@mq:5671/");
        assert!(
            told.contains("no TLS") && !told.contains("sekret"),
            "{told}"
        );
        let nats = |address| refusal(check_nats("brokers.nats_url", address));
        for sound in [
            "nats://n",
            "tls://n:4222",
            "n:4222",
            "nats://a,nats://me:x@b:1",
        ] {
            assert_eq!(nats(sound), "", "{sound}");
        }
        for wrong in [
            "nats://me:se/kret:sekret@127.0.0.1:24222",
            "http://me:sekret@127.0.0.1:24222",
            "nats://a,",
        ] {
            let told = nats(wrong);
            assert!(told.contains("brokers.nats_url cannot be read"), "{wrong}");
            assert!(!told.contains("sekret"), "{told}");
        }
        assert!(nats("wss://me:sekret@n:443").contains("WebSocket"));
        for sound in ["", "a:9092", "a:9092, b:9092", "[::1]:9092", "10.0.0.1"] {
            assert_eq!(refusal(check_kafka(sound)), "", "{sound}");
        }
        for wrong in ["not a host", "kafka://me:sekret@a:9092", "me@a:9092", "a:b"] {
            let told = refusal(check_kafka(wrong));
            assert!(told.contains("brokers.kafka is no list"), "{wrong}");
            assert!(!told.contains("sekret"), "{told}");
        }
    }
}
