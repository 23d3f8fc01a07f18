//! Which requests the bus still holds for the workers.

use std::collections::HashSet;

use ratebox_stream::{Admin, Error, LaneFloor, Subscription};
use uuid::Uuid;

/// Entries looked at in one go.
const PAGE: usize = 1_000;

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
        let mut seen = 0;
        while let Some(from) = next.filter(|_| seen < LOOK_MAX) {
            let entries = admin.peek(&floor.stream, from, PAGE).await?;
            seen += entries.len();
            let full = entries.len() == PAGE;
            next = entries.last().filter(|_| full).map(|it| it.id.next());
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
