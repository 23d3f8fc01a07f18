//! Which letters: the flags that list, replay, purge and export share.

use clap::Args;
use ratebox_kit::{DeadLetterClass, Timestamp};
use ratebox_store::{DeadLetterFilter, LetterStates};
use uuid::Uuid;

/// Which letters.
#[derive(Clone, Debug, Default, Args)]
pub struct FilterArgs {
    /// dead (waits for an operator), stuck, replayed or any.
    #[arg(long, default_value = "dead", value_parser = states)]
    state: LetterStates,
    /// transient, permanent, malformed, expired or poison.
    #[arg(long, value_parser = class)]
    class: Option<DeadLetterClass>,
    /// Code of the last error.
    #[arg(long)]
    code: Option<String>,
    /// Stream it was read from.
    #[arg(long)]
    stream: Option<String>,
    /// Account it belongs to.
    #[arg(long)]
    owner: Option<String>,
    /// The message's own id.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Died at this time or later, as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Died before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only older than this letter.
    #[arg(long, value_name = "ID")]
    cursor: Option<Uuid>,
}

impl FilterArgs {
    /// Whether anything but the default is asked for.
    pub(super) fn is_given(&self) -> bool {
        let texts = [&self.code, &self.stream, &self.owner, &self.message_id];
        self.state != LetterStates::Dead
            || self.class.is_some()
            || texts.into_iter().any(Option::is_some)
            || self.from.is_some()
            || self.until.is_some()
            || self.cursor.is_some()
    }

    /// As the store takes it.
    pub(super) fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            states: self.state,
            class: self.class,
            code: self.code.clone(),
            stream: self.stream.clone(),
            owner: self.owner.clone(),
            message_id: self.message_id.clone(),
            from: self.from,
            until: self.until,
            before: self.cursor,
        }
    }
}

fn states(word: &str) -> Result<LetterStates, String> {
    let states = LetterStates::parse(word);
    states.ok_or_else(|| "must be dead, stuck, replayed or any".to_owned())
}

fn class(word: &str) -> Result<DeadLetterClass, String> {
    let class = DeadLetterClass::parse(word);
    class.ok_or_else(|| "must be transient, permanent, malformed, expired or poison".to_owned())
}
