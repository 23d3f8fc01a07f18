//! `ratebox stream info|peek|claim|trim|replay|pause|resume|export|import`: the bus.

mod when;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use ratebox_kit::Clock;
use ratebox_operator::{
    By, ClaimOrder, Identity, Payload, StreamSeen, Streams, TrimWish, entry_json, stream_json,
};
use ratebox_stream::{
    ConsumerName, Control, EntryId, GroupName, Lane, Order, Retention, StreamName, TrimOrder,
};
use serde_json::{Value, json};

use self::when::When;
use super::figures::{grouped, span};
use super::monitor::{StreamReport, groups_text, streams_text};
use crate::cli::{Ended, ServerArgs, Usage};
use crate::config::Config;
use crate::out::{Out, print, say};
use crate::wiring::operator::{self, IfMissing};

/// What to do with streams.
#[derive(Clone, Debug, Args)]
pub struct StreamArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Name in the audit log; the user of this session when it is left out.
    #[arg(long = "as", global = true, value_name = "NAME")]
    actor: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Length, groups, consumers and bytes of streams: of all that the settings name.
    Info {
        /// The streams.
        streams: Vec<String>,
    },
    /// Looks at entries without delivering them.
    Peek(PeekArgs),
    /// Hands what a dead consumer holds to the others, at once.
    Claim(ClaimArgs),
    /// Removes what was acknowledged, never what a group still needs unless you say so.
    Trim(TrimArgs),
    /// Makes a new group that reads from an entry or a time on.
    Replay(ReplayArgs),
    /// Lets consumers take nothing new; what is in work is finished.
    Pause(PauseArgs),
    /// Ends a pause.
    Resume(ResumeArgs),
    /// Writes entries as lines of JSON.
    Export(ExportArgs),
    /// Appends the entries of an export.
    Import(ImportArgs),
}

#[derive(Clone, Debug, Args)]
struct PeekArgs {
    /// The stream, or a lane of the requests: high, normal or low.
    stream: String,
    /// First entry: an id, a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long, default_value = "0-0")]
    from: When,
    /// Entries at most.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    unmask: Unmask,
}

#[derive(Clone, Debug, Args)]
struct Unmask {
    /// Shows payloads as they are; needs --reason.
    #[arg(long, requires = "reason")]
    unmask: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct ClaimArgs {
    /// The consumer.
    consumer: String,
    /// Its group; that of the settings when it is left out.
    #[arg(long)]
    group: Option<String>,
    /// Even if it was seen lately; what it works on is worked on twice then.
    #[arg(long)]
    force: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: String,
}

#[derive(Clone, Debug, Args)]
struct TrimArgs {
    /// The streams, or lanes of the requests: high, normal or low.
    #[arg(required = true)]
    streams: Vec<String>,
    /// Removes what is older, such as 30d, 12h or 15m.
    #[arg(long, value_name = "SPAN", value_parser = when::span)]
    max_age: Option<Duration>,
    /// Keeps so many entries.
    #[arg(long, value_name = "N")]
    max_len: Option<u64>,
    /// Keeps about so many bytes.
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,
    /// Does not wait for this group: nobody reads it any more. Repeat for several.
    #[arg(long = "ignore-group", value_name = "GROUP")]
    ignored: Vec<String>,
    /// Waits for no group: unread and unacknowledged entries are lost.
    #[arg(long)]
    force: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: String,
}

impl TrimArgs {
    /// # Errors
    /// When nothing says what to keep.
    fn check(&self) -> Result<()> {
        let some = self.max_age.is_some() || self.max_len.is_some() || self.max_bytes.is_some();
        ensure!(
            some,
            Usage("say what to keep: --max-age, --max-len or --max-bytes")
        );
        Ok(())
    }
}

#[derive(Clone, Debug, Args)]
struct ReplayArgs {
    /// The new group.
    #[arg(long)]
    group: String,
    /// First entry: an id, a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long)]
    from: When,
    /// The streams; all lanes of the requests when they are left out.
    streams: Vec<String>,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: String,
}

#[derive(Clone, Debug, Args)]
struct PauseArgs {
    #[command(flatten)]
    whose: Whose,
    /// Ends by itself after this time, such as 15m or 2h.
    #[arg(long = "for", value_name = "SPAN", value_parser = when::span)]
    time: Option<Duration>,
}

#[derive(Clone, Debug, Args)]
struct ResumeArgs {
    #[command(flatten)]
    whose: Whose,
}

#[derive(Clone, Debug, Args)]
struct Whose {
    /// Only this group; all groups of the requests when it is left out.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: String,
}

#[derive(Clone, Debug, Args)]
struct ExportArgs {
    /// The stream, or a lane of the requests: high, normal or low.
    stream: String,
    /// First entry: an id, a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long, default_value = "0-0")]
    from: When,
    /// Stops before this entry or time.
    #[arg(long)]
    until: Option<When>,
    /// File to write; standard output when it is left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    unmask: Unmask,
}

#[derive(Clone, Debug, Args)]
struct ImportArgs {
    /// The stream, or a lane of the requests: high, normal or low.
    stream: String,
    /// The export; - is standard input.
    file: PathBuf,
    /// Entries without an id of their own become new messages; otherwise an entry that is
    /// imported twice is judged once.
    #[arg(long)]
    as_new: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: String,
}

/// Characters of a value that a peek shows to people; scripts get all of it.
const VALUE_CHARS: usize = 160;

/// Does what is asked.
///
/// # Errors
/// When bus or store cannot be reached, or the wish cannot be done.
pub async fn run(config: Config, args: StreamArgs, json: bool) -> Result<Ended> {
    if let What::Trim(trim) = &args.what {
        trim.check()?;
    }
    let store = operator::store(&config, IfMissing::Refuse)?;
    let bus = operator::bus(&config, IfMissing::Refuse).await?;
    bus.admin
        .ping()
        .await
        .context("the bus cannot be reached")?;
    let control = Control::new(bus.dispatcher, config.bus.lanes());
    let streams = Streams::new(bus.log, bus.admin, config.bus.lanes(), store);
    let desk = Desk {
        actor: super::actor(args.actor),
        config,
        streams,
        control,
        json,
    };
    desk.act(args.what).await
}

struct Desk {
    config: Config,
    streams: Streams,
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

    /// A stream by its name, or a lane by its word.
    fn stream(&self, word: &str) -> StreamName {
        let lanes = self.config.bus.lanes();
        match Lane::parse(word) {
            Some(lane) => lanes.stream(lane).clone(),
            None => StreamName::new(word),
        }
    }

    async fn info(&self, words: &[String]) -> Result<Ended> {
        let names = match words {
            [] => self.config.bus.streams(),
            words => words.iter().map(|word| self.stream(word)).collect(),
        };
        let mut seen = Vec::with_capacity(names.len());
        for name in names {
            seen.push(self.streams.look(&name).await?);
        }
        if self.json {
            say!("{}", seen.iter().map(stream_json).collect::<Value>());
            return Ok(Ended::Well);
        }
        print(format_args!("{}", text(&seen)));
        for pause in self.streams.pauses(&self.control).await? {
            say!("{}", pause_text(&pause));
        }
        Ok(Ended::Well)
    }

    async fn pause(&self, args: PauseArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.whose.reason)?;
        let group = args.whose.group.as_ref().map(GroupName::new);
        let note = match &group {
            Some(group) => self.doubt(group).await?,
            None => None,
        };
        self.streams
            .pause(&self.control, group.as_ref(), args.time, &by)
            .await?;
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
            let info = self.streams.look(stream).await?.info;
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
        let was_paused = self
            .streams
            .resume(&self.control, group.as_ref(), &by)
            .await?;
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
        let name = self.stream(&args.stream);
        let payload = self.payload(&args.unmask, &name).await?;
        let from = args.from.entry_id(&Clock::system());
        let entries = self.streams.peek(&name, from, args.limit.into()).await?;
        for entry in &entries {
            let shown = entry_json(entry, payload);
            match self.json {
                true => say!("{shown}"),
                false => print(format_args!("{}", entry_text(&shown))),
            }
        }
        if entries.is_empty() && !self.json {
            eprintln!("{name} holds no entry from there on");
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
        let count = self.streams.claim(&order, &by).await?;
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
        let (mut held, mut done) = (false, Vec::new());
        for word in &args.streams {
            let name = self.stream(word);
            let trimmed = self.streams.trim(&name, &wish, &by).await?;
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

    async fn replay(&self, args: ReplayArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.reason)?;
        let lanes = self.config.bus.lanes();
        let names: Vec<StreamName> = match args.streams.as_slice() {
            [] => lanes.iter().map(|(_, stream)| stream.clone()).collect(),
            words => words.iter().map(|word| self.stream(word)).collect(),
        };
        let group = GroupName::new(&args.group);
        let from = args.from.entry_id(&Clock::system());
        self.streams.replay(&names, &group, from, &by).await?;
        self.say(
            &json!({ "group": args.group, "from": from.to_string() }),
            &format!("group {group} reads from {from} on"),
        );
        Ok(Ended::Well)
    }

    async fn export(&self, args: ExportArgs) -> Result<Ended> {
        let name = self.stream(&args.stream);
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
        let count = self.streams.export(&name, range, payload, take).await?;
        file.flush()?;
        eprintln!("{} entries exported", grouped(count));
        if payload != Payload::Plain {
            eprintln!("payloads are masked; an export for an import needs --unmask");
        }
        Ok(Ended::Well)
    }

    async fn import(&self, args: &ImportArgs) -> Result<Ended> {
        let by = By::new(self.actor.clone(), &args.reason)?;
        let name = self.stream(&args.stream);
        let bar = ProgressBar::new_spinner();
        let progress = |count| bar.set_message(format!("{} appended", grouped(count)));
        let identity = match args.as_new {
            true => Identity::AsWritten,
            false => Identity::Kept,
        };
        let lines = lines(&args.file)?;
        let count = self
            .streams
            .import(&name, lines, identity, &by, progress)
            .await?;
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
        self.streams.note_unmasking(name, &by).await?;
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
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
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
