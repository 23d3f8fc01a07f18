//! `GET /bulk/{resource}`: many values, and one question to the origin for those that are missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use futures_util::future::join_all;
use ratebox_cache::Loaded;

use crate::params::Params;
use crate::problem::{Problem, Response, json};
use crate::read::{GRACE_S, ttl};
use crate::resource::Key;
use crate::served::Served;
use crate::service::Shared;
use crate::source::SourceError;
use crate::strategy::Strategy;

/// Keys of one request.
pub(crate) const IDS_MAX: usize = 500;

/// A map of the values that there are; keys that are not are left out.
///
/// # Errors
/// 422 for more than 500 ids or what is no id, 503.
pub(crate) async fn many(
    shared: &Shared,
    served: &Arc<Served>,
    uri: &Uri,
) -> Result<Response, Problem> {
    let mut params = Params::of(uri)?;
    let ids = params.text("ids").unwrap_or_default();
    let ttl = ttl(&mut params)?;
    params.finish()?;
    let keys = keys(served, &ids)?;
    // Absent keys are remembered, too, or each bulk read would ask for them again.
    let grace = Duration::from_secs(GRACE_S);
    let policy = Strategy::Negative.policy(ttl, grace, shared.settings.manner());
    let cache = served.cache.with_policy(policy);
    let asked: Vec<&Key> = keys.iter().collect();
    let loader = Arc::clone(served);
    let load = move |missing| load(Arc::clone(&loader), missing);
    let found = cache.get_many_or_load(&asked, load).await;
    let mut body = Vec::with_capacity(64 * keys.len() + 2);
    body.push(b'{');
    for (key, found) in keys.iter().zip(found.map_err(Problem::cache)?) {
        if let Some(value) = found {
            member(&mut body, key, &value);
        }
    }
    body.push(b'}');
    Ok(json(body))
}

/// One question to the origin for all keys that are missing.
async fn load(
    served: Arc<Served>,
    missing: Vec<String>,
) -> Result<HashMap<String, Loaded<Bytes>>, SourceError> {
    let kind = served.resource.declaration.key;
    let keys: Vec<Key> = missing.iter().flat_map(|key| kind.parse(key)).collect();
    let waited = join_all(keys.iter().map(|key| served.waiting(key))).await;
    let mut found = served.resource.source.get_many(&keys).await?;
    let mut loaded = HashMap::with_capacity(keys.len());
    for (key, waited) in keys.iter().zip(waited) {
        let one = served.load_with(key, found.remove(key), &waited).await?;
        loaded.insert(key.to_string(), one);
    }
    Ok(loaded)
}

fn member(body: &mut Vec<u8>, key: &Key, value: &Bytes) {
    if body.len() > 1 {
        body.push(b',');
    }
    let name = serde_json::Value::from(key.to_string());
    body.extend_from_slice(name.to_string().as_bytes());
    body.push(b':');
    body.extend_from_slice(value);
}

/// The keys of a list, each once.
fn keys(served: &Served, ids: &str) -> Result<BTreeSet<Key>, Problem> {
    let parts: Vec<&str> = ids
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .collect();
    if parts.is_empty() || parts.len() > IDS_MAX {
        return Err(Problem::out_of_range(format!(
            "ids is a list of 1 to {IDS_MAX} keys with commas between"
        )));
    }
    let kind = served.resource.declaration.key;
    parts.into_iter().map(|id| kind.parse(id)).collect()
}
