//! Walks through a running service, scene by scene.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratebox_kit::{Secret, Stopwatch};
use serde_json::json;

use super::client::Service;
use super::scenes;
use crate::cli::Ended;
use crate::out::{Out, say};

/// Which service.
#[derive(Clone, Debug, Args)]
pub struct TourArgs {
    /// Address of the service, http://host:port; it must serve the shipped example, and nobody else
    /// meanwhile: scenes count its loads.
    #[arg(value_name = "URL")]
    url: String,
    /// File with a token that may read and write; else RATEBOX_TOKEN is used, if it is set.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How a scene ended.
struct Seen {
    name: &'static str,
    took: Duration,
    /// What was seen, or what was wrong.
    outcome: Result<String>,
}

/// Plays all scenes, whatever becomes of each.
///
/// # Errors
/// When one of them failed.
pub async fn run(args: TourArgs, json: bool) -> Result<Ended> {
    let service = Service::new(&args.url, token(&args)?)?;
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let colour = !json && wanted && std::io::stdout().is_terminal();
    let mut all = Vec::new();
    for (name, play) in scenes::ALL {
        let watch = Stopwatch::start();
        let outcome = play(service.clone()).await;
        let seen = Seen {
            name,
            took: watch.elapsed(),
            outcome,
        };
        if !json {
            show(&seen, colour)?;
        }
        all.push(seen);
    }
    let failed = all.iter().filter(|seen| seen.outcome.is_err()).count();
    if json {
        let scenes: Vec<_> = all.iter().map(as_json).collect();
        say!("{}", json!({"scenes": scenes, "failed": failed}));
    } else {
        sum_up(&all, failed, colour)?;
    }
    match failed {
        0 => Ok(Ended::Well),
        failed => bail!("{failed} of {} scenes failed", all.len()),
    }
}

fn token(args: &TourArgs) -> Result<Option<Secret>> {
    if let Some(file) = &args.token_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the token in {}", file.display()))?;
        return Ok(Some(Secret::new(text.trim())));
    }
    Ok(std::env::var("RATEBOX_TOKEN").ok().map(Secret::new))
}

fn show(seen: &Seen, colour: bool) -> Result<()> {
    let (mark, tint, text) = match &seen.outcome {
        Ok(text) => ("ok  ", "32", text.clone()),
        Err(error) => ("FAIL", "31", format!("{error:#}")),
    };
    let mark = match colour {
        true => format!("\u{1b}[{tint}m{mark}\u{1b}[0m"),
        false => mark.to_owned(),
    };
    let ms = seen.took.as_secs_f64() * 1_000.0;
    writeln!(Out, "{mark} {:<34} {ms:>9.1} ms  {text}", seen.name)?;
    Ok(())
}

fn sum_up(all: &[Seen], failed: usize, colour: bool) -> Result<()> {
    let total: Duration = all.iter().map(|seen| seen.took).sum();
    let text = format!(
        "{} of {} scenes as promised, {:.1} s",
        all.len() - failed,
        all.len(),
        total.as_secs_f64()
    );
    let tint = if failed == 0 { "1;32" } else { "1;31" };
    let text = match colour {
        true => format!("\u{1b}[{tint}m{text}\u{1b}[0m"),
        false => text,
    };
    writeln!(Out, "\n{text}")?;
    Ok(())
}

fn as_json(seen: &Seen) -> serde_json::Value {
    let (ok, text) = match &seen.outcome {
        Ok(text) => (true, text.clone()),
        Err(error) => (false, format!("{error:#}")),
    };
    json!({"scene": seen.name, "ok": ok, "ms": seen.took.as_secs_f64() * 1_000.0, "seen": text})
}
