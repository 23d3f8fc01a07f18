//! The embedded databases as files: are their pages sound, and what is to be done when they cannot be used?

use std::error::Error;
use std::path::{Path, PathBuf};

use ratebox_kit::Causes;

use super::super::figures::grouped;
use super::finding::Finding;
use crate::config::Config;
use crate::wiring::operator;

const FILES: &str = "files";

/// Bytes of a file that is read without being asked to: about a second.
const AT_ONCE_MAX: u64 = 256 << 20;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Files that do not take long.
    Small,
    /// All of them.
    All,
}

pub(super) async fn look(config: &Config, depth: Depth) -> Vec<Finding> {
    let embedded = [
        operator::embedded_bus(config),
        operator::embedded_store(config),
    ];
    let mut findings = Vec::new();
    // What cannot be found out is said where the bus and the store are looked at.
    for file in embedded.into_iter().filter_map(|it| it.ok().flatten()) {
        findings.extend(pages(&file, depth).await);
    }
    findings
}

/// Reads a file page by page; nothing is said of one that is not there or cannot be opened.
async fn pages(file: &Path, depth: Depth) -> Option<Finding> {
    let of_wal = std::fs::metadata(wal(file)).map_or(0, |it| it.len());
    let bytes = std::fs::metadata(file).ok()?.len() + of_wal;
    let shown = file.display();
    if depth == Depth::Small && bytes > AT_ONCE_MAX {
        let mib = grouped(bytes >> 20);
        let says = format!("{shown} has {mib} MiB and was not read; `ratebox doctor --deep` does");
        return Some(Finding::ok(FILES, says));
    }
    let db = operator::file(file).ok()?;
    match db.damage().await.as_deref() {
        Ok([]) => Some(Finding::ok(FILES, format!("{shown} is sound"))),
        Ok([first, ..]) => Some(damaged(file, first)),
        Err(error) if error.is_damage() => Some(damaged(file, &Causes(error).to_string())),
        Err(_) => None,
    }
}

/// What was committed and is not in the file yet.
fn wal(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

const RESTORE: &str =
    "stop the process, keep the folder aside, and restore a copy made by `ratebox backup`";

fn damaged(file: &Path, why: &str) -> Finding {
    let says = format!("{} is damaged: {why}", file.display());
    Finding::fail(FILES, says).advise(RESTORE)
}

/// What to do about a file that cannot be used. Another one helps only where this one is broken.
pub(super) fn advice(error: &(dyn Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    let mut of_database = None;
    while let Some(it) = cause {
        of_database = of_database.or(it.downcast_ref::<ratebox_db::Error>());
        cause = it.source();
    }
    match of_database {
        Some(ratebox_db::Error::Damaged { .. }) => RESTORE,
        Some(ratebox_db::Error::Full { .. }) => "make room on the disk of the data folder",
        Some(ratebox_db::Error::Connection { .. }) => {
            "let this user read and write the file and its folder, or name another with --data-dir"
        }
        _ => "nothing is lost by that: look at what it says, and try again",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[tokio::test]
    async fn a_file_with_a_torn_page_is_told_and_a_sound_one_is_well() {
        let name = format!("ratebox-doctor-files-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("x.db");
        let db = operator::file(&file).unwrap();
        let fill = "CREATE TABLE t (a TEXT); INSERT INTO t
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            SELECT printf('%050d', i) FROM n; PRAGMA wal_checkpoint(TRUNCATE);";
        db.script(fill.to_owned()).await.unwrap();
        let sound = pages(&file, Depth::Small).await.unwrap();
        assert_eq!(sound.level, Level::Ok, "{sound:?}");
        // A copy of the torn file: nobody has it in use.
        let mut bytes = std::fs::read(&file).unwrap();
        let len = bytes.len();
        bytes[len / 2..len / 2 + 8192].fill(0xff);
        let torn = dir.join("torn.db");
        std::fs::write(&torn, &bytes).unwrap();
        let told = pages(&torn, Depth::Small).await.unwrap();
        assert_eq!(told.level, Level::Fail);
        assert!(told.text().contains("ratebox backup"), "{told:?}");
        let other = dir.join("other.db");
        std::fs::write(
            &other,
            "this is no database at all, whatever it is called".repeat(50),
        )
        .unwrap();
        let error = operator::file(&other).unwrap_err();
        assert_eq!(advice(&error), RESTORE, "{error}");
        let away = operator::file(&dir.join("no/such.db")).unwrap_err();
        assert!(advice(&away).contains("--data-dir"), "{away}");
        assert!(away.to_string().contains("no/such.db"), "{away}");
        drop(db);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
