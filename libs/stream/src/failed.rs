//! What ordered entries that failed carry with them. They stay pending in their place, so it is kept
//! with the partition's leases ([`crate::Ownership`]): attempts go on counting when the partition changes its owner.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::held::{Key, key};
use crate::retry::our_fields;
use crate::shared::Shared;
use crate::{Entry, Error, FailedEntry, FieldName, Ownership, stats};

/// The failures of a partition's pending entries.
#[derive(Debug, Default)]
pub(crate) struct Failed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Those of owners before us were asked for.
    learned: bool,
    entries: HashMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    fields: Vec<(FieldName, Bytes)>,
    /// Its entry was seen here, so it is still pending.
    seen: bool,
}

// === impl Failed ===

impl Failed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Shared ===

impl Shared {
    fn failed_in_line(&self) -> Option<(&Failed, &dyn Ownership)> {
        let alone = self.alone.as_ref()?;
        alone.lines.as_ref()?;
        Some((&alone.failed, alone.fence.ownership()))
    }

    /// Asks once what failed under owners before us.
    pub(crate) async fn learn_failures(&self) -> Result<(), Error> {
        let Some((failed, ownership)) = self.failed_in_line() else {
            return Ok(());
        };
        if failed.lock().learned {
            return Ok(());
        }
        let kept = ownership.failures(&self.sub).await?;
        let mut state = failed.lock();
        for FailedEntry { lane, id, text } in kept {
            let fields = text.as_deref().and_then(read).unwrap_or_default();
            let known = Known {
                fields,
                seen: false,
            };
            state.entries.entry((lane, id)).or_insert(known);
        }
        state.learned = true;
        Ok(())
    }

    /// Gives entries as they are on their stream what they carried when they failed.
    pub(crate) fn recall_failures(&self, entries: &mut [Entry]) {
        let Some((failed, _)) = self.failed_in_line() else {
            return;
        };
        let mut state = failed.lock();
        if state.entries.is_empty() {
            return;
        }
        for entry in entries {
            let Some(known) = state.entries.get_mut(&key(entry)) else {
                continue;
            };
            known.seen = true;
            let is_newer = |name: &FieldName| known.fields.iter().any(|(new, _)| new == name);
            entry.fields.retain(|(name, _)| !is_newer(name));
            entry.fields.extend(known.fields.iter().cloned());
        }
    }

    /// Keeps what these carry. Where it cannot be kept, the next owner begins to count anew.
    pub(crate) async fn keep_failures(&self, entries: &[Entry]) {
        let Some((failed, ownership)) = self.failed_in_line() else {
            return;
        };
        let mut failures = Vec::with_capacity(entries.len());
        for entry in entries {
            let fields = our_fields(entry);
            let (lane, id) = key(entry);
            let text = Some(written(&fields));
            failures.push(FailedEntry { lane, id, text });
            let known = Known { fields, seen: true };
            failed.lock().entries.insert((lane, id), known);
        }
        self.write_failures(ownership, &failures).await;
    }

    /// These are no longer pending.
    pub(crate) async fn forget_failures(&self, keys: impl IntoIterator<Item = Key>) {
        let Some((failed, ownership)) = self.failed_in_line() else {
            return;
        };
        let forget = {
            let mut state = failed.lock();
            if state.entries.is_empty() {
                return;
            }
            let keys = keys.into_iter();
            let known = keys.filter(|key| state.entries.remove(key).is_some());
            known.map(forgotten).collect::<Vec<_>>()
        };
        self.write_failures(ownership, &forget).await;
    }

    /// Everything pending was seen: what was not among it is over.
    pub(crate) async fn forget_unseen_failures(&self) {
        let Some((failed, _)) = self.failed_in_line() else {
            return;
        };
        let unseen: Vec<Key> = {
            let state = failed.lock();
            let unseen = state.entries.iter().filter(|(_, known)| !known.seen);
            unseen.map(|(key, _)| *key).collect()
        };
        self.forget_failures(unseen).await;
    }

    async fn write_failures(&self, ownership: &dyn Ownership, failures: &[FailedEntry]) {
        if failures.is_empty() {
            return;
        }
        if let Err(error) = ownership.keep_failures(&self.sub, failures).await {
            stats::failed(self.base(), "keep_failures");
            tracing::debug!(stream = %self.base(), "failures were not kept: {error}");
        }
    }
}

fn forgotten((lane, id): Key) -> FailedEntry {
    let text = None;
    FailedEntry { lane, id, text }
}

/// Our fields are texts.
fn written(fields: &[(FieldName, Bytes)]) -> String {
    let texts: Vec<(&str, _)> = fields
        .iter()
        .map(|(name, value)| (&**name, String::from_utf8_lossy(value)))
        .collect();
    serde_json::to_string(&texts).expect("texts are always JSON")
}

fn read(text: &str) -> Option<Vec<(FieldName, Bytes)>> {
    let texts: Vec<(String, String)> = serde_json::from_str(text).ok()?;
    let fields = texts.into_iter();
    let field = |(name, value): (String, String)| (FieldName::from(name), Bytes::from(value));
    Some(fields.map(field).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nonsense_is_nothing() {
        let fields: Vec<(FieldName, Bytes)> = vec![
            ("rb-attempt".into(), Bytes::from("2")),
            ("rb-history".into(), Bytes::from("a\nb \u{e4}\n")),
        ];
        assert_eq!(read(&written(&fields)), Some(fields));
        assert_eq!(read("{"), None);
    }
}
