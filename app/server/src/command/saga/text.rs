//! Sagas for people.

use std::fmt::Write as _;

use ratebox_saga::{Count, Head};
use serde_json::Value;

use super::super::figures::grouped;

/// One line a saga, and how many there are of each kind.
pub(super) fn list(heads: &[Head], counts: &[Count]) -> String {
    let mut text = String::new();
    if heads.is_empty() {
        text.push_str("no sagas match\n");
    } else {
        let _ = writeln!(
            text,
            "{:<36}  {:<20}  {:<24}  {:<16}  error",
            "id", "started", "definition", "status"
        );
    }
    for head in heads {
        let _ = writeln!(
            text,
            "{}  {:<20}  {:<24}  {:<16}  {}",
            head.id,
            head.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            head.definition,
            head.status.as_str(),
            head.error.as_deref().unwrap_or("-"),
        );
    }
    if !counts.is_empty() {
        text.push_str("\nALL SAGAS\n");
    }
    for count in counts {
        let _ = writeln!(
            text,
            "  {:<24}  {:<16}  {:>12}",
            count.definition,
            count.status.as_str(),
            grouped(count.sagas)
        );
    }
    text
}

/// Everything of a saga, as [`ratebox_operator::saga_shown`] gives it.
pub(super) fn saga(shown: &Value) -> String {
    let mut text = String::new();
    let lists = ["steps", "records", "letters", "deeds"];
    for (name, value) in shown.as_object().into_iter().flatten() {
        if !lists.contains(&name.as_str()) {
            let _ = writeln!(text, "{name:<12} {}", plain(value));
        }
    }
    let lines: [fn(&Value) -> String; 4] = [step, record, letter, deed];
    for (list, line) in lists.into_iter().zip(lines) {
        let entries = shown[list].as_array();
        let Some(entries) = entries.filter(|entries| !entries.is_empty()) else {
            continue;
        };
        let _ = writeln!(text, "\n{}", list.to_uppercase());
        for entry in entries {
            let _ = writeln!(text, "  {}", line(entry).trim_end());
        }
    }
    text
}

fn step(step: &Value) -> String {
    let took = step["took_us"].as_u64().unwrap_or(0);
    let took = match took {
        0 => String::new(),
        us => format!("{}.{:03} ms", us / 1_000, us % 1_000),
    };
    let items = match (
        step["items"]["done"].as_u64(),
        step["items"]["all"].as_u64(),
    ) {
        (Some(done), Some(all)) => format!("{done} of {all}"),
        _ => String::new(),
    };
    let error = step["error"].as_str().unwrap_or_default();
    format!(
        "{:<24} {:<9} {:>12} {items:<12} {error}",
        plain(&step["name"]),
        plain(&step["state"]),
        took
    )
}

fn record(record: &Value) -> String {
    let part = |name: &str| plain(&record[name]);
    let who = record["who"].as_str().map(|who| format!(" by {who}"));
    let note = record["note"].as_str().unwrap_or_default();
    format!(
        "{:>4} {}  {:<24} {:<11}{} {note}",
        part("seq"),
        part("at"),
        part("step"),
        part("kind"),
        who.unwrap_or_default()
    )
}

fn letter(letter: &Value) -> String {
    let part = |name: &str| plain(&letter[name]);
    format!(
        "{}  {} {} by {}: {}",
        part("at"),
        part("verb"),
        part("subject"),
        part("who"),
        part("why")
    )
}

fn deed(deed: &Value) -> String {
    let part = |name: &str| plain(&deed[name]);
    format!(
        "{}  {} by {}: {}",
        part("at"),
        part("action"),
        part("actor"),
        part("reason")
    )
}

/// What a definition takes, as [`ratebox_operator::saga_foreseen`] gives it.
pub(super) fn foreseen(shown: &Value) -> String {
    let mut text = String::new();
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten();
        words.map(plain).collect::<Vec<_>>()
    };
    let _ = writeln!(
        text,
        "{} version {}\n",
        plain(&shown["definition"]),
        plain(&shown["version"])
    );
    for (at, layer) in shown["layers"].as_array().into_iter().flatten().enumerate() {
        let _ = writeln!(text, "layer {at:<3} {}", words(layer).join(", "));
    }
    let _ = writeln!(
        text,
        "\ncritical path  {}",
        words(&shown["critical_path"]).join(" → ")
    );
    let ms = |name: &str| shown[name].as_f64().unwrap_or(0.0);
    let _ = writeln!(text, "takes          {:.3} ms", ms("takes_ms"));
    let _ = writeln!(text, "all steps      {:.3} ms", ms("work_ms"));
    let _ = writeln!(text, "at once        {}", plain(&shown["width"]));
    let steps = shown["steps_ms"].as_object();
    if steps.is_none_or(serde_json::Map::is_empty) {
        text.push_str("\nno saga of it completed yet: --takes STEP=MS says what steps take\n");
    }
    text
}

/// One line a definition.
pub(super) fn definitions(all: &[Value]) -> String {
    if all.is_empty() {
        return "no process has told the journal of a definition yet\n".to_owned();
    }
    let mut text = String::new();
    for it in all {
        let steps = it["steps"].as_array().map_or(0, Vec::len);
        let _ = writeln!(
            text,
            "{:<24} version {:<4} {} {steps} steps",
            plain(&it["name"]),
            plain(&it["version"]),
            plain(&it["hash"])
        );
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
