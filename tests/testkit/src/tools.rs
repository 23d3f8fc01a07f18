//! Where the servers' programs are, and what to install when one is missing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Environment name of the Valkey server's program.
pub const VALKEY_SERVER: &str = "RATEBOX_VALKEY_SERVER";

/// Environment name of the program of a Valkey server that was built with TLS.
pub const VALKEY_TLS_SERVER: &str = "RATEBOX_VALKEY_TLS_SERVER";

/// Environment name of the program of a Redis 8.8 server or newer.
pub const REDIS_8_SERVER: &str = "RATEBOX_REDIS8_SERVER";

/// The Redis 8 that `cargo xtask test` builds, in the folder of tools.
pub const REDIS_8_FILE: &str = "redis-server-8.10.2";

/// Environment name of the Tansu broker's program.
pub const TANSU: &str = "RATEBOX_TANSU";

/// The root of the workspace that this was built from.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the test kit lies two folders below the root")
        .to_path_buf()
}

/// The private folder for programs that `cargo xtask test` fetches.
pub fn tools_dir() -> PathBuf {
    workspace_root().join("target").join("tools")
}

/// The Redis server.
///
/// # Errors
/// When there is none; the message says what to install.
pub fn redis_server() -> Result<PathBuf> {
    on_path("redis-server").context(
        "redis-server is missing: run `cargo xtask test` once as root, or `apt-get install redis-server`",
    )
}

/// A Redis server that has what came up to Redis 8.8: named by `RATEBOX_REDIS8_SERVER`, or built by
/// xtask.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn redis_8_server() -> Result<PathBuf> {
    let named = std::env::var_os(REDIS_8_SERVER).map(PathBuf::from);
    let known = [named, Some(tools_dir().join(REDIS_8_FILE))];
    let found = known.into_iter().flatten().find(|file| file.is_file());
    found.context(
        "a redis-server 8 is missing: run `cargo xtask test` once, or set RATEBOX_REDIS8_SERVER to one",
    )
}

/// The RabbitMQ server: the script that needs no service of the system.
///
/// # Errors
/// When there is none; the message says what to install.
pub fn rabbitmq_server() -> Result<PathBuf> {
    let debian = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let found = Some(debian).filter(|file| file.is_file());
    found.or_else(|| on_path("rabbitmq-server")).context(
        "rabbitmq-server is missing: run `cargo xtask test` once as root, or `apt-get install rabbitmq-server`",
    )
}

/// The NATS server.
///
/// # Errors
/// When there is none; the message says what to install.
pub fn nats_server() -> Result<PathBuf> {
    on_path("nats-server").context(
        "nats-server is missing: run `cargo xtask test` once as root, or `apt-get install nats-server`",
    )
}

/// Prometheus' own tool, which tries rules.
///
/// # Errors
/// When there is none; the message says what to install.
pub fn promtool() -> Result<PathBuf> {
    on_path("promtool").context(
        "promtool is missing: run `cargo xtask test` once as root, or `apt-get install prometheus`",
    )
}

/// The Tansu broker, which speaks Kafka's protocol: named by `RATEBOX_TANSU`, fetched by xtask, or
/// on the path.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn tansu() -> Result<PathBuf> {
    let named = std::env::var_os(TANSU).map(PathBuf::from);
    let known = [named, Some(tools_dir().join("tansu")), on_path("tansu")];
    let found = known.into_iter().flatten().find(|file| file.is_file());
    found.context("tansu is missing: run `cargo xtask test` once, or set RATEBOX_TANSU to one")
}

/// The folder with Python's clients of Redis, RabbitMQ and Kafka, for `PYTHONPATH`: fetched by xtask.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn python_clients() -> Result<PathBuf> {
    let folder = tools_dir().join("python-clients");
    let has_all = ["redis", "pika", "kafka"]
        .iter()
        .all(|name| folder.join(name).is_dir());
    if !has_all {
        bail!("Python's clients are missing: run `cargo xtask test` once");
    }
    Ok(folder)
}

/// The program that makes certificates.
///
/// # Errors
/// When there is none; the message says what to install.
pub fn openssl() -> Result<PathBuf> {
    on_path("openssl").context(
        "openssl is missing: run `cargo xtask test` once as root, or `apt-get install openssl`",
    )
}

/// The Valkey server: named by `RATEBOX_VALKEY_SERVER`, fetched by xtask, or on the path.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn valkey_server() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(VALKEY_SERVER).map(PathBuf::from) {
        if !named.is_file() {
            bail!(
                "{VALKEY_SERVER} names {}, which is no file",
                named.display()
            );
        }
        return Ok(named);
    }
    let fetched = tools_dir().join("valkey-server");
    if fetched.is_file() {
        return Ok(fetched);
    }
    on_path("valkey-server").context(
        "valkey-server is missing: run `cargo xtask test` once, or set RATEBOX_VALKEY_SERVER to one",
    )
}

/// A Valkey server that was built with TLS: named by `RATEBOX_VALKEY_TLS_SERVER`, fetched by xtask,
/// or on the path, where distributions build it with TLS.
///
/// # Errors
/// When there is none; the message says what to do.
pub fn valkey_tls_server() -> Result<PathBuf> {
    let named = std::env::var_os(VALKEY_TLS_SERVER).map(PathBuf::from);
    let fetched = tools_dir().join("valkey-tls-server");
    let known = [named, Some(fetched), on_path("valkey-server")];
    let found = known.into_iter().flatten().find(|file| file.is_file());
    found.context(
        "a valkey-server with TLS is missing: run `cargo xtask test` once, or set \
         RATEBOX_VALKEY_TLS_SERVER to one",
    )
}

/// The folder with `initdb`, `postgres` and `psql`; the newest version when there are several.
///
/// # Errors
/// When there is none; the message says what to install.
pub fn postgres_bin() -> Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .map(|(version, path)| (version, path.join("bin")))
        .collect();
    versions.sort();
    let candidates = versions
        .into_iter()
        .rev()
        .map(|(_, path)| path)
        .chain(configured_bin());
    let on_path = on_path("initdb").and_then(|path| path.parent().map(Path::to_path_buf));
    candidates
        .chain(on_path)
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .context(
            "PostgreSQL's programs are missing: run `cargo xtask test` once as root, \
             or `apt-get install postgresql`",
        )
}

fn configured_bin() -> Option<PathBuf> {
    let output = std::process::Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// A program on the search path.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
