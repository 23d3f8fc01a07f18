//! All routes in one place.

use axum::http::{Method, Uri};

use crate::problem::Problem;
use crate::resource::Key;
use crate::served::Served;
use crate::service::Shared;
use std::sync::Arc;

/// What a caller needs for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the route is open.
    Nothing,
    /// A token that may read.
    Read,
    /// A token that may write.
    Write,
}

/// What is asked for.
pub(crate) enum Route {
    Health,
    Stats,
    Metrics,
    OpenApi,
    One(Arc<Served>, Key),
    Write(Arc<Served>, Key),
    Many(Arc<Served>),
    Invalidate(Arc<Served>, Key),
    Recompute,
    Heavy,
}

// === impl Route ===

impl Route {
    /// Whether the limiter counts it.
    pub(crate) fn is_limited(&self) -> bool {
        !matches!(
            self,
            Self::Health | Self::Stats | Self::Metrics | Self::OpenApi
        )
    }

    /// The resource that it is about, if it is about one.
    pub(crate) fn served(&self) -> Option<&Arc<Served>> {
        match self {
            Self::One(served, _)
            | Self::Write(served, _)
            | Self::Many(served)
            | Self::Invalidate(served, _) => Some(served),
            Self::Health
            | Self::Stats
            | Self::Metrics
            | Self::OpenApi
            | Self::Recompute
            | Self::Heavy => None,
        }
    }
}

/// What a request needs, as far as its method and path tell.
pub(crate) fn need(method: &Method, path: &str) -> Need {
    match path {
        "/healthz" | "/openapi.json" => Need::Nothing,
        _ if *method == Method::GET || *method == Method::HEAD => Need::Read,
        _ => Need::Write,
    }
}

/// Finds the route.
///
/// # Errors
/// 404, 405, or 422 for a part of the path that is no key.
pub(crate) fn find(shared: &Shared, method: &Method, uri: &Uri) -> Result<Route, Problem> {
    let path = uri.path();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (route, takes_post) = match parts.as_slice() {
        ["healthz"] => (Route::Health, false),
        ["stats"] => (Route::Stats, false),
        ["metrics"] => (Route::Metrics, false),
        ["openapi.json"] => (Route::OpenApi, false),
        ["recompute"] => (Route::Recompute, true),
        ["calc", "heavy"] => (Route::Heavy, false),
        ["bulk", name] => (Route::Many(served(shared, name)?), false),
        ["invalidate", key] => {
            let served = shared.first().ok_or_else(Problem::unknown_path)?;
            (invalidate(served, key)?, true)
        }
        ["invalidate", name, key] => (invalidate(&served(shared, name)?, key)?, true),
        [name, key] => {
            let served = served(shared, name)?;
            let key = key_of(&served, key)?;
            if *method == Method::POST {
                return Ok(Route::Write(served, key));
            }
            let allow = match served.resource.declaration.put.is_empty() {
                true => "GET, HEAD",
                false => "GET, HEAD, POST",
            };
            return match is_get(method) {
                true => Ok(Route::One(served, key)),
                false => Err(Problem::method_not_allowed(allow)),
            };
        }
        _ => return Err(Problem::unknown_path()),
    };
    match (takes_post, is_get(method), *method == Method::POST) {
        (false, true, _) | (true, _, true) => Ok(route),
        (false, false, _) => Err(Problem::method_not_allowed("GET, HEAD")),
        (true, _, false) => Err(Problem::method_not_allowed("POST")),
    }
}

fn is_get(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn served(shared: &Shared, name: &str) -> Result<Arc<Served>, Problem> {
    shared
        .served(name)
        .cloned()
        .ok_or_else(Problem::unknown_path)
}

fn invalidate(served: &Arc<Served>, key: &str) -> Result<Route, Problem> {
    Ok(Route::Invalidate(Arc::clone(served), key_of(served, key)?))
}

fn key_of(served: &Served, part: &str) -> Result<Key, Problem> {
    let text = decoded(part)
        .ok_or_else(|| Problem::malformed("path.malformed", "the path cannot be read"))?;
    served.resource.declaration.key.parse(&text)
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = more.split_at_checked(2)?;
        // `from_str_radix` takes a sign, too.
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_a_path_are_read() {
        assert_eq!(decoded("a%20b%2Fc").as_deref(), Some("a b/c"));
        assert_eq!(decoded("42").as_deref(), Some("42"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
