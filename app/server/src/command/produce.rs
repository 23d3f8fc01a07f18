//! `ratebox produce`: puts made-up messages on the bus, as the predecessor's producer did.

mod samples;

use std::io::{IsTerminal as _, Write as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ratebox_kit::{Clock, Stopwatch};
use ratebox_stream::{Append, Lane, StreamName};

use self::samples::Made;
use super::figures::{grouped, per_second};
use super::monitor;
use crate::cli::{Ended, ServerArgs};
use crate::config::Config;
use crate::wiring::operator::{self, IfMissing, OperatorBus};

/// What to put on the bus, and how fast.
#[derive(Clone, Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// How many messages (10; with --rate until Ctrl-C), or `info`: what is on the bus.
    #[arg(value_name = "N|info")]
    what: Option<What>,
    /// Seconds between two messages.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    delay: f64,
    /// Messages a second, in place of a delay.
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "delay")]
    rate: Option<f64>,
    /// How a message is written.
    #[arg(long, value_enum, default_value_t = Shape::Item)]
    shape: Shape,
    /// Priority: high, normal or low.
    #[arg(long, default_value = "normal", value_parser = lane)]
    lane: Lane,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Info,
    Messages(u64),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "info" => Ok(Self::Info),
            _ => text
                .parse()
                .map(Self::Messages)
                .map_err(|_| "a number or `info`".to_owned()),
        }
    }
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// One item in the field `data`, with flat fields beside it: the predecessor's producer.
    Item,
    /// No field `data`: the flat fields are the item. Needs --redis-url.
    Flat,
    /// The browser extension's message; it is answered and not kept.
    Extension,
    /// The request envelope, version 1.
    Envelope,
}

/// Messages unless a number is given, as the predecessor's producer had it.
const MESSAGES_DEFAULT: u64 = 10;
/// Messages of one round trip.
const BATCH_MAX: u64 = 200;

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|it: &f64| it.is_finite() && *it >= 0.0);
    seconds.ok_or_else(|| "must be a number of seconds, 0 or more".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|it: &f64| it.is_finite() && *it > 0.0);
    rate.ok_or_else(|| "must be a number above 0".to_owned())
}

fn lane(word: &str) -> Result<Lane, String> {
    Lane::parse(word).ok_or_else(|| "must be high, normal or low".to_owned())
}

/// Appends messages, or says what is on the bus.
///
/// # Errors
/// When the bus cannot be reached or takes no messages.
pub async fn run(config: Config, args: ProduceArgs, json: bool) -> Result<Ended> {
    let if_missing = match args.what {
        Some(What::Info) => IfMissing::Refuse,
        Some(What::Messages(_)) | None => IfMissing::Make,
    };
    let bus = operator::bus(&config, if_missing).await?;
    bus.admin
        .ping()
        .await
        .context("the bus cannot be reached")?;
    let count = match args.what {
        Some(What::Info) => return info(&config, &bus, json).await,
        Some(What::Messages(count)) => Some(count),
        None => args.rate.is_none().then_some(MESSAGES_DEFAULT),
    };
    let stream = config.bus.lanes().stream(args.lane).clone();
    let pace = Pace {
        per_second: args.rate.unwrap_or(1.0 / args.delay),
        count,
    };
    let watch = Stopwatch::start();
    let appended = produce(&bus, &stream, &args, pace).await?;
    let took = watch.elapsed();
    let mut out = crate::out::Out;
    if json {
        let report = serde_json::json!({
            "appended": appended, "stream": stream.as_str(), "seconds": took.as_secs_f64(),
            "per_s": per_second(appended, took),
        });
        writeln!(out, "{report}")?;
    } else {
        let (count, rate) = (grouped(appended), grouped(per_second(appended, took)));
        let seconds = took.as_secs_f64();
        writeln!(
            out,
            "appended {count} to {stream} in {seconds:.1} s ({rate} a second)"
        )?;
    }
    Ok(Ended::Well)
}

/// When which message is due.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Infinite for as fast as the bus takes them.
    per_second: f64,
    /// `None` for until told to stop.
    count: Option<u64>,
}

/// What a moment asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    /// So many messages now.
    Now(u64),
    /// The next one later.
    In(Duration),
    /// No more.
    Never,
}

impl Pace {
    /// What is due after `elapsed`, when so many were sent; the first one is due at once.
    fn due(self, sent: u64, elapsed: Duration) -> Due {
        let left = self
            .count
            .map_or(u64::MAX, |count| count.saturating_sub(sent));
        if left == 0 {
            return Due::Never;
        }
        if self.per_second.is_infinite() {
            return Due::Now(left.min(BATCH_MAX));
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "far below 2^52 messages, and never negative"
        )]
        let (so_far, sent_at) = (
            (elapsed.as_secs_f64() * self.per_second) as u64 + 1,
            sent as f64 / self.per_second,
        );
        if so_far > sent {
            return Due::Now((so_far - sent).min(left).min(BATCH_MAX));
        }
        let wait = (sent_at - elapsed.as_secs_f64()).max(0.0);
        Due::In(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }
}

async fn produce(
    bus: &OperatorBus,
    stream: &StreamName,
    args: &ProduceArgs,
    pace: Pace,
) -> Result<u64> {
    let (clock, watch, bar) = (Clock::system(), Stopwatch::start(), bar(pace.count));
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut sent = 0;
    loop {
        let wait = match pace.due(sent, watch.elapsed()) {
            Due::Never => break,
            Due::In(wait) => wait,
            Due::Now(count) => {
                let numbers = sent..sent + count;
                let made = numbers.map(|i| samples::make(args.shape, args.lane, i, clock.now()));
                let appended = append(bus, stream, made.collect()).await;
                appended.with_context(|| format!("stopped after {sent} messages"))?;
                sent += count;
                bar.set_position(sent);
                Duration::ZERO
            }
        };
        tokio::select! {
            biased;
            _ = &mut stop => break,
            () = pause(wait) => {}
        }
    }
    bar.finish_and_clear();
    Ok(sent)
}

/// A pause of nothing is none: a timer would make it a millisecond.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

async fn append(bus: &OperatorBus, stream: &StreamName, made: Vec<Made>) -> Result<()> {
    let mut messages = Vec::with_capacity(made.len());
    for made in made {
        match made {
            Made::Message(message) => messages.push(Append::new(stream.clone(), message)),
            Made::Fields(fields) => bus.append_fields(stream, &fields).await?,
        }
    }
    for answer in bus.log.append(&messages).await {
        answer.context("the bus did not take a message")?;
    }
    Ok(())
}

/// Messages appended of all, for people; nothing where nobody looks.
fn bar(count: Option<u64>) -> ProgressBar {
    let Some(count) = count.filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let style = "{bar:40} {pos} of {len} messages, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    ProgressBar::new(count).with_style(style)
}

/// What is on the bus: all streams that the settings name.
async fn info(config: &Config, bus: &OperatorBus, json: bool) -> Result<Ended> {
    let settings = &config.bus;
    let mut names: Vec<StreamName> = settings
        .lanes()
        .iter()
        .map(|(_, stream)| stream.clone())
        .collect();
    let others = [
        &settings.extension_responses,
        &settings.importer_responses,
        &settings.dead_letter_stream,
    ];
    names.extend(
        others
            .into_iter()
            .filter(|it| !it.is_empty())
            .map(StreamName::new),
    );
    let streams = monitor::streams_of(bus, names.iter()).await;
    let mut out = crate::out::Out;
    if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({ "streams": monitor::streams_json(&streams) })
        )?;
        return Ok(Ended::Well);
    }
    let mut text = "STREAMS\n".to_owned();
    monitor::streams_text(&mut text, &streams);
    text.push_str("\nCONSUMER GROUPS\n");
    monitor::groups_text(&mut text, &streams);
    out.write_all(text.as_bytes())?;
    Ok(Ended::Well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_their_rate_and_the_first_at_once() {
        let pace = Pace {
            per_second: 2.0,
            count: Some(3),
        };
        let at = Duration::from_millis;
        assert_eq!(pace.due(0, at(0)), Due::Now(1));
        assert_eq!(pace.due(1, at(100)), Due::In(at(400)));
        assert_eq!(pace.due(1, at(500)), Due::Now(1));
        assert_eq!(pace.due(1, at(9000)), Due::Now(2));
        assert_eq!(pace.due(3, at(9000)), Due::Never);
    }

    #[test]
    fn without_a_delay_everything_is_due() {
        let pace = Pace {
            per_second: 1.0 / 0.0,
            count: None,
        };
        assert_eq!(pace.due(0, Duration::ZERO), Due::Now(BATCH_MAX));
    }

    #[test]
    fn numbers_and_the_word_info_are_taken() {
        assert_eq!("info".parse(), Ok(What::Info));
        assert_eq!("12".parse(), Ok(What::Messages(12)));
        assert!("many".parse::<What>().is_err());
        assert!(rate("0").is_err() && seconds("-1").is_err() && lane("urgent").is_err());
    }
}
