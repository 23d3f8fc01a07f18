//! `GET /bulk/{resource}`: many values, and one question to the origin for those that are missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::Uri;
use bytes::Bytes;
use futures_util::future::join_all;

use crate::gather::Gather;
use crate::params::Params;
use crate::problem::{Problem, Response, json};
use crate::read::ttl;
use crate::resource::Key;
use crate::served::Served;
use crate::service::Shared;
use crate::strategy::Strategy;

/// Keys of one request.
const IDS_MAX: usize = 500;

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
    let policy = Strategy::Negative.policy(ttl, ttl, shared.settings.manner());
    let cache = served.cache.with_policy(policy);
    let gather = Arc::new(Gather::new(served.resource.source.clone()));
    let each = keys.iter().map(|key| {
        let (served, gather, wanted) = (Arc::clone(served), Arc::clone(&gather), key.clone());
        let load = move || async move {
            let value = gather.load(wanted.clone()).await?;
            Ok::<_, crate::gather::BatchError>(served.loaded(&wanted, value))
        };
        cache.get_or_load(key, load)
    });
    let mut body = Vec::with_capacity(64 * keys.len() + 2);
    body.push(b'{');
    for (key, found) in keys.iter().zip(join_all(each).await) {
        if let Some(value) = found.map_err(Problem::cache)? {
            member(&mut body, key, &value);
        }
    }
    body.push(b'}');
    Ok(json(body))
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
