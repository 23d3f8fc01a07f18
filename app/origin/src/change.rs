//! `POST /{resource}/{key}` and `POST /invalidate/{key}`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use ratebox_db::Committed;
use ratebox_kit::{Causes, PortError};
use serde_json::{Map, Value as Json};

use crate::overlay;
use crate::pending::{NotApplied, PendingWrite};
use crate::problem::{Problem, Response, json};
use crate::resource::Key;
use crate::served::Served;
use crate::service::Shared;

/// Characters of a field.
pub(crate) const FIELD_MAX_CHARS: usize = 100;

/// On the answer to a write that other processes were not told of yet.
const UNTOLD: HeaderName = HeaderName::from_static("ratebox-untold");

/// When the origin gets a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Through,
    Behind,
}

// === impl Mode ===

impl Mode {
    fn of(word: Option<&Json>) -> Result<Self, Problem> {
        match word.map(Json::as_str) {
            None | Some(Some("write-through")) => Ok(Self::Through),
            Some(Some("write-behind")) => Ok(Self::Behind),
            Some(_) => Err(Problem::out_of_range(
                "mode must be write-through or write-behind",
            )),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Through => "write-through",
            Self::Behind => "write-behind",
        }
    }
}

/// Writes one value.
///
/// # Errors
/// 405 where nothing can be written, 422 for fields out of range, 503.
pub(crate) async fn write(
    shared: &Shared,
    served: &Arc<Served>,
    key: &Key,
    body: &Bytes,
) -> Result<Response, Problem> {
    if served.resource.declaration.put.is_empty() {
        return Err(Problem::method_not_allowed("GET, HEAD"));
    }
    let (fields, mode) = fields(served, body)?;
    let written = match mode {
        Mode::Through => through(served, key, fields).await,
        Mode::Behind => behind(shared, served, key, fields).await,
    };
    // Of one that failed, too: the origin may have it nevertheless.
    let untold = shared.untold.any().await;
    let value = written?;
    let item = serde_json::Value::from(served.resource.declaration.item.as_str());
    let head = format!("{{\"ok\":true,\"mode\":\"{}\",{item}:", mode.word());
    let mut response = json([head.as_bytes(), &value, b"}"].concat());
    if untold {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(UNTOLD, yes);
    }
    Ok(response)
}

/// The origin first; then all processes read what it says now.
async fn through(
    served: &Arc<Served>,
    key: &Key,
    fields: Vec<Option<String>>,
) -> Result<Bytes, Problem> {
    let (origin, wanted) = (served.resource.source.clone(), key.clone());
    let write = async move {
        let written = origin.put(&wanted, &fields).await;
        written.map(|(value, _)| value)
    };
    let written = served.cache.write_through(key, write).await;
    let value = written.map_err(Problem::cache)?;
    Ok(value.map(|it| it.as_ref().clone()).unwrap_or_default())
}

/// The queue first; from the answer on readers see what waits in it.
async fn behind(
    shared: &Shared,
    served: &Arc<Served>,
    key: &Key,
    fields: Vec<Option<String>>,
) -> Result<Bytes, Problem> {
    let Some(queue) = &shared.queue else {
        return Err(Problem::unavailable(
            "write.no_queue",
            "there is no queue for writes here; use write-through",
        ));
    };
    let value = becomes(served, key, &fields).await?;
    let write = PendingWrite {
        resource: served.resource.name.clone(),
        key: key.to_string(),
        fields,
    };
    let queued = match write.queued() {
        Ok(queued) => queue.append(queued).await,
        Err(error) => Err(PortError::new("the write cannot be written as JSON", error)),
    };
    if let Err(error) = queued {
        tracing::warn!(error = %Causes(&error), "a write could not be queued");
        let detail = "the write could not be kept just now";
        return Err(Problem::unavailable("write.not_queued", detail));
    }
    // Forgotten and not replaced: the order in which two writers come here need not be the queue's.
    forget(shared, served, key).await;
    Ok(value)
}

/// What the value will be. A write that gives all of it needs no look at the origin, which may be away.
async fn becomes(
    served: &Arc<Served>,
    key: &Key,
    fields: &[Option<String>],
) -> Result<Bytes, Problem> {
    let declared = &served.resource.declaration;
    if let Some(value) = overlay::whole(declared, key, fields) {
        return Ok(value);
    }
    let own = Arc::new(AtomicBool::new(false));
    let before = served.read(&served.cache, key, &own).await;
    let before = before.map_err(Problem::cache)?;
    let value = overlay::over(declared, key, before.as_deref(), fields);
    value.ok_or_else(|| Problem::out_of_range(overlay::unknown(declared, fields)))
}

/// Brings a write that was queued to the origin; doing it twice is the same as once.
///
/// # Errors
/// [`NotApplied`].
pub(crate) async fn apply(shared: &Shared, write: &PendingWrite) -> Result<Committed, NotApplied> {
    let (served, key) = found(shared, write)?;
    if served.resource.declaration.writable.len() != write.fields.len() {
        return Err(NotApplied::Unknown);
    }
    let (_, proof) = served.resource.source.put(&key, &write.fields).await?;
    Ok(proof)
}

/// Forgets the value of a write that waits no longer, and everything that depends on it.
pub(crate) async fn settled(shared: &Shared, write: &PendingWrite) {
    if let Ok((served, key)) = found(shared, write) {
        forget(shared, served, &key).await;
    }
}

fn found<'a>(
    shared: &'a Shared,
    write: &PendingWrite,
) -> Result<(&'a Arc<Served>, Key), NotApplied> {
    let served = shared.served(&write.resource).ok_or(NotApplied::Unknown)?;
    let key = served.resource.declaration.key.parse(&write.key);
    Ok((served, key.map_err(|_| NotApplied::Unknown)?))
}

/// Forgets a value and everything that depends on it.
///
/// # Errors
/// 503 when others could not be told. They are told when the tier is back, and this process believes
/// nothing of it until then; but to answer that it is done would promise what others do not keep.
pub(crate) async fn invalidate(
    shared: &Shared,
    served: &Served,
    key: &Key,
) -> Result<Response, Problem> {
    let Err(error) = served.cache.invalidate(key).await else {
        return Ok(json(&br#"{"ok":true}"#[..]));
    };
    shared.untold.note().await;
    let detail = "forgotten here, but the cache's server does not answer: other processes are told \
                  when it is back; ask again to know that they were";
    Err(Problem::unavailable("invalidation.untold", detail).caused_by(error))
}

/// Forgets a value after a change that is done and cannot be taken back.
async fn forget(shared: &Shared, served: &Served, key: &Key) {
    if let Err(error) = served.cache.invalidate(key).await {
        let resource = served.resource.name.as_str();
        tracing::warn!(%error, resource, "the shared tier hears of a change when it is back");
        shared.untold.note().await;
    }
}

/// The writable fields of a body, and its mode.
fn fields(served: &Served, body: &Bytes) -> Result<(Vec<Option<String>>, Mode), Problem> {
    let mut given: Map<String, Json> = match body.is_empty() {
        true => Map::new(),
        false => serde_json::from_slice(body)
            .map_err(|_| Problem::malformed("body.malformed", "the body is no JSON object"))?,
    };
    let mode = Mode::of(given.remove("mode").as_ref())?;
    let mut fields = Vec::new();
    for name in &served.resource.declaration.writable {
        fields.push(field(name, given.remove(name))?);
    }
    if !given.is_empty() {
        let names = served.resource.declaration.writable.join(", ");
        let detail = format!("a body holds mode and {names}, nothing else");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "body.unknown_field", detail));
    }
    Ok((fields, mode))
}

fn field(name: &str, value: Option<Json>) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text))
            if (1..=FIELD_MAX_CHARS).contains(&text.chars().count()) && !text.contains('\0') =>
        {
            Ok(Some(text))
        }
        Some(_) => Err(Problem::out_of_range(format!(
            "{name} must be a text of 1 to {FIELD_MAX_CHARS} characters"
        ))),
    }
}
