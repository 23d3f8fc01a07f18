//! One file a command.

pub mod cache;
pub mod config;
pub mod dlq;
pub mod doctor;
mod figures;
pub mod migrate;
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

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Who sits here, for the audit log.
fn actor(given: Option<String>) -> String {
    let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let name = given.or_else(|| user().ok());
    format!("cli:{}", name.as_deref().unwrap_or("unknown"))
}

/// A new file that nobody else may read: what is exported may be personal.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}
