//! Named values of a query or a filter, each read once. What nobody asked for is an error: a filter
//! with a misspelt name would match everything.

use std::str::FromStr;

use axum::extract::Query;
use axum::http::Uri;
use ratebox_kit::{DeadLetterClass, Timestamp};
use ratebox_operator::Moment;
use ratebox_store::{DeadLetterFilter, LetterStates};

use crate::problem::ApiError;

/// Values by name.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

// === impl Params ===

impl Params {
    /// What stands behind the path.
    ///
    /// # Errors
    /// 400 when it is no query, or a name comes twice.
    pub(crate) fn of(uri: &Uri) -> Result<Self, ApiError> {
        if uri.query().is_none() {
            return Ok(Self::default());
        }
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self::of_pairs(pairs.map_err(|_| malformed("the query cannot be read"))?.0)
    }

    /// # Errors
    /// 400 when a name comes twice, or a text is one that the store could not even look for.
    pub(crate) fn of_pairs(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(malformed("a parameter is given twice"));
        }
        // PostgreSQL fails such a question, SQLite finds nothing: here both are told the same.
        let has_nul = |(name, text): &(String, String)| name.contains('\0') || text.contains('\0');
        if pairs.iter().any(has_nul) {
            return Err(malformed("a parameter holds U+0000, as no text here"));
        }
        Ok(Self(pairs))
    }

    /// The text of a name.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// All names that begin so, without that beginning, with their texts.
    pub(crate) fn beginning_with(&mut self, prefix: &str) -> Vec<(String, String)> {
        let all = std::mem::take(&mut self.0).into_iter();
        let (found, rest): (Vec<_>, Vec<_>) = all.partition(|(name, _)| name.starts_with(prefix));
        self.0 = rest;
        let found = found.into_iter();
        found
            .map(|(name, text)| {
                (
                    name.get(prefix.len()..).unwrap_or_default().to_owned(),
                    text,
                )
            })
            .collect()
    }

    /// The value of a name, read as `T`.
    ///
    /// # Errors
    /// 400 with `hint`, which says what is expected.
    pub(crate) fn value<T: FromStr>(
        &mut self,
        name: &str,
        hint: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let text = self.text(name);
        text.map(|text| text.parse().map_err(|_| malformed(hint)))
            .transpose()
    }

    /// The time of a name, which may be given as how long before `now` it was.
    ///
    /// # Errors
    /// 400 with `hint`, which says what is expected.
    pub(crate) fn time(
        &mut self,
        name: &str,
        now: Timestamp,
        hint: &'static str,
    ) -> Result<Option<Timestamp>, ApiError> {
        let moment = self.value::<Moment>(name, hint)?;
        Ok(moment.map(|it| it.time(now)))
    }

    /// Which dead letters: all names of a filter, the cursor included.
    ///
    /// # Errors
    /// 400 when a value cannot be read.
    pub(crate) fn filter(&mut self, now: Timestamp) -> Result<DeadLetterFilter, ApiError> {
        let times = "from and until are times as 2026-01-31T12:00:00Z, or how long ago as 15m";
        let word = "state is dead, stuck, replayed or any";
        let states = self.text("state").map(|it| LetterStates::parse(&it));
        let class = "class is transient, permanent, malformed, expired or poison";
        let given = self.text("class").map(|it| DeadLetterClass::parse(&it));
        Ok(DeadLetterFilter {
            states: known(states, word)?.unwrap_or_default(),
            class: known(given, class)?,
            code: self.text("code"),
            stream: self.text("stream"),
            owner: self.text("owner"),
            message_id: self.text("message_id"),
            from: self.time("from", now, times)?,
            until: self.time("until", now, times)?,
            before: self.value("cursor", "cursor is the text that the page before gave")?,
        })
    }

    /// Nothing may be left over.
    ///
    /// # Errors
    /// 400 when something is.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(ApiError::bad_request(
            "query.unknown_parameter",
            "a parameter is not known here; see /openapi.json",
        ))
    }
}

fn known<T>(read: Option<Option<T>>, hint: &'static str) -> Result<Option<T>, ApiError> {
    match read {
        Some(None) => Err(malformed(hint)),
        Some(known) => Ok(known),
        None => Ok(None),
    }
}

fn malformed(detail: &'static str) -> ApiError {
    ApiError::bad_request("query.malformed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_postgresql_cannot_look_for_is_refused() {
        let read = |text: &str| Params::of(&format!("/x?{text}").parse().unwrap());
        for bad in ["code=%00", "owner=a%00", "a%00b=1", "a=1&b=x%00y"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("code=%2500&owner=a%01").is_ok());
    }
}
