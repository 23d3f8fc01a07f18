//! Values of a query, each read once and held to its limits. An unknown name is an error: a
//! misspelt `ttl` would silently be another one.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::Query;
use axum::http::Uri;

use crate::problem::Problem;

/// Values by name.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

// === impl Params ===

impl Params {
    /// What stands behind the path.
    ///
    /// # Errors
    /// 400 when it is no query, or a name comes twice.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let malformed = |detail| Problem::malformed("query.malformed", detail);
        if uri.query().is_none() {
            return Ok(Self::default());
        }
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| malformed("the query cannot be read"))?
            .0;
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two.first() == two.last()) {
            return Err(malformed("a parameter is given twice"));
        }
        Ok(Self(pairs))
    }

    /// Refuses a query where all that is given stands in the path and in the body.
    ///
    /// # Errors
    /// 400 when there is one.
    pub(crate) fn none(uri: &Uri) -> Result<(), Problem> {
        match Self::of(uri)?.0.is_empty() {
            true => Ok(()),
            false => Err(Problem::malformed(
                "query.unknown_parameter",
                "a POST takes no query; the fields and the mode of a write go in a JSON body",
            )),
        }
    }

    /// The text of a name.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A whole number within limits.
    ///
    /// # Errors
    /// 422 when it is none, or beyond them.
    pub(crate) fn number<T>(
        &mut self,
        name: &'static str,
        limits: RangeInclusive<T>,
        default: T,
    ) -> Result<T, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(number) if limits.contains(&number) => Ok(number),
            _ => Err(Problem::out_of_range(format!(
                "{name} must be a whole number from {} to {}",
                limits.start(),
                limits.end()
            ))),
        }
    }

    /// Nothing may be left over.
    ///
    /// # Errors
    /// 400 when something is.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Problem::malformed(
                "query.unknown_parameter",
                "a parameter is not known here; see /openapi.json",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_takes_no_query() {
        let takes = |path: &'static str| Params::none(&Uri::from_static(path)).is_ok();
        assert!(takes("/users/1") && takes("/users/1?"));
        for path in ["/users/1?name=Zed", "/users/1?mode", "/users/1?a=1&a=2"] {
            assert!(!takes(path), "{path}");
        }
    }
}
