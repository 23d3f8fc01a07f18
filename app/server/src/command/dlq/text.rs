//! Letters and what was done with them, for people.

use std::fmt::Write as _;

use ratebox_operator::ReplayOutcome;
use ratebox_store::{LetterHead, Refusal};
use serde_json::{Value, json};

use super::super::figures::grouped;
use crate::visible::visible;

/// One line a letter.
pub(super) fn list(heads: &[LetterHead]) -> String {
    if heads.is_empty() {
        return "no dead letters match\n".to_owned();
    }
    let mut text = format!(
        "{:<36}  {:<20}  {:<9}  {:<22}  {:>5}  {:>7}  {:<8}  owner\n",
        "id", "died", "class", "code", "fails", "replays", "state"
    );
    for head in heads {
        let _ = writeln!(
            text,
            "{}  {:<20}  {:<9}  {:<22}  {:>5}  {:>7}  {:<8}  {}",
            head.id,
            head.last_failed_at
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            head.class.as_str(),
            visible(&head.code),
            head.fail_count,
            head.replay_count,
            head.state.as_str(),
            visible(head.owner.as_deref().unwrap_or("-")),
        );
    }
    text
}

/// Everything of a letter, as [`ratebox_operator::letter_shown`] gives it.
pub(super) fn letter(shown: &Value) -> String {
    let mut text = String::new();
    let lists = ["attempts", "fields", "edited_fields", "deeds"];
    for (name, value) in shown.as_object().into_iter().flatten() {
        if !lists.contains(&name.as_str()) {
            let _ = writeln!(text, "{name:<16} {}", plain(value));
        }
    }
    for list in lists {
        let entries = shown[list].as_array();
        let Some(entries) = entries.filter(|entries| !entries.is_empty()) else {
            continue;
        };
        let _ = writeln!(text, "\n{}", list.replace('_', " ").to_uppercase());
        for entry in entries {
            let _ = writeln!(text, "  {}", line(entry));
        }
    }
    text
}

fn line(entry: &Value) -> String {
    let part = |name: &str| plain(&entry[name]);
    if entry.get("text").is_some() || entry.get("base64").is_some() {
        let value = if entry["text"].is_null() {
            "base64"
        } else {
            "text"
        };
        return format!("{:<16} {}", part("name"), part(value));
    }
    if entry.get("action").is_some() {
        let (at, action) = (part("at"), part("action"));
        return format!("{at}  {action} by {}: {}", part("actor"), part("reason"));
    }
    let (at, code) = (part("at"), part("code"));
    format!("{at}  {}  {code}: {}", part("consumer"), part("error"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => visible(text).into_owned(),
        other => other.to_string(),
    }
}

/// What became of a replay.
pub(super) fn replayed(outcome: &ReplayOutcome, dry_run: bool) -> String {
    let mut text = String::new();
    let verb = if dry_run {
        "would be replayed"
    } else {
        "replayed"
    };
    let _ = writeln!(
        text,
        "{} match, {} {verb}, {} refused",
        grouped(outcome.matched),
        grouped(outcome.replayed),
        grouped(outcome.refused)
    );
    if !dry_run && outcome.published < outcome.replayed {
        let left = outcome.replayed - outcome.published;
        let _ = writeln!(text, "{} are left to the relay to publish", grouped(left));
    }
    for (id, why) in &outcome.refusals {
        let _ = writeln!(text, "  {id} {}", why.as_str());
    }
    let named = outcome.refusals.len() as u64;
    if named > 0 && outcome.refused > named {
        let _ = writeln!(text, "  and {} more", grouped(outcome.refused - named));
    }
    if would_go_by_force(outcome) {
        text.push_str("--force replays those that are stuck or on their way\n");
    }
    if let Some(next) = outcome.next {
        let _ = writeln!(text, "there is more: --cursor {next}");
    }
    text
}

/// Whether some were refused that `--force` replays. A dry run of a filter names none of those that
/// it counts.
fn would_go_by_force(outcome: &ReplayOutcome) -> bool {
    let by_force = |why: Refusal| match why {
        Refusal::Stuck | Refusal::OnItsWay => true,
        Refusal::Unknown | Refusal::Resolved | Refusal::QueuedWrite => false,
    };
    let named = &outcome.refusals;
    outcome.refused > 0 && (named.is_empty() || named.iter().any(|(_, why)| by_force(*why)))
}

/// The same for scripts.
pub(super) fn replayed_json(outcome: &ReplayOutcome, dry_run: bool) -> Value {
    let refusals = outcome.refusals.iter();
    json!({
        "dry_run": dry_run,
        "matched": outcome.matched,
        "replayed": outcome.replayed,
        "published": outcome.published,
        "refused": outcome.refused,
        "refusals": refusals
            .map(|(id, why)| json!({ "id": id, "why": why.as_str() }))
            .collect::<Vec<_>>(),
        "next": outcome.next,
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn outcome(refused: u64, refusals: &[Refusal]) -> ReplayOutcome {
        let named = |why: &Refusal| (Uuid::nil(), *why);
        ReplayOutcome {
            matched: 2,
            replayed: 2 - refused,
            published: 2 - refused,
            refused,
            refusals: refusals.iter().map(named).collect(),
            ..ReplayOutcome::default()
        }
    }

    #[test]
    fn a_replay_that_needs_force_names_it() {
        assert_eq!(
            replayed(&outcome(1, &[Refusal::Stuck]), false),
            "2 match, 1 replayed, 1 refused
  00000000-0000-0000-0000-000000000000 stuck
--force replays those that are stuck or on their way
"
        );
        for (outcome, names_it) in [
            (outcome(1, &[Refusal::OnItsWay]), true),
            (outcome(2, &[Refusal::Unknown, Refusal::Stuck]), true),
            (outcome(1, &[]), true),
            (outcome(1, &[Refusal::Unknown]), false),
            (outcome(1, &[Refusal::Resolved]), false),
            (outcome(1, &[Refusal::QueuedWrite]), false),
            (outcome(0, &[]), false),
        ] {
            let text = replayed(&outcome, true);
            assert_eq!(text.contains("--force"), names_it, "{text}");
        }
    }
}
