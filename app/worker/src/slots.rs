//! Small numbers for the batches that are under way at the same time.

use std::sync::{Mutex, PoisonError};

/// Batches beyond this share the last number.
const MAX: u32 = 63;

/// Which numbers are taken, a bit each.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<u64>);

/// A number until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    number: u32,
}

impl Slots {
    /// The smallest free number.
    pub(crate) fn take(&self) -> Slot<'_> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = taken.trailing_ones().min(MAX);
        *taken |= 1 << number;
        Slot {
            slots: self,
            number,
        }
    }
}

impl Slot<'_> {
    pub(crate) fn number(&self) -> u16 {
        u16::try_from(self.number).unwrap_or(u16::MAX)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        *taken &= !(1 << self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_number_is_given() {
        let slots = Slots::default();
        let (a, b) = (slots.take(), slots.take());
        assert_eq!((a.number(), b.number()), (0, 1));
        drop(a);
        assert_eq!(slots.take().number(), 0);
        let many: Vec<_> = (0..100).map(|_| slots.take()).collect();
        assert_eq!(many.last().map(Slot::number), Some(63));
    }
}
