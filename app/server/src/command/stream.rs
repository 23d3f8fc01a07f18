//! `ratebox stream info|peek|claim|trim|replay|pause|resume|export|import`: the bus.
//!
//! The store is opened for what is written down only: looking works without it.

mod args;
mod when;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use ratebox_kit::Clock;
use ratebox_operator::{
    By, ClaimOrder, Identity, Lookout, Payload, StreamSeen, Streams, TrimWish, entry_json,
    stream_json,
};
use ratebox_stream::{
    ConsumerName, Control, EntryId, GroupName, Lane, Order, Retention, StreamName, TrimOrder,
};
use serde_json::{Value, json};

pub use self::args::StreamArgs;
use self::args::{
    ClaimArgs, ExportArgs, ImportArgs, PauseArgs, PeekArgs, ReplayArgs, ResumeArgs, TrimArgs,
    Unmask, What,
};
use super::figures::{grouped, span};
use super::monitor::{StreamReport, groups_text, streams_text};
use crate::cli::Ended;
use crate::config::Config;
use crate::out::{Out, hint, print, say};
use crate::visible::visible;
use crate::wiring::operator::{self, IfMissing, OperatorBus};

/// Characters of a value that a peek shows to people; scripts get all of it.
const VALUE_CHARS: usize = 160;

/// Does what is asked.
///
/// # Errors
/// When the bus cannot be reached, or the store where something is to be written down, or the wish
/// cannot be done.
pub async fn run(config: Config, args: StreamArgs, json: bool) -> Result<Ended> {
    args.what.check()?;
    let bus = operator::bus(&config, IfMissing::Refuse).await?;
    bus.admin
        .ping()
        .await
        .context("the bus cannot be reached")?;
    let desk = Desk {
        actor: super::actor(args.actor),
        lookout: Lookout::new(bus.admin.clone(), config.bus.lanes()),
        control: Control::new(bus.dispatcher.clone(), config.bus.lanes()),
        bus,
        config,
        json,
    };
    desk.act(args.what).await
}

struct Desk {
    config: Config,
    bus: OperatorBus,
    lookout: Lookout,
    control: Control,
    actor: String,
    json: bool,
}

impl Desk {
    async fn act(&self, what: What) -> Result<Ended> {
        match what {
            What::Info { streams } => self.info(&streams).await,
            What::Peek(args) => self.peek(args).await,
            What::Claim(args) => self.claim(args).await,
            What::Trim(args) => self.trim(args).await,
            What::Replay(args) => self.replay(args).await,
            What::Pause(args) => self.pause(args).await,
            What::Resume(args) => self.resume(args).await,
            What::Export(args) => self.export(args).await,
            What::Import(args) => self.import(&args).await,
        }
    }

    /// Streams with the store, into which every deed is written.
    ///
    /// # Errors
    /// When the settings name no store that is there.
    fn deeds(&self) -> Result<Streams> {
        let store = operator::store(&self.config, IfMissing::Refuse)?;
        let (log, admin) = (self.bus.log.clone(), self.bus.admin.clone());
        Ok(Streams::new(log, admin, self.config.bus.lanes(), store))
    }

    /// A stream by its name, or a lane by its word.
    fn stream(&self, word: &str) -> StreamName {
        let lanes = self.config.bus.lanes();
        match Lane::parse(word) {
            Some(lane) => lanes.stream(lane).clone(),
            None => StreamName::new(word),
        }
    }

    /// A stream that is there, or that the settings name: a name that was mistyped is no empty
    /// stream.
    async fn known(&self, word: &str) -> Result<StreamName> {
        let name = self.stream(word);
        let is_named = self.config.bus.streams().contains(&name);
        ensure!(
            is_named || self.lookout.look(&name).await?.info.is_some(),
            "there is no stream {name}; `ratebox stream info` shows those of the settings"
        );
        Ok(name)
    }

    async fn info(&self, words: &[String]) -> Result<Ended> {
        let names = match words {
            [] => self.config.bus.streams(),
            words => words.iter().map(|word| self.stream(word)).collect(),
        };
        let mut seen = Vec::with_capacity(names.len());
        for name in names {
            seen.push(self.lookout.look(&name).await?);
        }
        if self.json {
            say!("{}", seen.iter().map(stream_json).collect::<Value>());
            return Ok(Ended::Well);
        }
        print(format_args!("{}", text(&seen)));
        for pause in self.lookout.pauses(&self.control).await? {
            say!("{}", pause_text(&pause));
        }
        Ok(Ended::Well)
    }

    async fn pause(&self, args: PauseArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.whose.reason)?;
        let streams = self.deeds()?;
        let group = args.whose.group.as_ref().map(GroupName::new);
        let note = match &group {
            Some(group) => self.doubt(group).await?,
            None => None,
        };
        let pause = streams.pause(&self.control, group.as_ref(), args.time, &by);
        ensure!(
            pause.await?,
            "a pause stands that lasts longer; `ratebox stream resume` ends it"
        );
        let until = args.time.map_or_else(
            || "until it is resumed".to_owned(),
            |time| format!("for {}", span(time)),
        );
        let who = whom(args.whose.group.as_deref());
        self.say(
            &json!({ "paused": true, "group": args.whose.group, "note": note }),
            &format!("{who} take nothing new {until}"),
        );
        if let Some(note) = note.filter(|_| !self.json) {
            say!("{note}");
        }
        Ok(Ended::Well)
    }

    /// What is to be said of a group that no lane has: its first worker may still come.
    async fn doubt(&self, group: &GroupName) -> Result<Option<String>> {
        let lanes = self.config.bus.lanes();
        for (_, stream) in lanes.iter() {
            let info = self.lookout.look(stream).await?.info;
            if info.is_some_and(|it| it.groups.iter().any(|one| one.name == *group)) {
                return Ok(None);
            }
        }
        let note = format!("no group {group} is on the bus yet; is the name right?");
        Ok(Some(note))
    }

    async fn resume(&self, args: ResumeArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.whose.reason)?;
        let group = args.whose.group.as_ref().map(GroupName::new);
        let streams = self.deeds()?;
        let was_paused = streams.resume(&self.control, group.as_ref(), &by).await?;
        let who = whom(args.whose.group.as_deref());
        let text = if was_paused {
            format!("{who} go on")
        } else {
            format!("{who} were not paused; `ratebox stream info` shows the pauses that stand")
        };
        self.say(
            &json!({ "was_paused": was_paused, "group": args.whose.group }),
            &text,
        );
        Ok(Ended::Well)
    }

    async fn peek(&self, args: PeekArgs) -> Result<Ended> {
        let name = self.known(&args.stream).await?;
        let payload = self.payload(&args.unmask, &name).await?;
        let from = args.from.entry_id(&Clock::system());
        let entries = self.lookout.peek(&name, from, args.limit.into()).await?;
        for entry in &entries {
            let shown = entry_json(entry, payload);
            match self.json {
                true => say!("{shown}"),
                false => print(format_args!("{}", entry_text(&shown))),
            }
        }
        if entries.is_empty() && !self.json {
            hint!("{name} holds no entry from there on");
        }
        Ok(Ended::Well)
    }

    async fn claim(&self, args: ClaimArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.reason)?;
        let group = args.group.as_deref().unwrap_or(&self.config.bus.group);
        let order = ClaimOrder {
            group: GroupName::new(group),
            consumer: ConsumerName::new(&args.consumer),
            idle_min: Duration::from_millis(self.config.worker.claim_idle_ms),
            force: args.force,
        };
        let count = self.deeds()?.claim(&order, &by).await?;
        self.say(
            &json!({ "claimed": count }),
            &format!("{} entries go to the next consumers", grouped(count)),
        );
        Ok(Ended::Well)
    }

    async fn trim(&self, args: TrimArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.reason)?;
        let wish = TrimWish {
            order: TrimOrder {
                retention: Retention {
                    max_age: args.max_age,
                    max_len: args.max_len,
                },
                max_bytes: args.max_bytes,
                ignored: args.ignored.iter().map(GroupName::new).collect(),
            },
            force: args.force,
        };
        let mut names = Vec::with_capacity(args.streams.len());
        for word in &args.streams {
            names.push(self.known(word).await?);
        }
        self.know_groups(&names, &wish.order.ignored).await?;
        let streams = self.deeds()?;
        let (mut held, mut done) = (false, Vec::new());
        for name in names {
            let trimmed = streams.trim(&name, &wish, &by).await?;
            held |= trimmed.held_by.is_some();
            let holder = trimmed.held_by.as_ref().map(GroupName::as_str);
            if !self.json {
                say!("{name}: {} entries removed", grouped(trimmed.removed));
                if let Some(holder) = holder {
                    say!("  group {holder} still needs the oldest that are left");
                }
            }
            done.push(json!({
                "stream": name.as_str(), "removed": trimmed.removed, "held_by": holder,
            }));
        }
        if self.json {
            say!("{}", Value::Array(done));
        }
        Ok(if held { Ended::Found } else { Ended::Well })
    }

    /// Refuses a group that none of the streams has: whoever mistypes it waits for it in vain.
    async fn know_groups(&self, names: &[StreamName], groups: &[GroupName]) -> Result<()> {
        let mut there = Vec::new();
        for name in names {
            let info = self.lookout.look(name).await?.info;
            there.extend(info.into_iter().flat_map(|info| info.groups));
        }
        for group in groups {
            ensure!(
                there.iter().any(|it| it.name == *group),
                "there is no group {group} on these streams; `ratebox stream info` shows the groups"
            );
        }
        Ok(())
    }

    async fn replay(&self, args: ReplayArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.reason)?;
        let lanes = self.config.bus.lanes();
        let mut names = Vec::new();
        for word in &args.streams {
            names.push(self.known(word).await?);
        }
        if names.is_empty() {
            names.extend(lanes.iter().map(|(_, stream)| stream.clone()));
        }
        let group = GroupName::new(&args.group);
        let from = args.from.entry_id(&Clock::system());
        self.deeds()?.replay(&names, &group, from, &by).await?;
        self.say(
            &json!({ "group": args.group, "from": from.to_string() }),
            &format!("group {group} reads from {from} on"),
        );
        Ok(Ended::Well)
    }

    async fn export(&self, args: ExportArgs) -> Result<Ended> {
        let name = self.known(&args.stream).await?;
        let payload = self.payload(&args.unmask, &name).await?;
        let clock = Clock::system();
        let from = args.from.entry_id(&clock);
        let until = args.until.map_or(EntryId::MAX, |it| it.entry_id(&clock));
        let mut file: Box<dyn std::io::Write + Send> = match &args.out {
            Some(path) => Box::new(std::io::BufWriter::new(
                super::private_file(path)
                    .with_context(|| format!("cannot write {}", path.display()))?,
            )),
            None => Box::new(Out),
        };
        let take = |line: String| writeln!(file, "{line}");
        let range = (from, until);
        let count = self.lookout.export(&name, range, payload, take).await?;
        file.flush()?;
        hint!("{} entries exported", grouped(count));
        if payload != Payload::Plain {
            hint!("payloads are masked; an export for an import needs --unmask");
        }
        Ok(Ended::Well)
    }

    async fn import(&self, args: &ImportArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.reason)?;
        let name = self.stream(&args.stream);
        let bar = ProgressBar::new_spinner();
        let mut appended = 0;
        let progress = |count| {
            appended = count;
            bar.set_message(format!("{} appended", grouped(count)));
        };
        let identity = match args.as_new {
            true => Identity::AsWritten,
            false => Identity::Kept,
        };
        let lines = lines(&args.file)?;
        let streams = self.deeds()?;
        let imported = streams.import(&name, lines, identity, &by, progress).await;
        let count = imported.with_context(|| {
            let appended = grouped(appended);
            format!("{appended} entries were appended to {name}, and then it ended")
        })?;
        bar.finish_and_clear();
        self.say(
            &json!({ "appended": count }),
            &format!("{} entries appended to {name}", grouped(count)),
        );
        Ok(Ended::Well)
    }

    async fn payload(&self, unmask: &Unmask, name: &StreamName) -> Result<Payload> {
        if !unmask.unmask {
            return Ok(Payload::Masked);
        }
        let reason = unmask.reason.as_deref().unwrap_or_default();
        let by = By::new(self.actor.clone(), reason)?;
        self.deeds()?.note_unmasking(name, &by).await?;
        Ok(Payload::Plain)
    }

    fn say(&self, value: &Value, text: &str) {
        if self.json {
            say!("{value}");
        } else {
            say!("{text}");
        }
    }
}

fn whom(group: Option<&str>) -> String {
    group.map_or_else(
        || "the consumers of all groups".to_owned(),
        |group| format!("the consumers of {group}"),
    )
}

/// `PAUSED: the consumers of g, for 5 min`.
fn pause_text(pause: &Order) -> String {
    let who = whom(pause.name.strip_prefix("pause/"));
    let left = pause.left.map_or_else(
        || "until they are resumed".to_owned(),
        |left| format!("for {}", span(left)),
    );
    format!("\nPAUSED: {who}, {left}")
}

type Lines = Box<dyn Iterator<Item = std::io::Result<String>> + Send>;

fn lines(file: &Path) -> Result<Lines> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin()).lines()));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened).lines()))
}

/// An entry as [`entry_json`] gives it, long values cut.
fn entry_text(shown: &Value) -> String {
    let part = |value: &Value| visible(value.as_str().unwrap_or_default()).into_owned();
    let mut text = format!(
        "{}  {}  {} bytes\n",
        part(&shown["id"]),
        part(&shown["message_id"]),
        shown["bytes"]
    );
    for field in shown["fields"].as_array().into_iter().flatten() {
        let value = part(&field["text"]) + &part(&field["base64"]);
        let cut: String = value.chars().take(VALUE_CHARS).collect();
        let more = if cut.len() < value.len() { " …" } else { "" };
        text.push_str(&format!("  {:<16} {cut}{more}\n", part(&field["name"])));
    }
    text
}

fn text(seen: &[StreamSeen]) -> String {
    let report = |it: &StreamSeen| StreamReport {
        name: it.name.to_string(),
        info: Ok(it.info.clone()),
    };
    let reports: Vec<StreamReport> = seen.iter().map(report).collect();
    let mut text = String::from("STREAMS\n");
    streams_text(&mut text, &reports);
    text.push_str("\nBYTES\n");
    for it in seen.iter().filter(|it| it.info.is_some()) {
        let bytes = grouped(it.bytes);
        text.push_str(&format!("  {:<36} about {bytes:>13}\n", it.name.as_str()));
    }
    text.push_str("\nGROUPS\n");
    groups_text(&mut text, &reports);
    for it in seen {
        let Some(info) = &it.info else { continue };
        for group in info.groups.iter().filter(|group| group.is_owed(info)) {
            let alone = match group.idle() {
                None => "has no consumers".to_owned(),
                Some(idle) if idle > Duration::from_secs(60) => {
                    format!("saw no consumer for {}", span(idle))
                }
                Some(_) => continue,
            };
            let name = &it.name;
            text.push_str(&format!(
                "  ! {} on {name} {alone} and holds entries\n",
                group.name
            ));
        }
    }
    text
}
