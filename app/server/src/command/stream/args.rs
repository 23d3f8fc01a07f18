//! What `ratebox stream` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::moment::span;
use super::when::When;
use crate::cli::{ServerArgs, Usage};

/// What to do with streams.
#[derive(Clone, Debug, Args)]
pub struct StreamArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Name in the audit log; the user of this session when it is left out.
    #[arg(long = "as", global = true, value_name = "NAME")]
    pub(super) actor: Option<String>,
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum What {
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

impl What {
    /// # Errors
    /// When nothing says what a trim is to keep, or a pause is to have no time.
    pub(super) fn check(&self) -> Result<(), Usage> {
        match self {
            Self::Trim(it)
                if it.max_age.is_none() && it.max_len.is_none() && it.max_bytes.is_none() =>
            {
                Err(Usage(
                    "say what to keep: --max-age, --max-len or --max-bytes",
                ))
            }
            Self::Pause(it) if it.time.is_some_and(|time| time.is_zero()) => Err(Usage(
                "a pause takes time; `ratebox stream resume` ends one",
            )),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct PeekArgs {
    /// The stream, or a lane of the requests: high, normal or low.
    pub(super) stream: String,
    /// First entry: an id, a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long, default_value = "0-0")]
    pub(super) from: When,
    /// Entries at most.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    #[command(flatten)]
    pub(super) unmask: Unmask,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Unmask {
    /// Shows payloads as they are; needs --reason.
    #[arg(long, requires = "reason")]
    pub(super) unmask: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    pub(super) reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ClaimArgs {
    /// The consumer.
    pub(super) consumer: String,
    /// Its group; that of the settings when it is left out.
    #[arg(long)]
    pub(super) group: Option<String>,
    /// Even if it was seen lately; what it works on is worked on twice then.
    #[arg(long)]
    pub(super) force: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    pub(super) reason: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct TrimArgs {
    /// The streams, or lanes of the requests: high, normal or low.
    #[arg(required = true)]
    pub(super) streams: Vec<String>,
    /// Removes what is older, such as 30d, 12h or 15m.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(super) max_age: Option<Duration>,
    /// Keeps so many entries.
    #[arg(long, value_name = "N")]
    pub(super) max_len: Option<u64>,
    /// Keeps about so many bytes.
    #[arg(long, value_name = "N")]
    pub(super) max_bytes: Option<u64>,
    /// Does not wait for this group: nobody reads it any more. Repeat for several.
    #[arg(long = "ignore-group", value_name = "GROUP")]
    pub(super) ignored: Vec<String>,
    /// Waits for no group: unread and unacknowledged entries are lost.
    #[arg(long)]
    pub(super) force: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    pub(super) reason: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    /// The new group.
    #[arg(long)]
    pub(super) group: String,
    /// First entry: an id, a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long)]
    pub(super) from: When,
    /// The streams; all lanes of the requests when they are left out.
    pub(super) streams: Vec<String>,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    pub(super) reason: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    pub(super) whose: Whose,
    /// Ends by itself after this time, such as 15m or 2h.
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    pub(super) time: Option<Duration>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    pub(super) whose: Whose,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Whose {
    /// Only this group; all groups of the requests when it is left out.
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<String>,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    pub(super) reason: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ExportArgs {
    /// The stream, or a lane of the requests: high, normal or low.
    pub(super) stream: String,
    /// First entry: an id, a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long, default_value = "0-0")]
    pub(super) from: When,
    /// Stops before this entry or time; takes what --from takes.
    #[arg(long)]
    pub(super) until: Option<When>,
    /// File to write; standard output when it is left out.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) unmask: Unmask,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ImportArgs {
    /// The stream, or a lane of the requests: high, normal or low.
    pub(super) stream: String,
    /// The export; - is standard input.
    pub(super) file: PathBuf,
    /// Entries without an id of their own become new messages; otherwise an entry that is
    /// imported twice is judged once.
    #[arg(long)]
    pub(super) as_new: bool,
    /// Why; goes into the audit log.
    #[arg(long, value_name = "WHY")]
    pub(super) reason: String,
}
