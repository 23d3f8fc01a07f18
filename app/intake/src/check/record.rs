//! Checks on the record as a whole.

use crate::code;
use crate::finding::Params;
use crate::item::{Field, Item, JsonKind};
use crate::verdict::Verdict;

/// The record is no object: nothing else can be said about it.
pub(super) fn not_an_object(kind: JsonKind, verdict: &mut Verdict) {
    verdict.add(
        &code::RECORD_NOT_OBJECT,
        Params::default().text("got", kind.word()),
    );
}

/// Notices a record by which nobody can be found.
pub(super) fn check(item: &Item, verdict: &mut Verdict) {
    let nothing = |field: Field<'_>| matches!(field, Field::Absent | Field::Text(""));
    if nothing(item.phone()) && nothing(item.bank_account()) && nothing(item.email()) {
        verdict.note(&code::CROSS_NO_CONTACT);
    }
}
