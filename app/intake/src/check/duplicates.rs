//! What repeats an earlier item of the same request. Compared by normal form, so `0912 345 678` repeats `+84912345678`.

use std::collections::HashMap;

use crate::code::{self, Code};
use crate::finding::Params;
use crate::item::Item;
use crate::verdict::{Normalized, Verdict};

/// Adds the duplicates to the verdicts of one request. The whole record counts before its single fields:
/// a record that repeats another in all four fields is 520, and not 180, 280 and 380 as well.
pub(super) fn check(items: &[Item], verdicts: &mut [Verdict]) {
    if items.len() < 2 {
        return;
    }
    let mut repeats = repeated_records(items);
    let whole: Vec<usize> = repeats.iter().map(|repeat| repeat.at).collect();
    for kind in KINDS {
        repeated_values(kind, verdicts, &whole, &mut repeats);
    }
    repeats.sort_by_key(|repeat| (repeat.at, repeat.code.number));
    for repeat in repeats {
        if let Some(verdict) = verdicts.get_mut(repeat.at) {
            verdict.add(
                repeat.code,
                Params::default().number("first_item_no", repeat.first),
            );
        }
    }
}

struct Repeat {
    at: usize,
    first: usize,
    code: &'static Code,
}

/// One field that people are looked up by.
struct Kind {
    code: &'static Code,
    value: fn(&Normalized) -> Option<&String>,
}

static KINDS: &[Kind] = &[
    Kind {
        code: &code::PHONE_DUPLICATE,
        value: |normal| normal.phone.as_ref(),
    },
    Kind {
        code: &code::BANK_DUPLICATE,
        value: |normal| normal.bank_account.as_ref(),
    },
    Kind {
        code: &code::EMAIL_DUPLICATE,
        value: |normal| normal.email.as_ref(),
    },
];

/// Records whose four fields are the same, byte by byte.
fn repeated_records(items: &[Item]) -> Vec<Repeat> {
    let mut seen = HashMap::with_capacity(items.len());
    let mut repeats = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let fields = [item.phone(), item.bank_account(), item.email(), item.name()]
            .map(|field| field.text());
        if fields.iter().flatten().all(|text| text.is_empty()) {
            continue;
        }
        let first = *seen.entry(fields).or_insert(at);
        if first != at {
            repeats.push(Repeat {
                at,
                first,
                code: &code::RECORD_DUPLICATE,
            });
        }
    }
    repeats
}

/// Values of one field that were there before, but for the records that are repeats as a whole.
fn repeated_values(kind: &Kind, verdicts: &[Verdict], whole: &[usize], repeats: &mut Vec<Repeat>) {
    let mut seen = HashMap::with_capacity(verdicts.len());
    for (at, verdict) in verdicts.iter().enumerate() {
        let Some(value) = (kind.value)(&verdict.normalized) else {
            continue;
        };
        let first = *seen.entry(value.as_str()).or_insert(at);
        if first != at && whole.binary_search(&at).is_err() {
            repeats.push(Repeat {
                at,
                first,
                code: kind.code,
            });
        }
    }
}
