//! Where settings come from: defaults, a file, the environment, the predecessor's names there, and
//! flags; the later wins.

mod list;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use toml::{Table, Value};

use super::{Config, mistyped, old_broker};

/// Every setting with its default: the shipped file is the default.
pub const DEFAULT: &str = include_str!("../../../../config.default.toml");

/// The predecessor's names and the settings that they mean.
const OLD_NAMES: [(&str, &str, &str); 42] = [
    ("REDIS_URL", "bus", "url"),
    ("REDIS_STREAM", "bus", "stream"),
    ("CONSUMER_GROUP", "bus", "group"),
    ("CONSUMER_NAME", "bus", "consumer"),
    ("BATCH_SIZE", "worker", "batch_max"),
    ("BLOCK_TIME", "worker", "block_ms"),
    ("MAX_RETRIES", "worker", "retry_max"),
    ("POSTGRES_DSN", "store", "url"),
    ("LOG_LEVEL", "log", "level"),
    ("OUTBOX_BATCH_SIZE", "relay", "batch_max"),
    ("OUTBOX_POLL_INTERVAL", "relay", "poll_ms"),
    ("OUTBOX_MAX_RETRIES", "relay", "attempts_max"),
    ("OUTBOX_OPTIMISTIC", "outbox", "optimistic"),
    (
        "OUTBOX_OPTIMISTIC_TIMEOUT_MS",
        "outbox",
        "optimistic_timeout_ms",
    ),
    ("OUTBOX_ARCHIVE_DAYS", "outbox", "archive_days"),
    ("VALKEY_FAKE", "cache", "fake"),
    ("VALKEY_USER", "cache", "user"),
    ("VALKEY_PASSWORD", "cache", "password"),
    ("VALKEY_WRITER_ENDPOINT", "cache", "writer"),
    ("VALKEY_READER_ENDPOINT", "cache", "reader"),
    ("VALKEY_WRITER_PORT", "cache", "writer_port"),
    ("VALKEY_READER_PORT", "cache", "reader_port"),
    ("VALKEY_TLS", "cache", "tls"),
    ("VALKEY_DB", "cache", "database"),
    ("CACHE_VER", "cache", "version"),
    ("CACHE_JITTER_RANGE", "cache", "jitter"),
    ("CACHE_NEG_TTL", "cache", "negative_ttl_s"),
    ("WB_QUEUE_KEY", "cache", "write_queue"),
    ("SWR_LOCK_TTL", "cache", "swr_lock_s"),
    ("REBUILD_LOCK_TTL", "cache", "rebuild_lock_s"),
    ("RATE_MAX_TOKENS", "cache", "rate_burst"),
    ("RATE_WINDOW_SEC", "cache", "rate_window_s"),
    ("SAGAZ_STORAGE_URL", "saga", "store_url"),
    ("SAGAZ_STORAGE_TYPE", "saga", "store_type"),
    ("SAGAZ_STORAGE_HOST", "saga", "store_host"),
    ("SAGAZ_STORAGE_PORT", "saga", "store_port"),
    ("SAGAZ_STORAGE_DB", "saga", "store_database"),
    ("SAGAZ_STORAGE_USER", "saga", "store_user"),
    ("SAGAZ_STORAGE_PASSWORD", "saga", "store_password"),
    ("SAGAZ_METRICS", "saga", "metrics"),
    ("SAGAZ_TRACING", "saga", "tracing"),
    ("SAGAZ_LOGGING", "saga", "logging"),
];

/// Keys whose values are never shown.
const SECRETS: [(&str, &str); 14] = [
    ("bus", "url"),
    ("bus", "password"),
    ("bus", "sentinel_password"),
    ("store", "url"),
    ("brokers", "rabbitmq_url"),
    ("brokers", "nats_url"),
    ("cache", "url"),
    ("cache", "password"),
    ("cache", "sentinel_password"),
    ("cache", "origin_url"),
    ("jwt", "hs256_secret"),
    ("lookup", "digest_key"),
    ("saga", "store_url"),
    ("saga", "store_password"),
];

/// What to read besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file of settings.
    pub file: Option<PathBuf>,
    /// The environment, as pairs; tests pass their own.
    pub env: Vec<(String, String)>,
    /// `section.key` and value, from flags.
    pub flags: Vec<(&'static str, String)>,
}

#[cfg(test)]
impl Sources {
    /// Variables of the environment alone, named without `RATEBOX_`.
    pub fn of_env(pairs: &[(&str, &str)]) -> Self {
        let variable =
            |(key, value): &(&str, &str)| (format!("RATEBOX_{key}"), (*value).to_owned());
        Self {
            env: pairs.iter().map(variable).collect(),
            ..Self::default()
        }
    }
}

/// Whether a variable of this name is read.
pub fn is_setting(name: &str) -> bool {
    let is_old = OLD_NAMES.iter().any(|(old, ..)| *old == name);
    name.starts_with("RATEBOX_") || is_old || old_broker::NAMES.contains(&name)
}

/// Reads and checks all settings.
///
/// # Errors
/// With a sentence that names the key and the source, never a secret.
pub fn load(sources: &Sources) -> Result<Config> {
    let table = table(sources)?;
    for (section, keys) in &table {
        for (key, value) in keys.as_table().into_iter().flatten() {
            if value.as_integer().is_some_and(|number| number < 0) {
                bail!("{section}.{key} must not be negative");
            }
        }
    }
    let config: Config = table.try_into().context("the settings do not fit")?;
    config.check()?;
    Ok(config)
}

/// The settings in force, secrets hidden.
///
/// # Errors
/// As [`load`].
pub fn shown(sources: &Sources) -> Result<Table> {
    load(sources)?;
    let mut table = table(sources)?;
    for (section, key) in SECRETS {
        if let Some(Value::String(text)) = at(&mut table, section, key)
            && !text.is_empty()
        {
            "***".clone_into(text);
        }
    }
    Ok(table)
}

/// The same as TOML.
///
/// # Errors
/// As [`load`].
pub fn show(sources: &Sources) -> Result<String> {
    let mut text = String::new();
    for (section, keys) in &shown(sources)? {
        text.push_str(&format!("[{section}]\n"));
        for (key, value) in keys.as_table().into_iter().flatten() {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push('\n');
    }
    Ok(text)
}

fn table(sources: &Sources) -> Result<Table> {
    let mut table: Table = DEFAULT.parse().context("config.default.toml")?;
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the settings in {}", path.display()))?;
        merge_file(&mut table, &text, &path.display().to_string())?;
    }
    for (name, value) in &sources.env {
        let Some(path) = name.strip_prefix("RATEBOX_") else {
            continue;
        };
        let Some((section, key)) = path.split_once("__") else {
            mistyped::refuse(&table, name, value)?;
            continue;
        };
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        set(&mut table, &section, &key, value, name)?;
    }
    for (name, section, key) in OLD_NAMES {
        if let Some((_, value)) = sources.env.iter().find(|(it, _)| it == name) {
            set(&mut table, section, key, &old_value(name, value), name)?;
        }
    }
    let read = |name: &str| {
        let found = sources.env.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.clone())
    };
    if let Some((key, value, name)) = old_broker::setting(read)? {
        set(&mut table, "brokers", key, &value, name)?;
    }
    for (path, value) in &sources.flags {
        let (section, key) = path.split_once('.').context("flags name section.key")?;
        set(&mut table, section, key, value, path)?;
    }
    Ok(table)
}

/// The predecessors wrote levels in capitals, seconds where we have milliseconds, and truth in many
/// words.
fn old_value(name: &str, value: &str) -> String {
    let lower = value.to_lowercase();
    match name {
        "LOG_LEVEL" => match lower.as_str() {
            "warning" => "warn".to_owned(),
            "critical" | "fatal" => "error".to_owned(),
            "notset" => "trace".to_owned(),
            _ => lower,
        },
        "OUTBOX_POLL_INTERVAL" => match value.parse::<f64>() {
            Ok(seconds) => format!("{:.0}", seconds * 1000.0),
            Err(_) => value.to_owned(),
        },
        "OUTBOX_OPTIMISTIC" | "VALKEY_FAKE" | "VALKEY_TLS" | "SAGAZ_METRICS" | "SAGAZ_TRACING"
        | "SAGAZ_LOGGING" => match lower.as_str() {
            "1" | "yes" | "on" => "true".to_owned(),
            "0" | "no" | "off" => "false".to_owned(),
            _ => lower,
        },
        _ => value.to_owned(),
    }
}

fn merge_file(table: &mut Table, text: &str, source: &str) -> Result<()> {
    for (section, keys) in parse(text, source)? {
        let Value::Table(keys) = keys else {
            bail!("{source}: {section} must be a section, [{section}]");
        };
        for (key, value) in keys {
            let Some(slot) = at(table, &section, &key) else {
                bail!("{source}: unknown setting {section}.{key}; see config.default.toml");
            };
            // The types of whole numbers and numbers differ, but people write 1 for 1.0.
            let value = match (&*slot, value) {
                #[expect(clippy::cast_precision_loss, reason = "settings are small")]
                (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
                (_, value) => value,
            };
            if !value.same_type(slot) {
                bail!("{source}: {section}.{key} must be {}", kind(slot));
            }
            *slot = value;
        }
    }
    Ok(())
}

/// A file's text as TOML. The parser would quote the line that it cannot read, and a password may
/// stand in it.
fn parse(text: &str, source: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.unwrap_or_default().matches('\n').count() + 1;
        anyhow!("{source} is no TOML in line {line}: {}", error.message())
    })
}

/// What a setting must be, by its default.
fn kind(default: &Value) -> &'static str {
    match default {
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::String(_) | Value::Datetime(_) | Value::Table(_) => "a text",
    }
}

/// Sets a key from text, in the type of its default.
fn set(table: &mut Table, section: &str, key: &str, text: &str, source: &str) -> Result<()> {
    let Some(slot) = at(table, section, key) else {
        bail!("{source}: unknown setting {section}.{key}; see config.default.toml");
    };
    let kind = kind(slot);
    let wrong = || format!("{source}: {section}.{key} must be {kind}");
    *slot = match slot {
        Value::Integer(_) => Value::Integer(text.parse().with_context(wrong)?),
        Value::Float(_) => Value::Float(text.parse().with_context(wrong)?),
        Value::Boolean(_) => Value::Boolean(text.parse().with_context(wrong)?),
        Value::Array(_) => Value::Array(list::read(text).with_context(|| {
            format!(r#"{source}: {section}.{key} must be a list, as a,b or ["a", "b"]"#)
        })?),
        Value::String(_) | Value::Datetime(_) | Value::Table(_) => Value::String(text.to_owned()),
    };
    Ok(())
}

fn at<'a>(table: &'a mut Table, section: &str, key: &str) -> Option<&'a mut Value> {
    table.get_mut(section)?.as_table_mut()?.get_mut(key)
}

#[cfg(test)]
mod tests {
    use super::super::JournalPlace;
    use super::*;

    fn with_env(pairs: &[(&str, &str)]) -> Sources {
        let env = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Sources {
            env: env.collect(),
            ..Sources::default()
        }
    }

    #[test]
    fn the_defaults_are_sound() {
        let config = load(&Sources::default()).unwrap();
        assert_eq!(config.worker.batch_max, 500);
        assert!(config.bus.address().unwrap().is_none());
    }

    #[test]
    fn the_environment_sets_keys_and_old_names_mean_the_same() {
        let config = load(&with_env(&[
            ("RATEBOX_WORKER__BATCH_MAX", "7"),
            ("MAX_RETRIES", "5"),
            ("REDIS_STREAM", "raw_items"),
            ("LOG_LEVEL", "WARNING"),
            ("RATEBOX_BUS__ANSWER_STREAMS_ALLOWED", "a, b"),
        ]))
        .unwrap();
        for (old, new) in [("CRITICAL", "error"), ("NOTSET", "trace"), ("Info", "info")] {
            let config = load(&with_env(&[("LOG_LEVEL", old)])).unwrap();
            assert_eq!(config.log.level, new);
        }
        assert_eq!((config.worker.batch_max, config.worker.retry_max), (7, 5));
        assert_eq!(
            (config.bus.stream.as_str(), config.log.level.as_str()),
            ("raw_items", "warn")
        );
        assert_eq!(config.bus.answer_streams_allowed, ["a", "b"]);
    }

    #[test]
    fn a_list_in_the_environment_is_written_with_commas_or_as_in_a_file() {
        let streams = |text: &str| {
            let config = load(&with_env(&[("RATEBOX_BUS__ANSWER_STREAMS_ALLOWED", text)]));
            config.map(|config| config.bus.answer_streams_allowed)
        };
        for text in ["a,b", r#"["a", "b"]"#] {
            assert_eq!(streams(text).unwrap(), ["a", "b"], "{text}");
        }
        let error = streams("[a]").unwrap_err().to_string();
        assert!(error.contains("must be a list, as a,b or"), "{error}");
    }

    #[test]
    fn the_old_names_win_over_the_new_ones_and_flags_over_both() {
        let mut sources = with_env(&[
            ("BATCH_SIZE", "9"),
            ("RATEBOX_WORKER__BATCH_MAX", "7"),
            ("REDIS_STREAM", "raw_items"),
            ("RATEBOX_BUS__STREAM", "requests"),
        ]);
        sources.flags = vec![("worker.batch_max", "8".to_owned())];
        let config = load(&sources).unwrap();
        assert_eq!(
            (config.worker.batch_max, config.bus.stream.as_str()),
            (8, "raw_items")
        );
        sources.flags.clear();
        assert_eq!(load(&sources).unwrap().worker.batch_max, 9);
    }

    #[test]
    fn the_old_names_of_the_outbox_mean_the_same() {
        let config = load(&with_env(&[
            ("OUTBOX_BATCH_SIZE", "50"),
            ("OUTBOX_POLL_INTERVAL", "0.5"),
            ("OUTBOX_MAX_RETRIES", "4"),
            ("OUTBOX_OPTIMISTIC", "No"),
            ("OUTBOX_OPTIMISTIC_TIMEOUT_MS", "300"),
            ("OUTBOX_ARCHIVE_DAYS", "0"),
        ]))
        .unwrap();
        let (relay, outbox) = (&config.relay, &config.outbox);
        assert_eq!(
            (relay.batch_max, relay.poll_ms, relay.attempts_max),
            (50, 500, 4)
        );
        assert_eq!(
            (outbox.optimistic, outbox.optimistic_timeout_ms),
            (false, 300)
        );
        assert!(relay.settings(outbox, &config.bus).archive.is_none());
    }

    #[test]
    fn the_old_table_needs_a_broker_that_is_there() {
        let error = load(&with_env(&[("RATEBOX_RELAY__SAGA_OUTBOX", "kafka")])).unwrap_err();
        assert!(error.to_string().contains("relay.saga_outbox"), "{error}");
        let bus = load(&with_env(&[("RATEBOX_RELAY__SAGA_OUTBOX", "bus")])).unwrap();
        assert_eq!(bus.relay.saga_route().as_deref(), Some(""));
    }

    #[test]
    fn passwords_of_brokers_are_not_shown() {
        if !cfg!(feature = "rabbitmq") {
            return; // It is refused.
        }
        let url = "amqp://me:hidden@127.0.0.1/";
        let shown = show(&with_env(&[("RATEBOX_BROKERS__RABBITMQ_URL", url)])).unwrap();
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn names_of_the_caching_service_mean_the_same() {
        let config = load(&with_env(&[
            ("VALKEY_WRITER_ENDPOINT", "cache.example"),
            ("VALKEY_WRITER_PORT", "6380"),
            ("VALKEY_TLS", "0"),
            ("VALKEY_DB", "2"),
            ("CACHE_VER", "v7"),
            ("CACHE_JITTER_RANGE", "0.5"),
            ("RATE_MAX_TOKENS", "7"),
            ("RATE_WINDOW_SEC", "9"),
        ]));
        let cache = config.unwrap().cache;
        let url = cache.address().unwrap().unwrap();
        assert_eq!(url.reveal(), "redis://cache.example:6380/2");
        assert_eq!(
            (
                cache.version.as_str(),
                cache.rate_burst,
                cache.rate_window_s
            ),
            ("v7", 7, 9)
        );
        let fake = load(&with_env(&[
            ("VALKEY_FAKE", "1"),
            ("VALKEY_WRITER_ENDPOINT", "x"),
        ]));
        assert!(fake.unwrap().cache.address().unwrap().is_none());
    }

    #[test]
    fn the_old_names_of_the_saga_journal_mean_the_same() {
        let place = |pairs: &[(&str, &str)]| load(&with_env(pairs)).unwrap().saga.place().unwrap();
        assert!(matches!(place(&[]), JournalPlace::Store));
        let JournalPlace::Postgres(dsn) = place(&[
            ("SAGAZ_STORAGE_TYPE", "postgresql"),
            ("SAGAZ_STORAGE_HOST", "db.example"),
            ("SAGAZ_STORAGE_DB", "sagas"),
            ("SAGAZ_STORAGE_USER", "me"),
            ("SAGAZ_STORAGE_PASSWORD", "a/b"),
        ]) else {
            panic!("no PostgreSQL");
        };
        assert_eq!(dsn.reveal(), "postgresql://me:a%2Fb@db.example:5432/sagas");
        let url = ("SAGAZ_STORAGE_URL", "redis://cache.example/2");
        assert!(matches!(place(&[url]), JournalPlace::Redis(url) if url.reveal().ends_with("/2")));
        let file = ("SAGAZ_STORAGE_URL", "sqlite:///var/lib/sagas.db");
        let JournalPlace::Sqlite(path) = place(&[file]) else {
            panic!("no SQLite");
        };
        assert_eq!(path, std::path::Path::new("/var/lib/sagas.db"));
        let memory = load(&with_env(&[("SAGAZ_STORAGE_TYPE", "memory")])).unwrap_err();
        assert!(memory.to_string().contains("forget"), "{memory}");
        let shown = show(&with_env(&[("SAGAZ_STORAGE_PASSWORD", "hidden")])).unwrap();
        assert!(!shown.contains("hidden"), "{shown}");
        let quiet = [
            ("SAGAZ_METRICS", "0"),
            ("SAGAZ_TRACING", "No"),
            ("SAGAZ_LOGGING", "on"),
        ];
        let saga = load(&with_env(&quiet)).unwrap().saga;
        let engine = saga.engine();
        assert_eq!(
            (engine.metrics, engine.spans, saga.logging),
            (false, false, true)
        );
    }

    #[test]
    fn the_old_names_of_the_saga_broker_set_a_broker_beside_the_bus() {
        if !cfg!(feature = "nats") {
            return; // It is refused.
        }
        let old = ("SAGAZ_BROKER_URL", "nats://me:hidden@n.example:4222");
        let brokers = |pairs: &[(&str, &str)]| load(&with_env(pairs)).map(|it| it.brokers);
        let read = brokers(&[old]).unwrap();
        assert!(read.has("nats") && read.nats_url.reveal().contains("n.example"));
        let new = ("RATEBOX_BROKERS__NATS_URL", "nats://other");
        assert_eq!(brokers(&[new, old]).unwrap().nats_url.reveal(), old.1);
        assert!(!show(&with_env(&[old])).unwrap().contains("hidden"));
        // The bus is that broker already.
        let redis = brokers(&[("SAGAZ_BROKER_TYPE", "redis")]).unwrap();
        assert!(!["kafka", "rabbitmq", "nats"].iter().any(|it| redis.has(it)));
        let wrong = brokers(&[("SAGAZ_BROKER_TYPE", "sqs")]).unwrap_err();
        assert!(wrong.to_string().contains("SAGAZ_BROKER_TYPE"), "{wrong}");
    }

    #[test]
    fn sentinels_of_the_cache_need_the_name_of_their_primary() {
        let sentinels = ("RATEBOX_CACHE__SENTINELS", "a:1,b:2");
        let error = load(&with_env(&[sentinels])).unwrap_err();
        assert!(
            error.to_string().contains("cache.sentinel_primary"),
            "{error}"
        );
        let primary = ("RATEBOX_CACHE__SENTINEL_PRIMARY", "main");
        assert!(load(&with_env(&[sentinels, primary])).is_ok());
        let user = ("RATEBOX_CACHE__SENTINEL_USER", "looker");
        assert!(load(&with_env(&[user])).is_err(), "a login for nobody");
        assert!(load(&with_env(&[sentinels, primary, user])).is_ok());
    }

    #[test]
    fn a_cache_service_that_anybody_may_call_stays_on_loopback() {
        let off = ("RATEBOX_CACHE__AUTH", "off");
        let public = ("RATEBOX_CACHE__LISTEN", "0.0.0.0:8000");
        assert!(load(&with_env(&[off])).is_ok());
        let error = load(&with_env(&[off, public])).unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
        assert!(load(&with_env(&[off, public, ("VALKEY_FAKE", "1")])).is_ok());
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named() {
        let error = load(&with_env(&[("RATEBOX_WORKER__BATCHMAX", "7")])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown setting worker.batchmax"),
            "{error}"
        );
        let error = load(&with_env(&[("BATCH_SIZE", "many")])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("worker.batch_max must be a whole number"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_without_what_stands_in_it() {
        let refusal = |text: &str| {
            let mut table: Table = DEFAULT.parse().unwrap();
            merge_file(&mut table, text, "my.toml")
                .err()
                .map_or_else(String::new, |error| format!("{error:#}"))
        };
        let said = refusal("[bus]\nuser = \"me\"\npassword = \"hunter2\n");
        assert!(said.starts_with("my.toml is no TOML in line 3: "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let said = refusal("[bus]\npassword = 4711\n");
        assert_eq!(said, "my.toml: bus.password must be a text");
        let said = refusal("[worker]\nbatch_max = \"7\"\n");
        assert_eq!(said, "my.toml: worker.batch_max must be a whole number");
        assert_eq!(refusal("[cache]\njitter = 0\n"), "");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let error = load(&with_env(&[("RATEBOX_WORKER__HEARTBEAT_MS", "9000")])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a third of worker.claim_idle_ms"),
            "{error}"
        );
        let error = load(&with_env(&[("RATEBOX_RULES__REGION", "xx")])).unwrap_err();
        assert!(error.to_string().contains("rules.region"), "{error}");
    }

    #[test]
    fn shown_settings_hide_secrets() {
        let sources = with_env(&[("REDIS_URL", "redis://me:hunter2@host/0")]);
        let text = show(&sources).unwrap();
        assert!(
            text.contains("url = \"***\"") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn every_key_of_the_default_file_has_a_comment() {
        let mut previous = "";
        for line in DEFAULT.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(previous.starts_with('#'), "{line} has no comment before it");
            }
            previous = line;
        }
    }
}
