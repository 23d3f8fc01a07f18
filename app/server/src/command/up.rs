//! `ratebox up`: every role in one process, and on an empty folder everything a newcomer needs.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ratebox_kit::{Secret, id};
use ratebox_store::{NewToken, Store};

use super::role;
use crate::closed_door::ClosedDoor;
use crate::config::Config;
use crate::out::Out;
use crate::sample::{self, Summary};
use crate::wiring::{self, Parts};
use crate::{door, roles};

/// Starts everything, judges the samples on the first start, and says how to go on.
///
/// # Errors
/// When it cannot start, or did not end in time.
pub async fn run(mut config: Config, with_sample: bool) -> Result<()> {
    roles::make_room(config.gateway.connections_max);
    let closed = ClosedDoor::at(config.server.listen).await?;
    // With port 0 any free one was taken; the greeting names it.
    config.server.listen = closed.address()?;
    let parts = Box::pin(role::start(config)).await?;
    let first_start = parts.store.token_count().await? == 0;
    let token = admin_token(&parts, first_start).await?;
    let outbox = parts.outbox();
    // What they lack keeps nobody from handing in requests; what the gateway lacks, it tells itself.
    let _relay_lacks = roles::relay(&parts, outbox.clone())?;
    let _worker_lacks = roles::worker(&parts, outbox.clone())?;
    door::open(&parts, outbox.clone(), closed).await?;
    let summary = match first_start && with_sample {
        true => Some(
            sample::judge(&parts, &outbox)
                .await
                .context("judging the samples")?,
        ),
        false => None,
    };
    // Whoever still holds an outbox keeps its sweeper waiting.
    drop(outbox);
    if let Err(error) = greet(&parts, &token, summary.as_ref()) {
        tracing::warn!("the greeting cannot be printed: {error:#}");
    }
    roles::until_told_to_stop(&parts).await
}

/// The first admin token.
enum AdminToken {
    /// Made just now: it is shown this once.
    New(Secret),
    /// In its file. What a service prints is kept in logs, so it is not shown again.
    Kept(PathBuf),
    /// It was made elsewhere, or somebody took it or its file away.
    None,
}

/// The first token is made only while there is none; later starts find it in its file, as long
/// as it can still be used.
async fn admin_token(parts: &Parts, first_start: bool) -> Result<AdminToken> {
    let path = wiring::in_data_dir(&parts.config, "admin.token")?;
    if !first_start {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let is_good = is_taken(&parts.store, &Secret::new(text.trim())).await?;
        return Ok(match is_good {
            true => AdminToken::Kept(std::path::absolute(&path).unwrap_or(path)),
            false => AdminToken::None,
        });
    }
    let new = NewToken {
        owner: "admin".to_owned(),
        name: "first admin token".to_owned(),
        scopes: vec!["admin".to_owned()],
        profile: None,
        limit_per_minute: Some(sample::ADMIN_LIMIT_PER_MINUTE),
        live: true,
        expires_at: None,
    };
    let (_, secret) = parts.store.create_token(new).await?;
    let write = || {
        let mut file = super::private_file(&path)?;
        writeln!(file, "{}", secret.reveal())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(AdminToken::New(secret))
}

/// Whether the gateway takes a token: it may have been revoked, or be one of another store.
async fn is_taken(store: &Store, token: &Secret) -> Result<bool> {
    let mut words = token.reveal().rsplit('_');
    let (Some(secret), Some(public)) = (words.next(), words.next()) else {
        return Ok(false);
    };
    let (hash, now) = (id::sha256(secret.as_bytes()), store.clock().now());
    let known = store.token(public).await?;
    Ok(known.is_some_and(|it| it.secret_hash[..] == hash[..] && it.is_valid(now)))
}

// === impl AdminToken ===

impl AdminToken {
    /// The header that shows it, as a shell reads it.
    fn header(&self) -> String {
        match self {
            Self::New(token) => format!("'Authorization: Bearer {}'", token.reveal()),
            Self::Kept(file) => {
                let file = file.display().to_string().replace('\'', r"'\''");
                format!("\"Authorization: Bearer $(cat '{file}')\"")
            }
            Self::None => "'Authorization: Bearer TOKEN'".to_owned(),
        }
    }
}

/// The command that makes another token in the very store of this process. What is printed is kept
/// in logs, so an address with a password is named and not shown.
fn another_token(config: &Config) -> String {
    let (url, file) = (config.store.url.reveal(), config.store.url_file.as_str());
    let (with, flag) = if !file.is_empty() {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
        let with = format!(
            ": RATEBOX_STORE__URL_FILE={} ",
            word(&file.to_string_lossy())
        );
        (with, String::new())
    } else if url.is_empty() {
        let dir = config.server.data_dir.to_string_lossy();
        (": ".to_owned(), format!("--data-dir {} ", word(&dir)))
    } else if has_password(url) {
        let with = ", with the store.url of this process in RATEBOX_STORE__URL: ";
        (with.to_owned(), String::new())
    } else {
        (": ".to_owned(), format!("--database-url {} ", word(url)))
    };
    format!("{with}ratebox token create {flag}--owner admin --name again --scope admin")
}

/// Whether an address holds a password; one that cannot be told apart counts as one that does.
fn has_password(url: &str) -> bool {
    let user = url
        .split_once("://")
        .and_then(|(_, it)| it.rsplit_once('@'));
    url.to_lowercase().contains("password") || user.is_some_and(|(user, _)| user.contains(':'))
}

/// A text as one word of a shell.
fn word(text: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || "/._-:@%+=,".contains(it);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn greet(parts: &Parts, token: &AdminToken, summary: Option<&Summary>) -> Result<()> {
    let listen = parts.config.server.listen;
    let mut out = Out;
    writeln!(
        out,
        "RateBox {} is up ({})",
        env!("CARGO_PKG_VERSION"),
        parts.places()
    )?;
    writeln!(out, "  API      http://{listen}")?;
    if !parts.config.metrics.listen.is_empty() {
        writeln!(
            out,
            "  metrics  http://{}/metrics",
            parts.config.metrics.listen
        )?;
    }
    match token {
        AdminToken::New(token) => writeln!(out, "  token    {}", token.reveal())?,
        AdminToken::Kept(file) => writeln!(out, "  token    in {}", file.display())?,
        AdminToken::None => writeln!(
            out,
            "  token    (no valid one in the data folder; this makes another{})",
            another_token(&parts.config)
        )?,
    }
    if let Some(summary) = summary {
        write!(out, "{summary}")?;
    }
    writeln!(out, "\nTry it:\n")?;
    writeln!(out, "  curl -s http://{listen}/api/validation/validate \\")?;
    writeln!(out, "    -H {} \\", token.header())?;
    writeln!(
        out,
        "    -H 'Content-Type: application/json' -H 'Prefer: wait=5' \\"
    )?;
    writeln!(
        out,
        "    -d '{{\"items\":[{{\"name\":\"Nguyễn Văn An\",\"phone\":\"0912 345 678\",\
         \"bank_account\":\"12345678901\",\"email\":\"an@example.com\"}}]}}'\n"
    )?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn told(pairs: &[(&str, &str)]) -> String {
        another_token(&load(&Sources::of_env(pairs)).unwrap())
    }

    #[test]
    fn another_token_is_made_in_the_same_store() {
        let here = told(&[("SERVER__DATA_DIR", "/var/lib/rate box")]);
        assert!(here.starts_with(": ratebox token create --data-dir '/var/lib/rate box' --owner"));
        let url = "postgresql://me@127.0.0.1:5432/ratebox";
        let there = told(&[("STORE__URL", url)]);
        let command = format!(": ratebox token create --database-url {url} --owner");
        assert!(there.starts_with(&command), "{there}");
        let file = told(&[("STORE__URL_FILE", "/run/secrets/dsn")]);
        let command = ": RATEBOX_STORE__URL_FILE=/run/secrets/dsn ratebox token create --owner";
        assert!(file.starts_with(command), "{file}");
    }

    #[test]
    fn the_password_of_a_store_is_never_printed() {
        for url in [
            "postgresql://me:hunter2@127.0.0.1/ratebox",
            "postgresql://me:hunter2/x@y@127.0.0.1/ratebox",
            "postgresql://me@127.0.0.1/ratebox?password=hunter2",
            "host=127.0.0.1 user=me password=hunter2",
        ] {
            let said = told(&[("STORE__URL", url)]);
            assert!(!said.contains("hunter2"), "{said}");
            assert!(said.contains("RATEBOX_STORE__URL"), "{said}");
        }
    }
}
