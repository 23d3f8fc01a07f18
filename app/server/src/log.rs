//! Where the log goes.

mod line;

use std::io::{self, IsTerminal as _};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use self::line::{Form, Lines};
use crate::config::{LogConfig, LogFormat};

/// The target of the pool of PostgreSQL connections.
const POOL: &str = "deadpool.postgres";

/// Starts the log of a role, on the standard error.
///
/// # Errors
/// When the level cannot be read.
pub fn start(config: &LogConfig) -> Result<()> {
    let mut filter = EnvFilter::try_new(&config.level)
        .with_context(|| format!("log.level {:?} cannot be read", config.level))?;
    if !config.level.contains(POOL) {
        // "Connection error: db error": whoever uses the connection says which, and why.
        filter = filter.add_directive(format!("{POOL}=error").parse()?);
    }
    let form = match config.format {
        LogFormat::Text => text_form(),
        LogFormat::Json => Form::Json,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines { form })
        .with_ansi(form == Form::Coloured);
    match config.format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Starts the log of a short command: warnings, on the standard error.
///
/// # Errors
/// Never; it looks like [`start`].
pub fn start_quiet() -> Result<()> {
    let form = text_form();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn"))
        .with_writer(Lines { form })
        .with_ansi(form == Form::Coloured)
        .with_target(false)
        .without_time()
        .init();
    Ok(())
}

fn text_form() -> Form {
    match io::stderr().is_terminal() {
        true => Form::Coloured,
        false => Form::Plain,
    }
}
