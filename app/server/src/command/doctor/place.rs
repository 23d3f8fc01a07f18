//! This machine: the data folder, room on its disk, and who may read secrets.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::figures::grouped;
use super::finding::Finding;
use crate::config::Config;
use crate::wiring::operator;

const FOLDER: &str = "folder";
const SECRETS: &str = "secrets";
const SPANS: &str = "spans";

/// Free MiB below which an embedded database will soon stop.
const FREE_WARN_MIB: u64 = 1024;
/// Free MiB below which it may stop at any moment.
const FREE_FAIL_MIB: u64 = 128;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let dir = &config.server.data_dir;
    let embedded = [
        operator::embedded_bus(config),
        operator::embedded_store(config),
    ];
    if embedded.iter().any(|file| matches!(file, Ok(Some(_)))) {
        findings.extend(folder(dir));
    }
    let named = [
        &config.bus.url_file,
        &config.store.url_file,
        &config.jwt.hs256_secret_file,
    ];
    let named = named
        .into_iter()
        .filter(|file| !file.is_empty())
        .map(PathBuf::from);
    findings.extend(
        named
            .chain([dir.join("admin.token")])
            .filter_map(|file| secret(&file)),
    );
    findings.extend(spans(std::env::var_os("SAGAZ_TRACING_ENDPOINT").is_some()));
    findings
}

/// The predecessor's name for where spans are sent.
fn spans(is_set: bool) -> Option<Finding> {
    let says = "SAGAZ_TRACING_ENDPOINT is set, and spans are not sent anywhere: they go to the log";
    let advice = "unset it, and collect the log (log.format = \"json\")";
    is_set.then(|| Finding::warn(SPANS, says).advise(advice))
}

fn folder(dir: &Path) -> Vec<Finding> {
    let shown = dir.display();
    // The nearest folder that is there already: the others are made at the first start.
    let there = dir
        .ancestors()
        .find(|it| it.as_os_str().is_empty() || it.exists());
    let there = there
        .filter(|it| !it.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if let Err(error) = probe(there) {
        let says = format!("{} cannot be written: {error}", there.display());
        let advice = "give its rights to this user, or name another folder with --data-dir";
        return vec![Finding::fail(FOLDER, says).advise(advice)];
    }
    let mut findings = vec![if there == dir {
        Finding::ok(FOLDER, format!("{shown} can be written"))
    } else {
        Finding::ok(FOLDER, format!("{shown} is made at the first start"))
    }];
    findings.extend(open_to_others(dir));
    findings.extend(free_mib(there).map(room));
    findings
}

/// Whether others may look into the folder, in which the records are.
fn open_to_others(dir: &Path) -> Option<Finding> {
    let mode = fs::metadata(dir).ok()?.permissions().mode() & 0o777;
    let shown = dir.display();
    let says = format!("others may look into {shown}, where the records are (mode {mode:o})");
    let is_open = mode & 0o077 != 0;
    is_open.then(|| Finding::warn(FOLDER, says).advise(format!("chmod 700 {shown}")))
}

/// Writes a file and removes it.
fn probe(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".ratebox-doctor-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(path)
}

fn room(mib: u64) -> Finding {
    let says = format!("{} MiB are free on its disk", grouped(mib));
    let advice = "make room, or move the folder to a larger disk";
    if mib < FREE_FAIL_MIB {
        Finding::fail(FOLDER, says).advise(advice)
    } else if mib < FREE_WARN_MIB {
        Finding::warn(FOLDER, says).advise(advice)
    } else {
        Finding::ok(FOLDER, says)
    }
}

/// Free room as `df` tells it; the standard library cannot ask. `None` where `df` is missing.
fn free_mib(dir: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(dir).output().ok()?;
    free_of(&String::from_utf8_lossy(&output.stdout))
}

/// The fourth column of the last line, in KiB.
fn free_of(df: &str) -> Option<u64> {
    let kib: u64 = df.lines().last()?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib / 1024)
}

/// Who may read a file with a secret; nothing where there is no such file.
fn secret(file: &Path) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let shown = file.display();
    if mode & 0o077 == 0 {
        return Some(Finding::ok(
            SECRETS,
            format!("{shown} is readable by its owner alone"),
        ));
    }
    let says = format!("{shown} can be read or written by others (mode {mode:o})");
    Some(Finding::warn(SECRETS, says).advise(format!("chmod 600 {shown}")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn free_room_is_read_from_df() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                  /dev/vda1 10000000 1 5242880 1% /\n";
        assert_eq!(free_of(df), Some(5120));
        assert_eq!(free_of(""), None);
        let levels = [5120, 500, 5].map(|mib| room(mib).level);
        assert_eq!(levels, [Level::Ok, Level::Warn, Level::Fail]);
    }

    #[test]
    fn who_expects_spans_to_be_sent_is_told_that_they_are_not() {
        assert!(spans(false).is_none());
        let told = spans(true).unwrap();
        assert!(told.level == Level::Warn && told.text().contains("SAGAZ_TRACING_ENDPOINT"));
    }

    #[test]
    fn a_folder_that_others_may_look_into_is_told() {
        let dir = std::env::temp_dir().join(format!("ratebox-folder-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let told = [0o755, 0o700].map(|mode| {
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
            open_to_others(&dir).map(|it| it.text())
        });
        fs::remove_dir(&dir).unwrap();
        assert!(
            told[0].as_ref().is_some_and(|it| it.contains("chmod 700")),
            "{told:?}"
        );
        assert_eq!(told[1], None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_where_it_will_be() {
        let findings = folder(&std::env::temp_dir().join("no-such-folder-of-ratebox/data"));
        assert!(findings[0].text().contains("first start"), "{findings:?}");
    }
}
