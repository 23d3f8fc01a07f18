//! Trimming as operators ask for it: by age, by count and by bytes, with groups that are not
//! waited for.

use crate::{Admin, Error, GroupName, Retention, StreamName, Trimmed};

/// Rounds of a trim by bytes: entries differ in size, so each round comes closer.
const BYTES_ROUNDS: usize = 8;

/// What a stream shall keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrimOrder {
    /// By age and count.
    pub retention: Retention,
    /// About so many bytes at most, as [`Admin::bytes`] counts them.
    pub max_bytes: Option<u64>,
    /// Groups whose entries may go unread: only those that somebody gave up by name.
    pub ignored: Vec<GroupName>,
}

/// Trims a stream. Entries that any group but the ignored ones still needs stay, whatever the
/// order says; [`Trimmed::held_by`] names the group that holds them.
///
/// # Errors
/// When the log is away; what was removed before stays so.
pub async fn trim(
    admin: &dyn Admin,
    stream: &StreamName,
    order: &TrimOrder,
) -> Result<Trimmed, Error> {
    let by_count = admin.trim_but(stream, order.retention, &order.ignored);
    let mut total = by_count.await?;
    let Some(max_bytes) = order.max_bytes else {
        return Ok(total);
    };
    for _ in 0..BYTES_ROUNDS {
        let bytes = admin.bytes(stream).await?;
        let length = admin.info(stream).await?.map_or(0, |info| info.length);
        if bytes <= max_bytes || length == 0 {
            break;
        }
        let keep = u128::from(length) * u128::from(max_bytes) / u128::from(bytes);
        let retention = Retention {
            max_age: None,
            max_len: Some(u64::try_from(keep).unwrap_or(0).min(length - 1)),
        };
        let round = admin.trim_but(stream, retention, &order.ignored).await?;
        total.removed += round.removed;
        total.held_by = round.held_by;
        if round.removed == 0 {
            break;
        }
    }
    Ok(total)
}
