//! Variables that were meant as settings, but have one underscore between section and key.
//!
//! Only names of keys are refused. Any other `RATEBOX_` name without two underscores is somebody
//! else's: Kubernetes puts `RATEBOX_SERVICE_HOST`, `RATEBOX_PORT` and more into the pods beside a
//! service of that name.

use anyhow::{Result, bail};
use toml::Table;

/// Refuses a variable that would be a setting with one underscore more.
///
/// # Errors
/// With the name that was meant.
pub(super) fn refuse(settings: &Table, name: &str, value: &str) -> Result<()> {
    // A service called ratebox-cache-writer has a port of its own: RATEBOX_CACHE_WRITER_PORT is
    // tcp://10.0.0.7:6379 then.
    let is_service = name.ends_with("_PORT") && value.contains("://");
    if !is_service && let Some(meant) = meant(settings, name) {
        bail!("{name}: did you mean {meant}?");
    }
    Ok(())
}

fn meant(settings: &Table, name: &str) -> Option<String> {
    let path = name.strip_prefix("RATEBOX_")?.trim_start_matches('_');
    let path = path.to_lowercase();
    settings.iter().find_map(|(section, keys)| {
        let key = path.strip_prefix(section.as_str())?.strip_prefix('_')?;
        let is_key = keys.as_table().is_some_and(|keys| keys.contains_key(key));
        is_key.then(|| format!("RATEBOX_{section}__{key}").to_uppercase())
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    fn refusal(name: &str, value: &str) -> String {
        let sources = Sources {
            env: vec![(name.to_owned(), value.to_owned())],
            ..Sources::default()
        };
        load(&sources)
            .err()
            .map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn a_setting_with_one_underscore_is_refused_with_the_name_that_was_meant() {
        for (name, meant) in [
            ("RATEBOX_STORE_URL", "RATEBOX_STORE__URL"),
            (
                "RATEBOX_GATEWAY_LIMIT_VALIDATE",
                "RATEBOX_GATEWAY__LIMIT_VALIDATE",
            ),
            ("RATEBOX__STORE_URL", "RATEBOX_STORE__URL"),
            ("RATEBOX_CACHE_WRITER_PORT", "RATEBOX_CACHE__WRITER_PORT"),
        ] {
            assert_eq!(
                refusal(name, "6379"),
                format!("{name}: did you mean {meant}?")
            );
        }
    }

    #[test]
    fn what_others_put_into_the_environment_is_not_looked_at() {
        for (name, value) in [
            ("RATEBOX_SERVICE_HOST", "10.0.0.1"),
            ("RATEBOX_PORT", "tcp://10.0.0.1:8080"),
            ("RATEBOX_SERVER_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("RATEBOX_CACHE_WRITER_PORT", "tcp://10.0.0.7:6379"),
            ("RATEBOX_CONFIG", "my.toml"),
            ("RATEBOX_STORE", "x"),
        ] {
            assert_eq!(refusal(name, value), "", "{name}");
        }
    }
}
