//! Where the log goes.

mod line;

use std::io::{self, IsTerminal as _};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use self::line::{Form, Lines};
use crate::config::{LogConfig, LogFormat};

/// Starts the log of a role, on the standard error.
///
/// # Errors
/// When the level cannot be read.
pub fn start(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level)
        .with_context(|| format!("log.level {:?} cannot be read", config.level))?;
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
