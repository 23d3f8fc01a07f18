//! What is known of a value, or of many.
//!
//! Values are personal data: they stand in no log, no metric and no error. A value that nobody has
//! sent is answered as such, with 200: it is an answer and not a missing page.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use ratebox_intake::{LookupKey, LookupKind};
use ratebox_kit::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wish::{body_of_any_text, invalid};
use crate::gateway::Shared;
use crate::lookups::Known;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::json;
use crate::service::Response;

/// The code of a value that cannot be read as what it is said to be.
const UNREADABLE: &str = "lookup.unreadable";

/// An answer on one value.
#[derive(Default, Serialize)]
struct Answer<'a> {
    kind: &'static str,
    /// In its normal form; `null` when it could not be read.
    value: Option<&'a str>,
    known: bool,
    seen: u64,
    at_least: bool,
    verdicts: Verdicts,
    sources: BTreeMap<&'a str, u64>,
    other_sources: u64,
    first_seen_at: Option<Timestamp>,
    last_seen_at: Option<Timestamp>,
    /// When the store was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Verdicts {
    done: u64,
    error: u64,
}

#[derive(Serialize)]
struct Answers<'a> {
    results: Vec<Answer<'a>>,
}

/// `GET /api/lookup/{kind}/{value}`
pub(crate) async fn one(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    Params::of(&call.parts.uri)?.finish()?;
    let mut parts = call.parts.uri.path().rsplit('/');
    let value = parts.next().unwrap_or_default();
    let kind = parts.next().and_then(LookupKind::from_word);
    let kind = kind.ok_or_else(unknown_kind)?;
    let text = decoded(value).ok_or_else(|| unreadable(kind))?;
    let key = shared.lookups.read(kind, &text);
    let key = key.ok_or_else(|| unreadable(kind))?;
    let known = shared.lookups.one(key.clone(), &caller.owner).await?;
    Ok(private(&answer(&key, known.as_ref())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Of the values that are plain texts.
    kind: Option<String>,
    values: Vec<Value>,
}

/// `POST /api/lookup`
pub(crate) async fn many(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    Params::of(&call.parts.uri)?.finish()?;
    // A value that holds U+0000 is one that cannot be read, as any other.
    let wanted: Wanted = body_of_any_text(&call.body)?;
    let values_max = shared.settings.lookups.values_max;
    if wanted.values.is_empty() {
        return Err(ApiError::bad_request("list.empty", "values is empty"));
    }
    if wanted.values.len() > values_max {
        let given = wanted.values.len();
        let detail = format!("values holds {given}, at most {values_max} are looked up at once");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, "lookup.too_many", detail));
    }
    let kind = wanted.kind.as_deref().map(kind_of).transpose()?;
    let pairs: Result<Vec<_>, ApiError> = wanted.values.iter().map(|it| pair(it, kind)).collect();
    let read = |(kind, text)| (kind, shared.lookups.read(kind, text));
    let read: Vec<(LookupKind, Option<LookupKey>)> = pairs?.into_iter().map(read).collect();
    let keys: Vec<LookupKey> = read.iter().filter_map(|(_, key)| key.clone()).collect();
    let known = match keys.is_empty() {
        true => Vec::new(),
        false => shared.lookups.many(keys, &caller.owner).await?,
    };
    let mut known = known.iter();
    let results = read.iter().map(|(kind, key)| match key {
        Some(key) => answer(key, known.next().and_then(Option::as_ref)),
        None => Answer {
            kind: kind.word(),
            error: Some(UNREADABLE),
            ..Answer::default()
        },
    });
    let results = results.collect();
    Ok(private(&Answers { results }))
}

/// One of the values: a text, or an object that says what it is.
fn pair(value: &Value, kind: Option<LookupKind>) -> Result<(LookupKind, &str), ApiError> {
    let shape = "values holds texts (with kind beside) or objects of kind and value";
    match value {
        Value::String(text) => Ok((kind.ok_or_else(|| invalid(shape))?, text)),
        Value::Object(fields) if fields.keys().all(|name| name == "kind" || name == "value") => {
            let text = |name| fields.get(name).map(|it| it.as_str().ok_or(()));
            let kind = match text("kind") {
                Some(word) => Some(kind_of(word.map_err(|()| invalid(shape))?)?),
                None => kind,
            };
            match (kind, text("value")) {
                (Some(kind), Some(Ok(value))) => Ok((kind, value)),
                _ => Err(invalid(shape)),
            }
        }
        _ => Err(invalid(shape)),
    }
}

fn kind_of(word: &str) -> Result<LookupKind, ApiError> {
    LookupKind::from_word(word).ok_or_else(unknown_kind)
}

fn unknown_kind() -> ApiError {
    let detail = "kind is phone, bank_account or email";
    ApiError::bad_request("lookup.unknown_kind", detail)
}

fn unreadable(kind: LookupKind) -> ApiError {
    let what = match kind {
        LookupKind::Phone => "a phone number",
        LookupKind::BankAccount => "a bank account",
        LookupKind::Email => "an e-mail address",
    };
    ApiError::unprocessable(UNREADABLE, format!("the value cannot be read as {what}"))
}

fn answer<'a>(key: &'a LookupKey, known: Option<&'a Arc<Known>>) -> Answer<'a> {
    let nothing = Answer {
        kind: key.kind().word(),
        value: Some(key.value()),
        ..Answer::default()
    };
    let Some(known) = known else { return nothing };
    let sources = known.sources.iter();
    Answer {
        known: known.seen > 0,
        seen: known.seen,
        at_least: known.at_least,
        verdicts: Verdicts {
            done: known.done,
            error: known.error,
        },
        sources: sources.map(|(name, count)| (&**name, *count)).collect(),
        other_sources: known.other_sources,
        first_seen_at: known.first_at,
        last_seen_at: known.last_at,
        as_of: Some(known.as_of),
        ..nothing
    }
}

/// An answer that nobody between us and the client may keep.
fn private(answer: &impl Serialize) -> Response {
    let text = serde_json::to_vec(answer).expect("texts and numbers are JSON");
    let mut response = json(StatusCode::OK, text);
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

/// A part of a path without its percent signs; `None` when it is no text.
fn decoded(part: &str) -> Option<Cow<'_, str>> {
    if !part.contains('%') {
        return Some(Cow::Borrowed(part));
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded_and_a_plus_is_a_plus() {
        assert_eq!(decoded("+84912").as_deref(), Some("+84912"));
        assert_eq!(decoded("%2b84%20912").as_deref(), Some("+84 912"));
        assert_eq!(decoded("a%40b.vn").as_deref(), Some("a@b.vn"));
        for bad in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
