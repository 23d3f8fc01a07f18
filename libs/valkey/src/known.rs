//! What is known of a server's abilities, until a connection is dialled again.

use std::sync::{Mutex, PoisonError};

use crate::{Ability, Error, Valkey};

/// What the server behind a connection has. One caller asks; who comes meanwhile waits for him.
#[derive(Debug, Default)]
pub(crate) struct Known {
    found: Mutex<Option<Found>>,
    asking: tokio::sync::Mutex<()>,
}

/// The answer, and how many connections had been made by then.
#[derive(Debug)]
struct Found {
    dials: u64,
    abilities: Vec<Ability>,
}

// === impl Known ===

impl Known {
    /// Whether the server has it; `None` when it was not asked yet, or is another by now.
    fn has(&self, ability: Ability, dials: u64) -> Option<bool> {
        let found = self.found();
        let found = found.as_ref().filter(|found| found.dials == dials)?;
        Some(found.abilities.contains(&ability))
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Option<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Valkey ===

impl Valkey {
    /// Whether the server has something that came after Redis 7.0; of a cluster, whether every
    /// primary has. Asked once for each connection that is made: another server may be behind it.
    /// One that cannot be asked has nothing.
    ///
    /// The server may still refuse a command that it has, to a user who may not run it, or because
    /// it is an older one that took over just now. Who is told so says [`Valkey::do_without`] and
    /// goes the way that every server knows.
    pub async fn has(&self, ability: Ability) -> bool {
        let (known, dials) = (self.known(), || self.dials());
        if let Some(has) = known.has(ability, dials()) {
            return has;
        }
        let _asking = known.asking.lock().await;
        // The first question may dial itself.
        for _ in 0..2 {
            let dials_before = dials();
            if let Some(has) = known.has(ability, dials_before) {
                return has;
            }
            let abilities = match self.abilities().await {
                Ok(abilities) => abilities,
                Err(Error::Denied { .. } | Error::Command { .. }) => Vec::new(),
                Err(_) => return false,
            };
            if dials() == dials_before {
                let dials = dials_before;
                *known.found() = Some(Found { dials, abilities });
            }
        }
        known.has(ability, dials()).unwrap_or(false)
    }

    /// The server refused it: it is not asked for again until a connection is made.
    pub fn do_without(&self, ability: Ability) {
        if let Some(found) = self.known().found().as_mut() {
            found.abilities.retain(|one| *one != ability);
        }
    }
}
