//! `ratebox dlq list|show|replay|edit|purge|export`: dead letters.
//!
//! Payloads are masked unless `--unmask`, which is written into the audit log, as every change is.

mod filter;
mod text;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use ratebox_kit::Tasks;
use ratebox_operator::{
    By, Change, Letters, Payload, ReplayPlan, Wanted, letter_head, letter_shown,
};
use ratebox_outbox::Outbox;
use serde_json::{Value, json};
use uuid::Uuid;

use self::filter::FilterArgs;
use crate::broker::StreamBroker;
use crate::cli::{Ended, ServerArgs, Usage};
use crate::config::Config;
use crate::out::{Out, hint, print, say};
use crate::wiring::operator::{self, IfMissing};

/// What to do with dead letters.
#[derive(Clone, Debug, Args)]
pub struct DlqArgs {
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
    /// Lists letters, newest first.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Letters at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Shows a letter with its attempts, what was done to it, and its masked payload.
    Show {
        /// The letter.
        id: Uuid,
        #[command(flatten)]
        unmask: Unmask,
    },
    /// Puts letters back onto their streams.
    Replay(ReplayArgs),
    /// Changes what a replay sends; the original is kept.
    Edit(EditArgs),
    /// Deletes letters for good; of a filter it says what it would delete until --yes is given.
    Purge(PurgeArgs),
    /// Writes letters as lines of JSON.
    Export {
        #[command(flatten)]
        filter: FilterArgs,
        /// File to write; standard output when it is left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        unmask: Unmask,
    },
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
struct ReplayArgs {
    /// The letters; or name a filter, or --all.
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Every dead letter.
    #[arg(long)]
    all: bool,
    /// Letters a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Letters at most.
    #[arg(long, default_value_t = u64::MAX)]
    max: u64,
    /// Also letters that died for the same reason again and again, or are on their way.
    #[arg(long)]
    force: bool,
    /// Changes nothing; says what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY", required_unless_present = "dry_run")]
    reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct EditArgs {
    /// The letter.
    id: Uuid,
    /// File with the new text of the field `data`; - is standard input.
    #[arg(long, value_name = "FILE", group = "change")]
    data_file: Option<PathBuf>,
    /// New fields as NAME=FILE, all of them but those named rb-…; - is standard input.
    #[arg(long = "field-file", value_name = "NAME=FILE", group = "change", value_parser = field)]
    fields: Vec<(String, PathBuf)>,
    /// Back to the original.
    #[arg(long, group = "change")]
    original: bool,
    /// Replays the letter at once.
    #[arg(long)]
    replay: bool,
    /// Replays it even when it is stuck.
    #[arg(long, requires = "replay")]
    force: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: String,
}

#[derive(Clone, Debug, Args)]
struct PurgeArgs {
    /// The letters; or name a filter, or --all.
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Every dead letter.
    #[arg(long)]
    all: bool,
    /// Deletes; without it nothing is changed. Letters that are named need it.
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    reason: Option<String>,
}

const ONE_CHANGE: Usage = Usage("give one of --data-file, --field-file and --original");
const NOT_SURE: Usage =
    Usage("nothing was purged: add --yes (and --reason) to delete the named letters for good");

impl What {
    /// # Errors
    /// When the words do not say which letters, or which change, or that named letters are to go.
    fn check(&self) -> Result<(), Usage> {
        match self {
            Self::Replay(it) => wanted(&it.ids, &it.filter, it.all).map(drop),
            Self::Purge(it) => match wanted(&it.ids, &it.filter, it.all)? {
                Wanted::Ids(_) if !it.yes => Err(NOT_SURE),
                Wanted::Ids(_) | Wanted::Matching(_) => Ok(()),
            },
            Self::Edit(it) if it.data_file.is_none() && it.fields.is_empty() && !it.original => {
                Err(ONE_CHANGE)
            }
            Self::Edit(_) | Self::List { .. } | Self::Show { .. } | Self::Export { .. } => Ok(()),
        }
    }
}

/// Does what is asked.
///
/// # Errors
/// When the store cannot be reached, or the wish cannot be done.
pub async fn run(config: Config, args: DlqArgs, json: bool) -> Result<Ended> {
    args.what.check()?;
    let store = operator::store(&config, IfMissing::Refuse)?;
    let reached = store.db().ping().await;
    reached.context("the store cannot be reached")?;
    // The store says that it is the right folder; one of `ratebox cache` alone has no bus yet.
    let bus = operator::bus(&config, IfMissing::Make).await?;
    let tasks = Tasks::new();
    let broker = Arc::new(StreamBroker::new(bus.log.clone(), []));
    let outbox = Outbox::new(
        store.db().clone(),
        broker,
        config.outbox.settings(&config.bus),
        &tasks,
    );
    let desk = Desk {
        letters: Letters::new(store, outbox),
        actor: super::actor(args.actor),
        json,
    };
    let done = desk.act(args.what).await;
    // Whoever still holds an outbox keeps its sweeper waiting.
    drop(desk);
    tasks.join(Duration::from_secs(5)).await;
    done.map_err(|error| match error.downcast_ref() {
        Some(ratebox_operator::Error::Store(cause)) if operator::lacks_tables(cause) => {
            error.context(operator::LACKS_TABLES)
        }
        _ => error,
    })
}

struct Desk {
    letters: Letters,
    actor: String,
    json: bool,
}

impl Desk {
    async fn act(&self, what: What) -> Result<Ended> {
        match what {
            What::List { filter, limit } => self.list(&filter, limit).await,
            What::Show { id, unmask } => self.show(id, &unmask).await,
            What::Replay(args) => self.replay(args).await,
            What::Edit(args) => self.edit(args).await,
            What::Purge(args) => self.purge(args).await,
            What::Export {
                filter,
                out,
                unmask,
            } => self.export(&filter, out, &unmask).await,
        }
    }

    async fn list(&self, filter: &FilterArgs, limit: u32) -> Result<Ended> {
        let heads = self.letters.list(&filter.filter(), limit).await?;
        let is_full = u32::try_from(heads.len()).is_ok_and(|count| count == limit);
        let next = heads.last().filter(|_| is_full).map(|last| last.id);
        if self.json {
            let letters: Vec<Value> = heads.iter().map(letter_head).collect();
            say!("{}", json!({ "letters": letters, "next": next }));
        } else {
            print(format_args!("{}", text::list(&heads)));
            if let Some(next) = next {
                hint!("there may be more: --cursor {next}");
            }
        }
        Ok(Ended::Well)
    }

    async fn show(&self, id: Uuid, unmask: &Unmask) -> Result<Ended> {
        let shown = self.letters.show(id).await?;
        let payload = self.payload(unmask, id.to_string()).await?;
        let shown = letter_shown(&shown, payload);
        if self.json {
            say!("{shown}");
        } else {
            print(format_args!("{}", text::letter(&shown)));
        }
        Ok(Ended::Well)
    }

    async fn replay(&self, args: ReplayArgs) -> Result<Ended> {
        let plan = ReplayPlan {
            wanted: wanted(&args.ids, &args.filter, args.all)?,
            max: args.max,
            per_second: args.rate,
            force: args.force,
            dry_run: args.dry_run,
            time_max: None,
        };
        let by = self.by(args.reason.as_deref().unwrap_or("dry run"))?;
        self.carry_out(&plan, &by).await
    }

    async fn carry_out(&self, plan: &ReplayPlan, by: &By) -> Result<Ended> {
        let bar = ProgressBar::new_spinner();
        let progress = |done| {
            bar.set_position(done);
            bar.set_message(format!("{done} replayed"));
        };
        let outcome = self.letters.replay(plan, by, progress).await?;
        bar.finish_and_clear();
        if self.json {
            say!("{}", text::replayed_json(&outcome, plan.dry_run));
        } else {
            print(format_args!("{}", text::replayed(&outcome, plan.dry_run)));
        }
        let all = outcome.refused == 0 && outcome.next.is_none();
        Ok(if all { Ended::Well } else { Ended::Found })
    }

    async fn edit(&self, args: EditArgs) -> Result<Ended> {
        let change = match (&args.data_file, args.fields.is_empty(), args.original) {
            (Some(file), true, false) => Change::Data(read(file)?),
            (None, false, false) => Change::Fields(fields(&args.fields)?),
            (None, true, true) => Change::Original,
            _ => bail!(ONE_CHANGE),
        };
        let by = self.by(&args.reason)?;
        self.letters.edit(args.id, change, &by).await?;
        if args.replay {
            let plan = ReplayPlan {
                wanted: Wanted::Ids(vec![args.id]),
                max: 1,
                per_second: 100,
                force: args.force,
                dry_run: false,
                time_max: None,
            };
            return self.carry_out(&plan, &by).await;
        }
        if self.json {
            say!("{}", json!({ "edited": args.id }));
        } else {
            say!("edited; `ratebox dlq replay {}` sends it", args.id);
        }
        Ok(Ended::Well)
    }

    async fn purge(&self, args: PurgeArgs) -> Result<Ended> {
        let filter = match wanted(&args.ids, &args.filter, args.all)? {
            Wanted::Matching(filter) => filter,
            Wanted::Ids(ids) => {
                ensure!(args.yes, NOT_SURE);
                let ids: BTreeSet<Uuid> = ids.into_iter().collect();
                let count = ids.len();
                let by = self.by(args.reason.as_deref().unwrap_or_default())?;
                for id in ids {
                    self.letters.purge_one(id, &by).await?;
                }
                return self.say_purged(count as u64, false, 0);
            }
        };
        let would = self.letters.would_purge(&filter).await?;
        if !args.yes {
            return self.say_purged(would.matched, true, would.bytes);
        }
        let by = self.by(args.reason.as_deref().unwrap_or_default())?;
        let done = self.letters.purge(&filter, would.matched, &by).await?;
        self.say_purged(done.purged, false, done.bytes)
    }

    fn say_purged(&self, count: u64, dry_run: bool, bytes: u64) -> Result<Ended> {
        if self.json {
            let key = if dry_run { "matched" } else { "purged" };
            say!(
                "{}",
                json!({ "dry_run": dry_run, key: count, "bytes": bytes })
            );
        } else if dry_run {
            say!("{count} letters match, {bytes} bytes; --yes deletes them for good");
        } else {
            say!("{count} letters purged");
        }
        Ok(Ended::Well)
    }

    async fn export(
        &self,
        filter: &FilterArgs,
        out: Option<PathBuf>,
        unmask: &Unmask,
    ) -> Result<Ended> {
        let payload = self.payload(unmask, "dead_letters".to_owned()).await?;
        let mut file: Box<dyn std::io::Write + Send> = match &out {
            Some(path) => Box::new(
                super::private_file(path)
                    .with_context(|| format!("cannot write {}", path.display()))?,
            ),
            None => Box::new(Out),
        };
        let take = |line: String| writeln!(file, "{line}");
        let count = self.letters.export(&filter.filter(), payload, take).await?;
        file.flush()?;
        hint!("{count} letters exported");
        Ok(Ended::Well)
    }

    async fn payload(&self, unmask: &Unmask, subject: String) -> Result<Payload> {
        if !unmask.unmask {
            return Ok(Payload::Masked);
        }
        let by = self.by(unmask.reason.as_deref().unwrap_or_default())?;
        self.letters.note_unmasking(subject, &by).await?;
        Ok(Payload::Plain)
    }

    fn by(&self, reason: &str) -> Result<By> {
        Ok(By::new(self.actor.clone(), reason)?)
    }
}

/// The letters that are named, or what they must match; never all of them because nothing is said.
fn wanted(ids: &[Uuid], filter: &FilterArgs, all: bool) -> Result<Wanted, Usage> {
    match (ids.is_empty(), all || filter.is_given()) {
        (false, false) => Ok(Wanted::Ids(ids.to_vec())),
        (true, true) => Ok(Wanted::Matching(filter.filter())),
        (true, false) | (false, true) => Err(Usage("name either letters, or a filter, or --all")),
    }
}

/// A field's name and the file with its text.
fn field(text: &str) -> Result<(String, PathBuf), &'static str> {
    let (name, file) = text.split_once('=').ok_or("a field is NAME=FILE")?;
    Ok((name.to_owned(), PathBuf::from(file)))
}

fn fields(given: &[(String, PathBuf)]) -> Result<Vec<(String, Bytes)>> {
    let one = |(name, file): &(String, PathBuf)| Ok((name.clone(), read(file)?));
    given.iter().map(one).collect()
}

/// A file, or standard input; one line end after the last line is not part of a text.
fn read(file: &PathBuf) -> Result<Bytes> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        let opened = std::fs::read(file);
        bytes = opened.with_context(|| format!("cannot read {}", file.display()))?;
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes.into())
}
