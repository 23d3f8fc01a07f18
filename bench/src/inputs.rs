//! The records that every measurement uses, written by `items.py` and checked by their hash.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use ratebox_kit::id;
use serde::Deserialize;

/// The program that writes them; it travels in the binary.
const SCRIPT: &str = include_str!("../items.py");
/// What the file's SHA-256 begins with.
const HASH: &str = "f297f3294f896567";
/// The program that writes the keys of W6 and WCACHE, and their hash.
const ZIPF_SCRIPT: &str = include_str!("../zipf.py");
const ZIPF_HASH: &str = "e04b6574069d5665";

/// One message as the predecessor's producer puts it on the bus: `data` is one item.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) data: String,
    pub(crate) source: String,
    pub(crate) timestamp: String,
    pub(crate) producer: String,
    pub(crate) batch_id: String,
}

/// Reads the 100,000 messages, after writing them where they are missing.
///
/// # Errors
/// When Python 3 is missing or the file is not the one that all results are based on.
pub(crate) fn messages() -> Result<Vec<Message>> {
    let file = cache_dir()?.join("items.jsonl");
    if !file.is_file() || hash(&std::fs::read(&file)?) != HASH {
        write(SCRIPT, &file)?;
    }
    let bytes = std::fs::read(&file)?;
    if hash(&bytes) != HASH {
        bail!(
            "{} is not the input of the published results: its SHA-256 begins with {}, not {HASH}",
            file.display(),
            hash(&bytes)
        );
    }
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).context("a line of the input is no message"))
        .collect()
}

/// The file with 4 million key numbers below 100,000, after writing it where it is missing.
///
/// # Errors
/// When Python 3 is missing or the file is not the one that all results are based on.
pub(crate) fn zipf() -> Result<PathBuf> {
    let file = cache_dir()?.join("zipf.u32");
    if !file.is_file() || hash(&std::fs::read(&file)?) != ZIPF_HASH {
        write(ZIPF_SCRIPT, &file)?;
    }
    let found = hash(&std::fs::read(&file)?);
    ensure!(
        found == ZIPF_HASH,
        "{} is not the input of the published results: its SHA-256 begins with {found}, not {ZIPF_HASH}",
        file.display()
    );
    Ok(file)
}

/// Where inputs are kept between runs; below the system's place for temporary files.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("ratebox-bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn write(script: &str, file: &Path) -> Result<()> {
    let status = Command::new("python3")
        .args(["-c", script])
        .arg(file)
        .status()
        .context("could not start python3, which writes the input: install it")?;
    if !status.success() {
        bail!("the input could not be written ({status})");
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    id::hex(&id::sha256(bytes)[..8])
}
