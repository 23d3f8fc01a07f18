//! Which letters: the flags that list, replay, purge and export share.

use clap::Args;
use ratebox_kit::{Clock, DeadLetterClass};
use ratebox_store::{DeadLetterFilter, LetterStates};
use uuid::Uuid;

use super::super::moment::Moment;

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
    /// Died then or later: a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Died before then: a time, or how long ago.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
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
        let now = Clock::system().now();
        DeadLetterFilter {
            states: self.state,
            class: self.class,
            code: self.code.clone(),
            stream: self.stream.clone(),
            owner: self.owner.clone(),
            message_id: self.message_id.clone(),
            from: self.from.map(|it| it.time(now)),
            until: self.until.map(|it| it.time(now)),
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        filter: FilterArgs,
    }

    #[test]
    fn a_letter_s_death_is_named_by_a_time_or_by_how_long_ago() {
        let words = ["", "--from", "2h", "--until", "2026-01-31T12:00:00Z"];
        let words = Words::try_parse_from(words).unwrap();
        assert!(words.filter.is_given());
        let filter = words.filter.filter();
        let ago = Clock::system().now().duration_since(filter.from.unwrap());
        assert!((7_200..7_260).contains(&ago.as_secs()), "{ago:?}");
        assert_eq!(filter.until, "2026-01-31T12:00:00Z".parse().ok());
        assert!(Words::try_parse_from(["", "--from", "soon"]).is_err());
    }
}
