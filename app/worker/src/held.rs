//! Which requests the bus still holds for the workers.

use std::collections::HashSet;

use ratebox_stream::{Admin, Entry, Error, LaneFloor, Subscription};
use uuid::Uuid;

/// Entries looked at in one go: few at first, then as many as make about so many bytes.
const FIRST_PAGE: usize = 16;
const PAGE_MAX: usize = 1_000;
const PAGE_BYTES: usize = 1024 * 1024;

/// Entries looked at in all. Behind them a request counts as lost when the floor says so: it may be
/// published twice, which the inbox takes care of.
const LOOK_MAX: usize = 100_000;

/// The requests of the entries that a lane owes the workers.
#[derive(Default)]
pub(crate) struct Held(HashSet<Uuid>);

impl Held {
    /// Reads the lane from its floor on.
    ///
    /// # Errors
    /// When the bus is away.
    pub(crate) async fn on(
        floor: &LaneFloor,
        admin: &dyn Admin,
        sub: &Subscription,
    ) -> Result<Self, Error> {
        let mut held = Self::default();
        let mut next = floor.owed_from;
        let (mut seen, mut page) = (0, FIRST_PAGE);
        while let Some(from) = next.filter(|_| seen < LOOK_MAX) {
            let entries = admin.peek(&floor.stream, from, page).await?;
            let more = entries.last().filter(|_| entries.len() == page);
            next = more.map(|it| it.id.next());
            seen += entries.len();
            page = page_after(&entries);
            let ours = |only_for: Option<&str>| only_for.is_none_or(|it| it == sub.group.as_str());
            let ids = entries.iter().filter(|it| ours(it.only_for()));
            held.0
                .extend(ids.filter_map(|it| Uuid::parse_str(&it.message_id()).ok()));
        }
        Ok(held)
    }

    pub(crate) fn has(&self, request: Uuid) -> bool {
        self.0.contains(&request)
    }
}

/// Entries of the next look, by the size of these.
fn page_after(entries: &[Entry]) -> usize {
    let fields = entries.iter().flat_map(|it| &it.fields);
    let bytes: usize = fields.map(|(_, value)| value.len()).sum();
    (PAGE_BYTES * entries.len() / bytes.max(1)).clamp(1, PAGE_MAX)
}
