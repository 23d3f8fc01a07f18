//! How often each code was raised, as it stands in a column: `101:2 200:1`.

use std::collections::BTreeMap;

use crate::{CodeCount, Error, Result};

pub(super) fn write(codes: &BTreeMap<u16, u32>) -> String {
    let words: Vec<String> = codes
        .iter()
        .map(|(code, count)| format!("{code}:{count}"))
        .collect();
    words.join(" ")
}

pub(super) fn read(text: &str) -> Result<Vec<CodeCount>> {
    let words = text.split_ascii_whitespace();
    let counts = words.map(|word| {
        let (code, count) = word.split_once(':')?;
        Some(CodeCount {
            code: code.parse().ok()?,
            count: count.parse().ok()?,
        })
    });
    let counts: Option<Vec<CodeCount>> = counts.collect();
    counts.ok_or(Error::Unreadable {
        what: "count of codes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_were_written() {
        let codes = BTreeMap::from([(101, 2), (200, 1_000_000)]);
        let text = write(&codes);
        assert_eq!(text, "101:2 200:1000000");
        let read: Vec<_> = read(&text).unwrap();
        let pairs: Vec<_> = read.iter().map(|it| (it.code, it.count)).collect();
        assert_eq!(pairs, [(101, 2), (200, 1_000_000)]);
        assert!(super::read("").unwrap().is_empty());
        assert!(super::read("101").is_err() && super::read("x:1").is_err());
    }
}
