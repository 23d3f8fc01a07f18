//! Sagas as JSON: the same for HTTP, command line and console. What a saga carries (its input, its
//! output, results of steps) is masked unless somebody is to see it.

use bytes::Bytes;
use ratebox_saga::{Count, Head, Letter, Outline, Record, StepView, Wake};
use serde_json::{Map, Value, json};

use super::{BulkOutcome, Foreseen, SagaSeen};
use crate::Payload;
use crate::view::deed;

/// A saga without what it carries.
pub fn saga_head(head: &Head) -> Value {
    let due = match head.wake {
        Wake::At(time) if !head.status.is_end() => Some(time),
        Wake::At(_) | Wake::Live | Wake::Letter => None,
    };
    json!({
        "id": head.id,
        "definition": &*head.definition,
        "version": head.version,
        "hash": &*head.hash,
        "key": head.key,
        "parent": head.parent.as_ref().map(|it| json!({ "id": it.saga, "step": it.step })),
        "status": head.status.as_str(),
        "error": head.error,
        "due": due,
        "owner": head.owner.map(|it| it.epoch),
        "created_at": head.created_at,
        "updated_at": head.updated_at,
        "ended_at": head.ended_at,
    })
}

/// How many sagas there are, by definition and status.
pub fn saga_counts(counts: &[Count]) -> Value {
    let one = |it: &Count| json!({ "definition": it.definition, "status": it.status.as_str(), "count": it.sagas });
    counts.iter().map(one).collect()
}

/// What an order about many came to.
pub fn saga_ordered(outcome: &BulkOutcome) -> Value {
    let refused = outcome.refused.iter();
    let refused: Vec<Value> = refused
        .map(|(id, why)| json!({ "id": id, "why": why }))
        .collect();
    json!({
        "matched": outcome.matched, "posted": outcome.posted, "refused": refused,
        "next": outcome.next,
    })
}

/// A saga with its steps, records, unanswered letters and deeds.
pub fn saga_shown(seen: &SagaSeen, payload: Payload) -> Value {
    let mut value = saga_head(&seen.stored.head);
    let carried = |bytes: Option<&Bytes>| carried(bytes, payload);
    let view = seen.view.as_ref();
    let steps = view.map(|it| it.steps.iter().map(step).collect::<Vec<_>>());
    let records = seen.stored.records.iter();
    let letters = seen.stored.letters.iter();
    let parts = [
        ("input", carried(Some(&seen.stored.head.input))),
        ("output", carried(seen.stored.head.output.as_ref())),
        ("steps", steps.into()),
        ("records", records.map(|it| record(it, payload)).collect()),
        ("letters", letters.map(|it| letter(it, payload)).collect()),
        ("deeds", seen.deeds.iter().map(deed).collect()),
    ];
    if let Value::Object(object) = &mut value {
        object.extend(parts.map(|(name, part)| (name.to_owned(), part)));
    }
    value
}

fn step(step: &StepView) -> Value {
    let items = step
        .items
        .map(|(done, all)| json!({ "done": done, "all": all }));
    json!({
        "name": step.name,
        "state": step.state.as_str(),
        "attempts": step.attempts,
        "took_us": step.took_us,
        "items": items,
        "error": step.error,
        "after": step.after,
        "pivot": step.pivot,
        "undo": step.undo,
    })
}

fn record(record: &Record, payload: Payload) -> Value {
    json!({
        "seq": record.seq,
        "at": record.at,
        "step": &*record.step,
        "item": record.item,
        "kind": record.kind.as_str(),
        "class": record.class.map(|it| it.as_str()),
        "attempt": record.attempt,
        "took_us": record.took_us,
        "due": record.due,
        "note": record.note,
        "who": record.who,
        "payload": carried(record.payload.as_ref(), payload),
    })
}

fn letter(letter: &Letter, payload: Payload) -> Value {
    json!({
        "id": letter.id,
        "at": letter.at,
        "verb": letter.verb,
        "subject": letter.subject,
        "who": letter.who,
        "why": letter.why,
        "payload": carried(letter.payload.as_ref(), payload),
    })
}

/// JSON as it is, or only its structure.
fn carried(bytes: Option<&Bytes>, payload: Payload) -> Value {
    let value = bytes.and_then(|it| serde_json::from_slice(it).ok());
    match (value, payload) {
        (None, _) | (_, Payload::Hidden) => Value::Null,
        (Some(value), Payload::Plain) => value,
        (Some(value), Payload::Masked) => masked(value),
    }
}

/// Names stay, values do not: any of them may be personal.
fn masked(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(_) | Value::String(_) => "***".into(),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, it)| (name, masked(it)));
            Value::Object(fields.collect())
        }
    }
}

/// A definition with its drawing.
pub fn saga_definition(outline: &Outline) -> Value {
    json!({
        "name": outline.name(),
        "version": outline.version(),
        "hash": outline.hash(),
        "steps": outline.steps().collect::<Vec<_>>(),
        "mermaid": outline.mermaid(),
    })
}

/// What a definition would take.
pub fn saga_foreseen(foreseen: &Foreseen) -> Value {
    let dry = &foreseen.dry_run;
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1_000.0;
    let takes = foreseen.takes.iter();
    let takes: Map<String, Value> = takes
        .map(|(step, time)| (step.clone(), ms(*time).into()))
        .collect();
    json!({
        "definition": foreseen.outline.name(),
        "version": foreseen.outline.version(),
        "hash": foreseen.outline.hash(),
        "layers": dry.layers,
        "critical_path": dry.critical_path,
        "takes_ms": ms(dry.takes),
        "work_ms": ms(dry.work),
        "width": dry.width,
        "steps_ms": takes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_values_keep_names_and_structure_only() {
        let json = br#"{"phone":"0909123456","n":[1,{"name":"An"}],"ok":true}"#;
        let shown = carried(Some(&Bytes::from_static(json)), Payload::Masked);
        assert_eq!(
            shown,
            json!({ "phone": "***", "n": ["***", { "name": "***" }], "ok": true })
        );
        let plain = carried(Some(&Bytes::from_static(b"\"An\"")), Payload::Plain);
        assert_eq!(plain, json!("An"));
        assert_eq!(
            carried(Some(&Bytes::from_static(b"1")), Payload::Hidden),
            Value::Null
        );
    }
}
