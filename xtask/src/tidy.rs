//! `cargo xtask tidy`: the rules of the plan that text can show. Each rule stands in one file below
//! `tidy/` with a test in which it fires.
//!
//! A rule that must be broken is broken in writing: `// tidy: <reason>` on the line, or on the line
//! above it; for the size of a file, in its header. A message reads `file:line: rule: what to do`.

mod backends;
mod clock;
mod defaults;
mod directions;
mod docs;
mod drivers;
mod files;
mod lexer;
mod machine;
mod manifests;
mod purity;
mod score_cards;
mod size;
mod source;
mod sql;
mod table_of_contents;
mod todo;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace;
use source::Source;

/// Folders with text of ours, beside the files in the root.
const FOLDERS: [&str; 12] = [
    ".cargo", ".ci", ".config", "app", "bench", "deploy", "docs", "examples", "fuzz", "libs",
    "tests", "xtask",
];
/// Folders that hold what programs wrote.
const GENERATED: [&str; 3] = ["target", "node_modules", "ratebox-data"];
/// Larger files are data.
const TEXT_MAX: u64 = 1 << 20;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{}:{}: {}: {}",
            self.file, self.line, self.rule, self.advice
        )
    }
}

/// A text file of the project.
#[derive(Debug)]
pub(crate) struct Text {
    /// From the root, with slashes.
    path: String,
    text: String,
}

/// Checks the whole project.
///
/// # Errors
/// When a rule is broken; each place is printed.
pub(crate) fn run() -> Result<()> {
    let texts = read_all(&workspace::root())?;
    let mut found = check(&texts);
    found.extend(directions::check(&workspace::metadata(false)?, &texts)?);
    found.sort();
    for finding in &found {
        eprintln!("{finding}");
    }
    if !found.is_empty() {
        bail!("{} places break a rule of the house", found.len());
    }
    println!("tidy: {} files follow the rules", texts.len());
    Ok(())
}

/// All rules that need nothing but the files.
fn check(texts: &[Text]) -> Vec<Finding> {
    let mut found = Vec::new();
    for text in texts {
        found.extend(docs::check(text));
        found.extend(machine::check(text));
        found.extend(defaults::check(text));
        found.extend(manifests::check(text));
    }
    let sources: Vec<Source> = texts
        .iter()
        .filter(|text| text.path.ends_with(".rs"))
        .map(Source::new)
        .collect();
    found.extend(files::check(&sources));
    found.extend(score_cards::check(texts));
    for source in &sources {
        found.extend(check_source(source));
    }
    found
}

/// All rules for one Rust file.
fn check_source(source: &Source) -> Vec<Finding> {
    let rules = [
        backends::check,
        clock::check,
        drivers::check,
        purity::check,
        size::check,
        sql::check,
        table_of_contents::check,
        todo::check,
        words::check,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

fn read_all(root: &Path) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(root)?.flatten() {
        if entry.file_type()?.is_file() {
            read_into(&mut texts, root, &entry.path())?;
        }
    }
    for folder in FOLDERS {
        read_folder(&mut texts, root, &root.join(folder))?;
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}

fn read_folder(texts: &mut Vec<Text>, root: &Path, folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let kind = entry.file_type()?;
        if kind.is_file() {
            read_into(texts, root, &entry.path())?;
        } else if kind.is_dir() && !GENERATED.iter().any(|name| entry.file_name() == *name) {
            read_folder(texts, root, &entry.path())?;
        }
    }
    Ok(())
}

fn read_into(texts: &mut Vec<Text>, root: &Path, file: &Path) -> Result<()> {
    let size = std::fs::metadata(file)?.len();
    let bytes = if size > TEXT_MAX {
        Vec::new()
    } else {
        std::fs::read(file)?
    };
    if let Ok(text) = String::from_utf8(bytes) {
        let path = file
            .strip_prefix(root)
            .context("a file lies below the root")?;
        texts.push(Text {
            path: path.to_string_lossy().replace('\\', "/"),
            text,
        });
    }
    Ok(())
}

#[cfg(test)]
mod sample {
    //! How the tests of the rules call them.

    use super::{Finding, Source, Text};

    pub(super) fn text(path: &str, text: &str) -> Text {
        Text {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    pub(super) fn source(path: &str, code: &str) -> Source {
        Source::new(&text(path, code))
    }

    /// The lines on which a rule fires.
    pub(super) fn lines(found: &[Finding]) -> Vec<usize> {
        found.iter().map(|finding| finding.line).collect()
    }
}
