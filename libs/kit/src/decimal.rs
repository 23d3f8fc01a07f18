//! Whole numbers in decimal, without the machinery of `format!`: ids and counts are written for every
//! request and every entry.

use std::fmt;

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// The numbers below a hundred, two digits each: half the divisions.
const PAIRS: [[u8; 2]; 100] = pairs();

/// A number in decimal, with no sign and no leading zeros.
///
/// ```
/// assert_eq!(ratebox_kit::Decimal::of(1_700_000_000_000).as_str(), "1700000000000");
/// ```
#[derive(Clone, Copy)]
pub struct Decimal {
    digits: [u8; DIGITS_MAX],
    start: usize,
}

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
}

// === impl Decimal ===

impl Decimal {
    /// The digits of this number.
    pub fn of(number: u64) -> Self {
        let mut digits = [b'0'; DIGITS_MAX];
        let (mut start, mut left) = (DIGITS_MAX, number);
        for place in digits.rchunks_exact_mut(2) {
            place.copy_from_slice(&PAIRS[(left % 100) as usize]);
            start -= 2;
            left /= 100;
            if left == 0 {
                break;
            }
        }
        // The first of the last pair is a zero where the number of digits is odd.
        start += usize::from(digits[start] == b'0' && start + 1 < DIGITS_MAX);
        Self { digits, start }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are text")
    }

    /// As ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_are_written_as_format_writes_them() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        let around = powers.flat_map(|power| [power - 1, power, power + 1, power / 2 * 3]);
        for number in around.chain(0..=1_000).chain([u64::MAX]) {
            assert_eq!(Decimal::of(number).as_str(), format!("{number}"));
        }
    }
}
