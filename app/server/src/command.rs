//! One file a command.

pub mod backup;
pub mod cache;
pub mod config;
pub mod dlq;
pub mod doctor;
mod figures;
pub mod migrate;
mod moment;
pub mod monitor;
pub mod outbox;
pub mod produce;
pub mod role;
pub mod saga;
pub mod stream;
pub mod token;
pub mod top;
pub mod up;
pub mod validate;

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use ratebox_store::{NewDeed, Store};

/// Who sits here, for the audit log.
fn actor(given: Option<String>) -> String {
    let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let name = given.or_else(|| user().ok()).unwrap_or_else(user_id);
    format!("cli:{name}")
}

/// Services, cron and containers have no name in their environment.
fn user_id() -> String {
    let about = std::fs::metadata("/proc/self");
    about.map_or_else(|_| "unknown".to_owned(), |it| format!("uid-{}", it.uid()))
}

/// Writes into the audit log what is about to be done: where that cannot be written, it is not to be
/// done.
async fn note(
    store: &Store,
    actor: &str,
    action: &'static str,
    subject: String,
    reason: Option<&str>,
) -> anyhow::Result<()> {
    let deed = NewDeed {
        actor,
        action,
        subject,
        reason: reason.unwrap_or("no reason was given"),
        detail: None,
    };
    let noted = store.record_deed(deed).await;
    noted.context("nothing was done: the audit log cannot be written")
}

/// A file that nobody else may read, emptied if it is there: what is exported may be personal.
pub fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path)?;
    // The mode is for a new file only.
    let about = file.metadata()?;
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_could_read_is_private_before_anything_is_written() {
        let name = format!("ratebox-private-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let about = private_file(&path).unwrap().metadata().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            (about.permissions().mode() & 0o777, about.len()),
            (0o600, 0)
        );
    }
}
