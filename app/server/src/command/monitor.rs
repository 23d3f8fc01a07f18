//! `ratebox monitor`: a report on streams, consumers and results.
//!
//! Every section stands for itself: what cannot be asked is said in its place, and the rest
//! still prints. A single report in which nothing could be read is a failure; with `--watch` it is
//! printed, and the next one may say more.

mod report;
mod streams;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use ratebox_kit::{Causes, Clock};
use ratebox_store::Store;
use ratebox_stream::{ConsumerName, GroupName, StreamName, Subscription};

use self::report::Report;
pub(super) use self::report::{Delayed, Section};
pub(super) use self::streams::{StreamReport, groups_text, streams_json, streams_text};
use crate::cli::{Ended, ServerArgs};
use crate::config::Config;
use crate::wiring::operator::{self, IfMissing, OperatorBus};

/// How to report.
#[derive(Clone, Debug, Args)]
pub struct MonitorArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Repeats the report after this many seconds, until Ctrl-C.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

/// Older figures say nothing of now.
const SPEEDS_MAX_AGE: Duration = Duration::from_secs(300);

/// Prints the report, once or again and again.
///
/// # Errors
/// When the report cannot be printed, or neither bus nor store could be read for the only one; what
/// cannot be asked stands in the report.
pub async fn run(config: Config, args: MonitorArgs, json: bool) -> Result<Ended> {
    let store = operator::store(&config, IfMissing::Refuse).map_err(|error| said(&*error));
    let bus = operator::bus(&config, IfMissing::Refuse)
        .await
        .map_err(|error| said(&*error));
    let clear = args.watch.is_some() && !json && std::io::stdout().is_terminal();
    loop {
        let report = report(&config, &store, &bus).await;
        print(&report, json, clear)?;
        let Some(seconds) = args.watch else {
            return match report.unread() {
                Some(why) => Err(anyhow!("nothing could be read: {why}")),
                None => Ok(Ended::Well),
            };
        };
        tokio::select! {
            stop = tokio::signal::ctrl_c() => {
                stop.context("cannot watch for Ctrl-C")?;
                return Ok(Ended::Well);
            }
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    }
}

fn print(report: &Report, json: bool, clear: bool) -> Result<()> {
    let mut out = crate::out::Out;
    if json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        let home = if clear { "\u{1b}[2J\u{1b}[H" } else { "" };
        write!(out, "{home}{}", report.to_text())?;
    }
    Ok(out.flush()?)
}

/// Asks for everything.
async fn report(config: &Config, store: &Section<Store>, bus: &Section<OperatorBus>) -> Report {
    let mut report = Report::empty(Clock::system().now());
    match answering_bus(bus).await {
        Ok(bus) => {
            let lanes = config.bus.lanes();
            report.bus = Ok(streams_of(bus, lanes.iter().map(|(_, it)| it)).await);
            report.delayed = delayed(config, bus).await;
        }
        Err(why) => report.without_bus(&why),
    }
    match answering_store(store).await {
        Ok(store) => {
            let since = report.at - SPEEDS_MAX_AGE;
            let speeds = store.latest_stream_metrics(since).await;
            report.speeds = speeds.map_err(|it| no_answer(&it));
            report.items = store.item_counts().await.map_err(|it| no_answer(&it));
            report.consumers = store
                .consumer_performance()
                .await
                .map_err(|it| no_answer(&it));
            report.activity = store.recent_activity().await.map_err(|it| no_answer(&it));
            report.errors = store.top_errors().await.map_err(|it| no_answer(&it));
        }
        Err(why) => report.without_database(&why),
    }
    report
}

/// The bus, when it answers: one answer for all sections, so that nobody waits for a dead server
/// twice.
async fn answering_bus(bus: &Section<OperatorBus>) -> Section<&OperatorBus> {
    let bus = bus.as_ref().map_err(Clone::clone)?;
    match bus.admin.ping().await {
        Ok(()) => Ok(bus),
        Err(error) => Err(format!("the bus cannot be reached: {}", Causes(&error))),
    }
}

/// The same for the store.
async fn answering_store(store: &Section<Store>) -> Section<&Store> {
    let store = store.as_ref().map_err(Clone::clone)?;
    match store.db().ping().await {
        Ok(()) => Ok(store),
        Err(error) => Err(format!(
            "the database cannot be reached: {}",
            Causes(&error)
        )),
    }
}

/// Each stream as it stands.
pub(super) async fn streams_of(
    bus: &OperatorBus,
    names: impl Iterator<Item = &StreamName>,
) -> Vec<StreamReport> {
    let mut streams = Vec::new();
    for name in names {
        let info = bus
            .admin
            .info(name)
            .await
            .map_err(|error| Causes(&error).to_string());
        streams.push(StreamReport {
            name: name.to_string(),
            info,
        });
    }
    streams
}

/// What waits for its retry.
pub(super) async fn delayed(config: &Config, bus: &OperatorBus) -> Section<Delayed> {
    let (group, nobody) = (
        GroupName::new(&config.bus.group),
        ConsumerName::new("operator"),
    );
    let subscription = Subscription::new(config.bus.lanes(), group, nobody);
    let delayed = bus.admin.delayed(&subscription).await;
    delayed.map_err(|error| Causes(&error).to_string())
}

fn said(error: &(dyn std::error::Error + 'static)) -> String {
    Causes(error).to_string()
}

/// Why the database did not answer, and what to do when its tables are missing.
fn no_answer(error: &ratebox_store::Error) -> String {
    if operator::lacks_tables(error) {
        return operator::LACKS_TABLES.to_owned();
    }
    format!("the database did not answer: {}", Causes(error))
}
