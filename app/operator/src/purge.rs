//! Dead letters are deleted for good: one by one, or all that match after a look at how many
//! that is.

use ratebox_store::{DeadLetterFilter, LetterHead};
use serde_json::Value;
use uuid::Uuid;

use crate::{By, Error, Letters, Result};

/// Letters of one transaction.
const PAGE: u32 = 200;

/// What a purge did, or would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PurgeOutcome {
    /// Letters that match.
    pub matched: u64,
    /// Bytes of their fields.
    pub bytes: u64,
    /// Letters that are gone.
    pub purged: u64,
    /// The newest ten, when nothing was changed.
    pub sample: Vec<Value>,
}

// === impl Letters ===

impl Letters {
    /// Deletes one letter.
    ///
    /// # Errors
    /// [`Error::UnknownLetter`], or when the store is away.
    pub async fn purge_one(&self, id: Uuid, by: &By) -> Result<()> {
        let letter = self.store.whole_letter(id).await?;
        let head = letter.ok_or(Error::UnknownLetter { id })?.head;
        match self.delete(&[head], by).await? {
            0 => Err(Error::UnknownLetter { id }),
            _ => Ok(()),
        }
    }

    /// Says how many letters match; deletes nothing.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn would_purge(&self, filter: &DeadLetterFilter) -> Result<PurgeOutcome> {
        let (matched, bytes, sample) = self.sample(filter).await?;
        Ok(PurgeOutcome {
            matched,
            bytes,
            purged: 0,
            sample,
        })
    }

    /// Deletes the letters that match, which must be as many as the dry run said: letters that
    /// have come since have not been looked at.
    ///
    /// # Errors
    /// [`Error::CountChanged`], or when the store is away; what was deleted before stays so.
    pub async fn purge(
        &self,
        filter: &DeadLetterFilter,
        expected: u64,
        by: &By,
    ) -> Result<PurgeOutcome> {
        let mut filter = filter.clone();
        // What comes from now on is newer, and was not looked at.
        let newest = self.list(&filter, 1).await?;
        let newest = newest.first().map(|head| head.id.as_u128());
        filter.before = newest.map(|id| Uuid::from_u128(id.saturating_add(1)));
        let (now, bytes) = self.store.count_dead_letters(&filter).await?;
        if now != expected {
            return Err(Error::CountChanged { expected, now });
        }
        let mut outcome = PurgeOutcome {
            matched: now,
            bytes,
            ..PurgeOutcome::default()
        };
        loop {
            let page = self.list(&filter, PAGE).await?;
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
            outcome.purged += self.delete(&page, by).await?;
        }
        self.note_bulk("dead_letter.purge_many", outcome.purged, by)
            .await?;
        Ok(outcome)
    }

    async fn delete(&self, letters: &[LetterHead], by: &By) -> Result<u64> {
        let purged = self
            .store
            .purge_letters(letters, by.actor(), by.reason())
            .await?;
        Ok(purged)
    }
}
