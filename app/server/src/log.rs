//! Where the log goes.

mod line;

use std::io::{self, IsTerminal as _};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use self::line::{Form, Lines};
use crate::config::{LogConfig, LogFormat};

/// Parts of others that say too much, and what is left of it, unless the level names them itself.
const QUIET: [(&str, &str); 4] = [
    // "Connection error: db error": whoever uses the connection says which, and why.
    ("deadpool.postgres", "error"),
    // A message that RabbitMQ returns is written with its body, which may hold personal data, and each
    // refusal that ends a channel and each try in vain with several lines. The relay tells why.
    ("lapin", "off"),
    ("amq_protocol", "off"),
    // Two lines for each try to come back. The relay tells why, too.
    ("async_nats", "off"),
];

/// Starts the log of a role, on the standard error.
///
/// # Errors
/// When the level cannot be read.
pub fn start(config: &LogConfig) -> Result<()> {
    let filter = filter(&config.level)?;
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
        .with_env_filter(filter("warn")?)
        .with_writer(Lines { form })
        .with_ansi(form == Form::Coloured)
        .with_target(false)
        .without_time()
        .init();
    Ok(())
}

/// What is written at a level.
fn filter(level: &str) -> Result<EnvFilter> {
    let mut filter =
        EnvFilter::try_new(level).with_context(|| format!("log.level {level:?} cannot be read"))?;
    for (part, left) in QUIET {
        if !level.contains(part) {
            filter = filter.add_directive(format!("{part}={left}").parse()?);
        }
    }
    Ok(filter)
}

fn text_form() -> Form {
    match io::stderr().is_terminal() {
        true => Form::Coloured,
        false => Form::Plain,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written at a level of what the clients of brokers say, and of a line of ours.
    fn written(level: &str) -> String {
        let text = Text::default();
        let writer = text.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter(level).unwrap())
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(target: "lapin::returned_messages", data = "a name", "returned");
            tracing::error!(target: "lapin::channel", "closed");
            tracing::error!(target: "amq_protocol_tcp", "closed, too");
            tracing::error!(target: "async_nats::connector", "away");
            tracing::warn!("ours");
        });
        let text = text.0.lock().unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn what_the_clients_of_brokers_say_stays_out_of_the_log_unless_it_is_asked_for() {
        for level in ["info", "debug", "trace", "info,ratebox_stream=debug"] {
            let text = written(level);
            assert_eq!(text.lines().count(), 1, "{level}: {text}");
            assert!(text.contains("ours"), "{level}: {text}");
        }
        let text = written("info,async_nats=error");
        assert!(text.contains("away") && !text.contains("a name"), "{text}");
        assert!(written("warn,lapin=warn").contains("a name"));
    }
}
