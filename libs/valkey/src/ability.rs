//! What a server can do beyond Redis 7.0, which is all that the bus needs.

use std::fmt;

use redis::{Value, cmd, pipe};

use crate::{Error, Valkey};

/// Something that came after Redis 7.0. Nothing relies on it; where it is present, work may be
/// done with less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// `WAITAOF` (7.2): waits until writes are on disk.
    WaitAof,
    /// `XACKDEL` (8.2): acknowledges and deletes in one step.
    AckDel,
    /// `XREADGROUP … CLAIM` (8.4): takes over what is idle with the read.
    ReadClaim,
    /// `XADD … IDMP` (8.6): an append that is repeated is stored once.
    IdempotentAdd,
    /// `XNACK` (8.8): hands an entry back.
    Nack,
}

impl Ability {
    /// Every one, oldest first.
    pub const ALL: [Self; 5] = [
        Self::WaitAof,
        Self::AckDel,
        Self::ReadClaim,
        Self::IdempotentAdd,
        Self::Nack,
    ];

    /// The command, and the word of its arguments where the command is older.
    fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::WaitAof => ("WAITAOF", None),
            Self::AckDel => ("XACKDEL", None),
            Self::ReadClaim => ("XREADGROUP", Some("CLAIM")),
            Self::IdempotentAdd => ("XADD", Some("IDMP")),
            Self::Nack => ("XNACK", None),
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            (command, Some(word)) => write!(f, "{command} {word}"),
            (command, None) => f.write_str(command),
        }
    }
}

impl Valkey {
    /// Asks the server which of [`Ability::ALL`] it has; of a cluster, what every primary has.
    ///
    /// # Errors
    /// When the server does not answer, or does not let its user ask (`COMMAND INFO`,
    /// `COMMAND DOCS`).
    pub async fn abilities(&self) -> Result<Vec<Ability>, Error> {
        let mut asked = pipe();
        for ability in Ability::ALL {
            let (command, word) = ability.words();
            let mut ask = cmd("COMMAND");
            ask.arg(if word.is_some() { "DOCS" } else { "INFO" });
            asked.add_command(ask.arg(command).clone());
        }
        let mut abilities = Ability::ALL.to_vec();
        for answers in self.everywhere(&asked).await? {
            for (ability, answer) in Ability::ALL.into_iter().zip(answers) {
                if !tells_of(&answer?, ability.words().1) {
                    abilities.retain(|other| *other != ability);
                }
            }
        }
        Ok(abilities)
    }
}

/// Whether an answer says that there is the command, with the word somewhere in its arguments.
fn tells_of(answer: &Value, word: Option<&str>) -> bool {
    match (answer, word) {
        (Value::Array(commands), None) => commands.iter().any(|it| *it != Value::Nil),
        (_, None) => false,
        (answer, Some(word)) => has_token(answer, word),
    }
}

/// Whether `token` is followed by the word somewhere.
fn has_token(value: &Value, word: &str) -> bool {
    let is = |value: &Value, text: &str| match value {
        Value::BulkString(bytes) => bytes.eq_ignore_ascii_case(text.as_bytes()),
        Value::SimpleString(simple) => simple.eq_ignore_ascii_case(text),
        _ => false,
    };
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .any(|(key, value)| (is(key, "token") && is(value, word)) || has_token(value, word)),
        Value::Array(items) | Value::Set(items) => {
            let mut pairs = items.iter().zip(items.iter().skip(1));
            pairs.any(|(key, value)| is(key, "token") && is(value, word))
                || items.iter().any(|item| has_token(item, word))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_command_is_there_when_it_is_described() {
        assert!(!tells_of(&Value::Array(vec![Value::Nil]), None));
        let described = Value::Array(vec![Value::Array(vec![text("waitaof")])]);
        assert!(tells_of(&described, None));
    }

    #[test]
    fn an_argument_is_found_in_both_protocols_and_not_in_a_summary() {
        let pairs = vec![
            (text("name"), text("claim")),
            (text("token"), text("CLAIM")),
        ];
        let flat = pairs.iter().flat_map(|(a, b)| [a.clone(), b.clone()]);
        let flat = Value::Array(vec![Value::Array(flat.collect())]);
        let nested = Value::Array(vec![Value::Map(pairs)]);
        let docs = Value::Map(vec![(text("arguments"), nested)]);
        assert!(tells_of(&docs, Some("CLAIM")) && tells_of(&flat, Some("CLAIM")));
        assert!(!tells_of(&docs, Some("IDMP")));
        let summary = Value::Map(vec![(text("summary"), text("CLAIM"))]);
        assert!(!tells_of(&summary, Some("CLAIM")));
    }
}
