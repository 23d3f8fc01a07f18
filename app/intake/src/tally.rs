//! Counts a response: items by verdict, and how often each code was raised.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a response comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Items that are DONE.
    pub done: u32,
    /// Items that are ERROR.
    pub failed: u32,
    /// How often each code was raised.
    pub codes: BTreeMap<u16, u32>,
}

impl Tally {
    /// Counts a response envelope; `None` when it is none.
    pub fn of(response: &str) -> Option<Self> {
        let counted: Counted<'_> = serde_json::from_str(response).ok()?;
        let mut tally = Self::default();
        for item in &counted.results {
            if item.verdict == "DONE" {
                tally.done += 1;
            } else {
                tally.failed += 1;
            }
            for error in &item.errors {
                *tally.codes.entry(error.code).or_default() += 1;
            }
        }
        Some(tally)
    }
}

/// What is read of a response to count.
#[derive(Deserialize)]
struct Counted<'a> {
    #[serde(borrow)]
    results: Vec<CountedItem<'a>>,
}

#[derive(Deserialize)]
struct CountedItem<'a> {
    verdict: &'a str,
    errors: Vec<CountedError>,
}

#[derive(Deserialize)]
struct CountedError {
    code: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_by_verdict_and_every_code() {
        let response = r#"{"v":1,"results":[{"verdict":"DONE","errors":[]},
            {"verdict":"ERROR","errors":[{"code":101},{"code":200}]},
            {"verdict":"ERROR","errors":[{"code":101,"field":"phone"}]}]}"#;
        let tally = Tally::of(response).unwrap();
        assert_eq!((tally.done, tally.failed), (1, 2));
        assert_eq!(tally.codes, BTreeMap::from([(101, 2), (200, 1)]));
        assert_eq!(Tally::of("{}"), None);
    }
}
