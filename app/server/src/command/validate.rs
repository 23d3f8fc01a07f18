//! `ratebox validate`: judges a file of records without any server, in bounded memory.
//!
//! Records are read in rounds; the records of a round are judged on all cores and reported in
//! their order. Nothing is sent anywhere.

mod columns;
mod judge;
mod report;
mod source;
mod summary;

use std::fs::{File, Metadata};
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ratebox_intake::{Profile, Rules};
use ratebox_kit::Stopwatch;

use self::judge::Judged;
use self::report::Report;
use self::source::{Record, Source};
use self::summary::Summary;
use crate::cli::Ended;
use crate::config::Config;

/// What to judge, and how.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// A CSV file with a header or an NDJSON file, UTF-8; - reads the standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Rules to judge by: classic, standard or strict; the configured ones without it.
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    profile: Option<Profile>,
    /// Writes the records that failed, with reasons, to a .csv or .ndjson file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Format of the input.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// Exits with 3 when any record failed.
    #[arg(long)]
    fail_on_error: bool,
}

/// How the input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// By the name of the file, else by its first character.
    Auto,
    /// A header, then a record a line; separated by comma, semicolon or tab.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

fn profile(word: &str) -> Result<Profile, String> {
    Profile::from_word(word).ok_or_else(|| format!("must be one of {}", Profile::WORDS))
}

/// Records of one thread in one round.
const CHUNK_RECORDS: usize = 2_048;
/// Bytes after which a chunk is full, whatever it holds: bounds the memory of a round.
const CHUNK_BYTES: usize = 4 << 20;
/// More threads than this wait for the one that reads.
const THREADS_MAX: usize = 8;

/// Judges a file, prints a summary, and writes the report.
///
/// # Errors
/// When the file cannot be read, holds no records at all by its form, or the report cannot be
/// written. Single records that cannot be read are counted instead.
pub fn run(config: &Config, args: &ValidateArgs, json: bool) -> Result<Ended> {
    let mut rules = config.rules.rules()?;
    if let Some(profile) = args.profile {
        rules = rules.with_profile(profile);
    }
    let read = Arc::new(AtomicU64::new(0));
    let mut source = Source::open(&args.file, args.format, read.clone())?;
    let mut report = match &args.report {
        Some(path) => Some(open_report(path, args, &source)?),
        None => None,
    };
    let watch = Stopwatch::start();
    let bar = bar(source.length());
    let summary = judge_all(&mut source, rules, report.as_mut(), || {
        bar.set_position(read.load(Ordering::Relaxed));
    });
    bar.finish_and_clear();
    let mut summary = summary?;
    if let Some(report) = report {
        report.finish()?;
    }
    summary.took = watch.elapsed();
    summary.bytes = read.load(Ordering::Relaxed);
    let mut out = crate::out::Out;
    match json {
        true => writeln!(out, "{}", summary.to_json(rules.profile(), args))?,
        false => out.write_all(summary.to_text(rules.profile(), args).as_bytes())?,
    }
    let found = args.fail_on_error && summary.failed() > 0;
    Ok(if found { Ended::Found } else { Ended::Well })
}

fn open_report(path: &Path, args: &ValidateArgs, source: &Source) -> Result<Report> {
    // One file may have several names, and as standard input it has none.
    let file = |about: Metadata| (about.dev(), about.ino());
    let report = std::fs::metadata(path).ok().map(file);
    let input = about_input(&args.file).ok().map(file);
    ensure!(
        report.is_none() || report != input,
        "the report would overwrite the file that is judged; choose another name"
    );
    Report::create(path, source.columns())
        .with_context(|| format!("the report {} cannot be written", path.display()))
}

/// What is known of the file that is judged, wherever its name or `-` leads.
fn about_input(file: &Path) -> std::io::Result<Metadata> {
    if file != Path::new("-") {
        return std::fs::metadata(file);
    }
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    File::from(input).metadata()
}

/// Reads, judges and reports round by round.
fn judge_all(
    source: &mut Source,
    rules: Rules,
    mut report: Option<&mut Report>,
    progress: impl Fn(),
) -> Result<Summary> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    let keep = report.is_some();
    let mut summary = Summary::default();
    loop {
        let mut chunks = Vec::with_capacity(threads);
        while chunks.len() < threads {
            let chunk = read_chunk(source)?;
            if chunk.is_empty() {
                break;
            }
            chunks.push(chunk);
        }
        if chunks.is_empty() {
            return Ok(summary);
        }
        for judged in judge_round(chunks, source, rules, keep) {
            summary.add(&judged.summary);
            if let Some(report) = report.as_deref_mut() {
                report
                    .write(&judged.failures)
                    .context("the report cannot be written")?;
            }
        }
        progress();
    }
}

fn read_chunk(source: &mut Source) -> Result<Vec<Record>> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while chunk.len() < CHUNK_RECORDS && bytes < CHUNK_BYTES {
        let Some(record) = source.next()? else {
            break;
        };
        bytes += record.bytes();
        chunk.push(record);
    }
    Ok(chunk)
}

/// Judges the chunks of a round side by side; the answers are in the order of the chunks.
fn judge_round(chunks: Vec<Vec<Record>>, source: &Source, rules: Rules, keep: bool) -> Vec<Judged> {
    let columns = source.columns();
    std::thread::scope(|scope| {
        let judge = |chunk| scope.spawn(move || judge::judge(chunk, columns, &rules, keep));
        let threads: Vec<_> = chunks.into_iter().map(judge).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(judged) => judged,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

/// Bytes read of all, for people; nothing where nobody looks.
fn bar(length: Option<u64>) -> ProgressBar {
    let Some(length) = length.filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    ProgressBar::new(length).with_style(style)
}
