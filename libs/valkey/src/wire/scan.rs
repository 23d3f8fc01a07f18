//! Finds where a reply ends, without looking into it twice.
//!
//! Bytes come in pieces of any size; the scan goes on where it stopped. It holds nothing but
//! counters, so a reply that promises a billion parts costs no memory before they come.

use std::ops::Range;

/// How deep lists lie in each other: a read of several streams needs five.
pub(crate) const DEPTH_MAX: usize = 16;

/// Bytes of one text; the server's own limit.
const TEXT_MAX: usize = 512 * 1024 * 1024;

/// Bytes of a line: simple texts, errors, numbers.
const LINE_MAX: usize = 64 * 1024;

/// Parts of one list.
const PARTS_MAX: usize = 16 * 1024 * 1024;

/// What came is not the protocol, or more than anyone should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// Where the scan is.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The next byte to look at.
    at: usize,
    /// Where the reply in hand began.
    start: usize,
    /// Parts that are still to come, list by list, the innermost last.
    left: Vec<usize>,
    /// The reply in hand is a message that nobody asked for.
    push: bool,
    /// Bytes that must come before it is worth going on; 0 = any.
    missing: usize,
}

/// What stands at one place.
pub(super) enum Item {
    /// Something without parts; it ends here, and its text, if it has one, lies there.
    Leaf { end: usize, text: Range<usize> },
    /// So many parts follow from here on.
    List { end: usize, parts: usize },
    /// Not all of it is there; at least so many bytes are missing.
    Cut { missing: usize },
}

// === impl Scan ===

impl Scan {
    /// The place of the next reply; `None` when more bytes must come first.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Broken> {
        self.missing = 0;
        loop {
            if self.left.is_empty() {
                self.start = self.at;
                self.push = bytes.get(self.at) == Some(&b'>');
            }
            match item(bytes, self.at)? {
                Item::Cut { missing } => {
                    self.missing = missing;
                    return Ok(None);
                }
                Item::Leaf { end, .. } => self.at = end,
                Item::List { end, parts } => {
                    self.at = end;
                    if parts > 0 {
                        if self.left.len() >= DEPTH_MAX {
                            return Err(Broken("lists lie too deep in each other"));
                        }
                        self.left.push(parts);
                        continue;
                    }
                }
            }
            if self.is_complete() && !self.push {
                return Ok(Some(self.start..self.at));
            }
        }
    }

    /// One part is done, and with it each list that it ends.
    fn is_complete(&mut self) -> bool {
        while let Some(left) = self.left.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.left.pop();
        }
        true
    }

    /// Bytes that must come before it is worth going on, as far as is known.
    pub(crate) fn missing(&self) -> usize {
        self.missing
    }

    /// Where the last reply ended: what is before may go, and the scan counts from there.
    pub(crate) fn cut(&mut self) -> usize {
        self.start = 0;
        std::mem::take(&mut self.at)
    }
}

/// Reads what stands at `at`.
pub(super) fn item(bytes: &[u8], at: usize) -> Result<Item, Broken> {
    if let Some(text) = short_text(bytes, at) {
        return Ok(text);
    }
    let Some((kind, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else {
        return Ok(Item::Cut { missing: 1 });
    };
    let Some(length) = line(rest)? else {
        return Ok(Item::Cut { missing: 1 });
    };
    let text = at + 1..at + 1 + length;
    let end = text.end + 2;
    let content = rest.get(..length).unwrap_or_default();
    match kind {
        b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => Ok(Item::Leaf { end, text }),
        b'$' | b'=' | b'!' => match count(content, TEXT_MAX)? {
            Some(length) => leaf(bytes, end, length),
            None => Ok(Item::Leaf {
                end,
                text: end..end,
            }),
        },
        b'*' | b'~' | b'>' => list(end, content, 1, 0),
        b'%' => list(end, content, 2, 0),
        // What it says about the part that follows: with that part, a list of one more.
        b'|' => list(end, content, 2, 1),
        _ => Err(Broken("no such kind of part")),
    }
}

/// A whole text of less than 1,000 bytes, which nearly every part is; `None` = look closer.
fn short_text(bytes: &[u8], at: usize) -> Option<Item> {
    let digit = |byte: u8| {
        Some(usize::from(
            byte.checked_sub(b'0').filter(|digit| *digit < 10)?,
        ))
    };
    let (start, length) = match *bytes.get(at..)?.first_chunk()? {
        [b'$', a, b'\r', b'\n', _, _] => (at + 4, digit(a)?),
        [b'$', a, b, b'\r', b'\n', _] => (at + 5, digit(a)? * 10 + digit(b)?),
        [b'$', a, b, c, b'\r', b'\n'] => (at + 6, (digit(a)? * 10 + digit(b)?) * 10 + digit(c)?),
        _ => return None,
    };
    let text = start..start + length;
    let end = text.end + 2;
    (bytes.get(text.end..end)? == b"\r\n").then_some(Item::Leaf { end, text })
}

fn list(end: usize, count_of: &[u8], times: usize, more: usize) -> Result<Item, Broken> {
    let parts = count(count_of, PARTS_MAX)?.map_or(0, |count| count * times + more);
    Ok(Item::List { end, parts })
}

/// A text of a length that was told before it.
fn leaf(bytes: &[u8], start: usize, length: usize) -> Result<Item, Broken> {
    let text = start..start + length;
    let end = text.end + 2;
    match bytes.get(text.end..end) {
        Some(b"\r\n") => Ok(Item::Leaf { end, text }),
        Some(_) => Err(Broken("a text is longer than it says")),
        None => Ok(Item::Cut {
            missing: end - bytes.len(),
        }),
    }
}

/// The length of a line; `None` when its end has not come.
fn line(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let seen = bytes.get(..LINE_MAX).unwrap_or(bytes);
    match seen.iter().position(|byte| *byte == b'\r') {
        Some(end) => match bytes.get(end + 1) {
            Some(b'\n') => Ok(Some(end)),
            Some(_) => Err(Broken("a line ends in its middle")),
            None => Ok(None),
        },
        None if seen.len() == LINE_MAX => Err(Broken("a line without an end")),
        None => Ok(None),
    }
}

/// A count; `None` for -1, which stands for nothing.
fn count(digits: &[u8], max: usize) -> Result<Option<usize>, Broken> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 10 {
        return Err(Broken("a count that is none"));
    }
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Broken("a count that is none"));
        }
        number = number * 10 + usize::from(digit - b'0');
    }
    match number <= max {
        true => Ok(Some(number)),
        false => Err(Broken("a part that is larger than any should be")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_end_where_they_say() {
        for length in (0..=1_100).chain([9_999, 10_000, 65_536]) {
            let mut wire = format!("${length}\r\n").into_bytes();
            let start = wire.len();
            wire.extend(std::iter::repeat_n(b'\n', length));
            let whole = wire.len() + 2;
            wire.extend_from_slice(b"\r\n+");
            match item(&wire, 0) {
                Ok(Item::Leaf { end, text }) => assert_eq!((end, text), (whole, start..whole - 2)),
                _ => panic!("{length}"),
            }
            for cut in [1, start - 1, start, whole - 2, whole - 1] {
                assert!(
                    matches!(item(&wire[..cut], 0), Ok(Item::Cut { .. })),
                    "{length}, {cut}"
                );
            }
            wire[whole - 2] = b'x';
            assert!(item(&wire, 0).is_err(), "{length}");
        }
        assert!(item(b"$x\r\n0\r\n", 0).is_err());
        assert!(item(b"$1x\r\n0\r\n", 0).is_err());
    }
}
