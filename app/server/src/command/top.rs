//! `ratebox top`: lanes, consumers, dead letters and errors, live on a terminal.
//!
//! The terminal is given back as it was, however this ends: a key, SIGTERM, an error, a panic.

mod keys;
mod sample;
mod screen;
mod view;

use std::io::IsTerminal as _;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use ratebox_operator::{By, ClaimOrder, Streams};
use ratebox_stream::{Control, GroupName};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::keys::Wish;
use self::sample::{Sample, Sampler};
use self::view::View;
use crate::cli::{Ended, ServerArgs};
use crate::config::Config;
use crate::wiring::operator::{self, IfMissing};

/// How to look.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Milliseconds between looks.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    every_ms: u64,
    /// Name in the audit log; the user of this session when it is left out.
    #[arg(long = "as", value_name = "NAME")]
    actor: Option<String>,
}

/// How often keys are looked for.
const KEYS_EVERY: Duration = Duration::from_millis(50);

/// Shows the dashboard until it is told to stop.
///
/// # Errors
/// When there is no terminal, or the settings name nothing that can be opened.
pub async fn run(config: Config, args: TopArgs) -> Result<Ended> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    ensure!(
        terminal,
        "this is no terminal; `ratebox monitor --watch 2` prints a report instead"
    );
    let store = operator::store(&config, IfMissing::Refuse)?;
    let bus = operator::bus(&config, IfMissing::Refuse).await?;
    let control = Control::new(bus.dispatcher, config.bus.lanes());
    let streams = Streams::new(bus.log, bus.admin, config.bus.lanes(), store.clone());
    let top = Top {
        every: Duration::from_millis(args.every_ms),
        actor: super::actor(args.actor),
        claim_idle: Duration::from_millis(config.worker.claim_idle_ms),
        group: GroupName::new(&config.bus.group),
        sampler: Sampler::new(
            control.clone(),
            config.bus.lanes(),
            config.bus.group.clone(),
            streams.clone(),
            store,
        ),
        streams,
        control,
    };
    let mut stops = Stops::watch()?;
    // Sets a panic hook that restores the terminal first.
    let mut screen = ratatui::try_init().context("the terminal cannot be used")?;
    let shown = top.show(&mut screen, &mut stops).await;
    ratatui::try_restore().context("the terminal cannot be restored")?;
    shown.map(|()| Ended::Well)
}

struct Top {
    every: Duration,
    actor: String,
    claim_idle: Duration,
    group: GroupName,
    sampler: Sampler,
    streams: Streams,
    control: Control,
}

/// Signals that end it.
struct Stops {
    term: Signal,
    hangup: Signal,
}

impl Stops {
    fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            term: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }
}

type Looking<'a> = Pin<Box<dyn Future<Output = Sample> + Send + 'a>>;

impl Top {
    async fn show(&self, screen: &mut DefaultTerminal, stops: &mut Stops) -> Result<()> {
        let mut view = View::new(std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()));
        let mut looking: Looking<'_> = Box::pin(self.sampler.look(None, Duration::ZERO));
        loop {
            screen.draw(|frame| screen::draw(frame, &view))?;
            tokio::select! {
                sample = &mut looking => {
                    let every = self.every;
                    let before = sample.clone();
                    view.learn(sample);
                    looking = Box::pin(async move { self.sampler.look(Some(before), every).await });
                }
                () = tokio::time::sleep(KEYS_EVERY) => {}
                _ = stops.term.recv() => return Ok(()),
                _ = stops.hangup.recv() => return Ok(()),
            }
            while event::poll(Duration::ZERO)? {
                match keys::wish(&event::read()?, &mut view) {
                    Wish::Nothing => {}
                    Wish::Quit => return Ok(()),
                    Wish::Claim(consumer) => {
                        let said = self.claim(&consumer).await;
                        view.say(said);
                    }
                    Wish::Pause => {
                        let said = self.pause().await;
                        view.drains &= said.is_ok();
                        view.say(said.unwrap_or_else(|why| why));
                    }
                    Wish::Resume => {
                        let said = self.resume().await;
                        view.say(said);
                    }
                }
            }
        }
    }

    /// Hands on what a consumer holds; says what came of it.
    async fn claim(&self, consumer: &str) -> String {
        let order = ClaimOrder {
            group: self.group.clone(),
            consumer: consumer.into(),
            idle_min: self.claim_idle,
            force: false,
        };
        let claimed = async { self.streams.claim(&order, &self.by()?).await };
        match claimed.await {
            Ok(count) => format!("{count} entries of {consumer} go to the next consumers"),
            Err(error) => format!("not claimed: {}", ratebox_kit::Causes(&error)),
        }
    }

    /// Lets the workers take nothing new; says what came of it.
    async fn pause(&self) -> Result<String, String> {
        let paused = async {
            let by = self.by()?;
            let group = Some(&self.group);
            self.streams.pause(&self.control, group, None, &by).await
        };
        match paused.await {
            Ok(_) => Ok("the workers take nothing new; r lets them go on".to_owned()),
            Err(error) => Err(format!("not paused: {}", ratebox_kit::Causes(&error))),
        }
    }

    /// Lets the workers go on; says what came of it.
    async fn resume(&self) -> String {
        let resumed = async {
            let by = self.by()?;
            let group = Some(&self.group);
            self.streams.resume(&self.control, group, &by).await
        };
        match resumed.await {
            Ok(true) => "the workers go on".to_owned(),
            Ok(false) => "no pause of this group stood; one of all groups ends with \
                          `ratebox stream resume`"
                .to_owned(),
            Err(error) => format!("not resumed: {}", ratebox_kit::Causes(&error)),
        }
    }

    fn by(&self) -> ratebox_operator::Result<By> {
        By::new(self.actor.clone(), "asked for in ratebox top")
    }
}
