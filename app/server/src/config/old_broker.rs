//! The predecessor's names for the broker of sagas' messages, as settings of `[brokers]`.
//!
//! Messages of ours go to a broker by the topic's name (`kafka:orders`), all others over the bus;
//! so these names only say where a broker is. Redis is the bus, which has a setting of its own.

use anyhow::{Result, bail};

use super::saga::escaped;

/// The names, in the order in which they are read.
pub const NAMES: [&str; 6] = [
    "SAGAZ_BROKER_URL",
    "SAGAZ_BROKER_TYPE",
    "SAGAZ_BROKER_HOST",
    "SAGAZ_BROKER_PORT",
    "SAGAZ_BROKER_USER",
    "SAGAZ_BROKER_PASSWORD",
];

/// Which broker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kafka,
    Rabbitmq,
    Nats,
    /// The bus itself, or nothing at all.
    Ours,
}

/// The key of `[brokers]` that the names set, its value, and the name to blame; `None` when they
/// set none.
///
/// # Errors
/// When the broker is of no known kind, or cannot be found.
pub(super) fn setting(
    read: impl Fn(&str) -> Option<String>,
) -> Result<Option<(&'static str, String, &'static str)>> {
    let [url, kind, host, port, user, password] = NAMES.map(|name| read(name).unwrap_or_default());
    if !url.is_empty() {
        let (scheme, rest) = url.split_once("://").unwrap_or((&url, ""));
        let kind = kind_of(scheme, NAMES[0])?;
        let value = match kind {
            Kind::Kafka => rest.trim_end_matches('/').to_owned(),
            Kind::Rabbitmq | Kind::Nats | Kind::Ours => url.clone(),
        };
        return Ok(key(kind).map(|key| (key, value, NAMES[0])));
    }
    if kind.is_empty() {
        return Ok(None);
    }
    if kind == "amqps" {
        bail!(
            "SAGAZ_BROKER_TYPE is amqps, but there is no TLS to RabbitMQ; name a TLS proxy with amqp"
        );
    }
    let kind = kind_of(&kind, NAMES[1])?;
    let host = if host.is_empty() { "localhost" } else { &host };
    let login = match (user.as_str(), password.as_str()) {
        ("", "") => String::new(),
        (user, "") => format!("{}@", escaped(user)),
        (user, password) => format!("{}:{}@", escaped(user), escaped(password)),
    };
    let at = |usual: &str| format!("{host}:{}", if port.is_empty() { usual } else { &port });
    let value = match kind {
        Kind::Kafka if !login.is_empty() => bail!(
            "SAGAZ_BROKER_USER: a login at Kafka cannot be used; unset it and SAGAZ_BROKER_PASSWORD"
        ),
        Kind::Kafka => at("9092"),
        Kind::Rabbitmq => format!("amqp://{login}{}/", at("5672")),
        Kind::Nats => format!("nats://{login}{}", at("4222")),
        Kind::Ours => String::new(),
    };
    Ok(key(kind).map(|key| (key, value, NAMES[1])))
}

fn kind_of(word: &str, name: &str) -> Result<Kind> {
    Ok(match word {
        "kafka" => Kind::Kafka,
        "rabbitmq" | "amqp" | "amqps" => Kind::Rabbitmq,
        "nats" => Kind::Nats,
        "redis" | "rediss" | "memory" => Kind::Ours,
        _ => bail!("{name} names none of kafka, rabbitmq, nats, redis and memory"),
    })
}

fn key(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Kafka => Some("kafka"),
        Kind::Rabbitmq => Some("rabbitmq_url"),
        Kind::Nats => Some("nats_url"),
        Kind::Ours => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<(&'static str, String)>> {
        let read = |name: &str| {
            let found = pairs.iter().find(|(it, _)| *it == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Ok(setting(read)?.map(|(key, value, _)| (key, value)))
    }

    #[test]
    fn a_broker_is_named_by_its_address_or_by_its_parts() {
        let set = |key, value: &str| Some((key, value.to_owned()));
        let url = |url| of(&[("SAGAZ_BROKER_URL", url)]).unwrap();
        let (amqp, nats) = ("amqp://me:x@mq.example/v", "nats://n.example:4222");
        assert_eq!(url(amqp), set("rabbitmq_url", amqp));
        assert_eq!(url(nats), set("nats_url", nats));
        assert_eq!(url("kafka://a:1,b:2"), set("kafka", "a:1,b:2"));
        assert_eq!(url("redis://cache.example"), None);
        let parts = of(&[
            ("SAGAZ_BROKER_TYPE", "rabbitmq"),
            ("SAGAZ_BROKER_HOST", "mq.example"),
            ("SAGAZ_BROKER_USER", "me"),
            ("SAGAZ_BROKER_PASSWORD", "a/b"),
        ]);
        let amqp = "amqp://me:a%2Fb@mq.example:5672/";
        assert_eq!(parts.unwrap(), set("rabbitmq_url", amqp));
        let kafka = of(&[("SAGAZ_BROKER_TYPE", "kafka"), ("SAGAZ_BROKER_PORT", "19")]);
        assert_eq!(kafka.unwrap(), set("kafka", "localhost:19"));
        assert_eq!(of(&[("SAGAZ_BROKER_TYPE", "memory")]).unwrap(), None);
        assert_eq!(of(&[]).unwrap(), None);
    }

    #[test]
    fn a_broker_of_no_known_kind_is_refused_without_its_password() {
        let error = of(&[("SAGAZ_BROKER_URL", "sqs://me:hidden@host")]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("SAGAZ_BROKER_URL") && !text.contains("hidden"),
            "{text}"
        );
        let login = [("SAGAZ_BROKER_TYPE", "kafka"), ("SAGAZ_BROKER_USER", "me")];
        assert!(of(&login).is_err());
        let with_tls = of(&[("SAGAZ_BROKER_TYPE", "amqps")]).unwrap_err();
        assert!(with_tls.to_string().contains("no TLS"), "{with_tls}");
    }
}
