//! What changed since when: the reason that no load which began before a change can fill.
//!
//! Every change gets the next number of one sequence and leaves it in the cell that its key hashes
//! to. A load remembers the number at its beginning; at its end the cell of its key must not hold a
//! later one. Memory is bounded by the cells; two keys in one cell cost a needless reload at worst.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells for keys: 512 KiB. At 6,000 changes a second a load of 20 ms shares its cell with one of
/// them in 550 times.
const KEY_CELLS: usize = 65_536;

/// Cells for tags: 128 KiB. More, because entries that are kept are checked against them too.
const TAG_CELLS: usize = 16_384;

/// A point in the sequence of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// The cell of a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagCell(u16);

/// The cells of an entry's tags: a few in place, more of them elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagCells {
    count: u8,
    first: [TagCell; TAGS_IN_PLACE],
    /// Behind one pointer, so that those in place stand close together.
    more: Option<Arc<Vec<TagCell>>>,
}

/// Most entries have the tag of their cache and one or two more.
const TAGS_IN_PLACE: usize = 3;

pub(crate) struct Generations {
    #[cfg(feature = "broken")]
    pub(crate) lacks: Lacks,
    last: AtomicU64,
    /// What is older is not to be trusted: changes may have been missed.
    floor: AtomicU64,
    keys: Box<[AtomicU64]>,
    tags: Box<[AtomicU64]>,
}

// === impl TagCells ===

impl TagCells {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TagCell> {
        let more = self.more.iter().flat_map(|more| more.iter());
        self.in_place().iter().chain(more)
    }

    fn in_place(&self) -> &[TagCell] {
        self.first
            .get(..usize::from(self.count))
            .unwrap_or(&self.first)
    }
}

impl FromIterator<TagCell> for TagCells {
    fn from_iter<I: IntoIterator<Item = TagCell>>(cells: I) -> Self {
        let mut cells = cells.into_iter();
        let mut all = Self::default();
        for (place, cell) in all.first.iter_mut().zip(cells.by_ref()) {
            *place = cell;
            all.count += 1;
        }
        let more: Vec<TagCell> = cells.collect();
        if !more.is_empty() {
            all.more = Some(Arc::new(more));
        }
        all
    }
}

// === impl Generations ===

impl Generations {
    pub(crate) fn new() -> Self {
        let cells = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            #[cfg(feature = "broken")]
            lacks: Lacks::default(),
            last: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            keys: cells(KEY_CELLS),
            tags: cells(TAG_CELLS),
        }
    }

    /// The number of the last change.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.last.load(Ordering::SeqCst))
    }

    /// A key changed.
    pub(crate) fn key_changed(&self, name: &str) {
        let number = self.next();
        if let Some(cell) = self.keys.get(key_cell(name)) {
            cell.fetch_max(number, Ordering::SeqCst);
        }
    }

    /// Whatever carries the tag changed.
    pub(crate) fn tag_changed(&self, tag: &str) {
        let number = self.next();
        if let Some(cell) = self.tags.get(usize::from(tag_cell(tag).0)) {
            cell.fetch_max(number, Ordering::SeqCst);
        }
    }

    /// Anything may have changed until now.
    pub(crate) fn all_changed(&self) {
        self.floor.store(self.next(), Ordering::SeqCst);
    }

    /// Changes are not heard from now on: nothing is to be trusted.
    pub(crate) fn blind(&self) {
        self.floor.store(u64::MAX, Ordering::SeqCst);
    }

    /// Whether changes since then were heard.
    pub(crate) fn heard_since(&self, then: Moment) -> bool {
        #[cfg(feature = "broken")]
        if self.lacks.doubt.load(Ordering::Relaxed) {
            return true;
        }
        then.0 >= self.floor.load(Ordering::SeqCst)
    }

    /// Whether a key is as it was then, as far as this process knows.
    pub(crate) fn key_holds(&self, name: &str, then: Moment) -> bool {
        #[cfg(feature = "broken")]
        if self.lacks.fence.load(Ordering::Relaxed) {
            return true;
        }
        let cell = self.keys.get(key_cell(name));
        cell.is_some_and(|cell| cell.load(Ordering::SeqCst) <= then.0)
    }

    /// Whether a tag is as it was then, as far as this process knows.
    pub(crate) fn tag_holds(&self, cell: TagCell, then: Moment) -> bool {
        let cell = self.tags.get(usize::from(cell.0));
        cell.is_some_and(|cell| cell.load(Ordering::SeqCst) <= then.0)
    }

    /// Whether none of several tags changed since then, as far as this process knows. On the way of
    /// every hit, so those in place are looked at without a word about the others.
    pub(crate) fn tags_hold(&self, cells: &TagCells, then: Moment) -> bool {
        let holds = |cell: &TagCell| self.tag_holds(*cell, then);
        cells.in_place().iter().all(holds)
            && (cells.more.as_ref()).is_none_or(|more| more.iter().all(holds))
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// What is left out, to show that tests notice.
#[cfg(feature = "broken")]
#[derive(Default)]
pub(crate) struct Lacks {
    pub(crate) fence: std::sync::atomic::AtomicBool,
    pub(crate) doubt: std::sync::atomic::AtomicBool,
    pub(crate) repairs: std::sync::atomic::AtomicBool,
}

/// The cell of a tag.
pub(crate) fn tag_cell(tag: &str) -> TagCell {
    #[expect(clippy::cast_possible_truncation, reason = "less than TAG_CELLS")]
    TagCell((hash(tag) % TAG_CELLS as u64) as u16)
}

fn key_cell(name: &str) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "less than KEY_CELLS")]
    let cell = (hash(name) % KEY_CELLS as u64) as usize;
    cell
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_a_change_does_not_hold_and_what_began_after_does() {
        let generations = Generations::new();
        let before = generations.now();
        generations.key_changed("k");
        generations.tag_changed("t");
        let after = generations.now();
        assert!(!generations.key_holds("k", before));
        assert!(generations.key_holds("k", after));
        assert!(generations.key_holds("other", before));
        assert!(!generations.tag_holds(tag_cell("t"), before));
        assert!(generations.tag_holds(tag_cell("t"), after));
        assert!(generations.tag_holds(tag_cell("k"), before));
    }

    #[test]
    fn cells_of_any_number_are_all_there() {
        for count in [0_u16, 1, 2, 3, 4, 17] {
            let cells: TagCells = (0..count).map(TagCell).collect();
            assert!(cells.iter().copied().eq((0..count).map(TagCell)));
            assert_eq!(cells.is_empty(), count == 0);
        }
    }

    #[test]
    fn nothing_is_trusted_while_blind_nor_what_is_from_before() {
        let generations = Generations::new();
        let before = generations.now();
        assert!(generations.heard_since(before));
        generations.blind();
        assert!(!generations.heard_since(generations.now()));
        generations.all_changed();
        assert!(!generations.heard_since(before));
        assert!(generations.heard_since(generations.now()));
    }
}
