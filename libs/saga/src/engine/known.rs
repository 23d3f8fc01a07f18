//! Sagas that are parked because whoever had them lacks their definition: a process that has it
//! takes them over and lets them go on. So a rolling deploy needs no operator.

use std::collections::HashMap;
use std::sync::Arc;

use ratebox_kit::Timestamp;

use super::Engine;
use super::poll::activate;
use super::session::Session;
use crate::journal::store::{Filter, Head};
use crate::{Kind, Result, SagaId, Status};

/// Parked sagas that one look reads.
const PAGE: usize = 200;
/// Parked sagas that are remembered as waiting for an operator.
const LOOKED_MAX: usize = 10_000;

/// What earlier looks found.
#[derive(Default)]
pub(super) struct Looks {
    /// The page to go on behind.
    after: Option<SagaId>,
    /// Parked for another reason, when their heads were as of then.
    others: HashMap<SagaId, Timestamp>,
}

impl Looks {
    /// One look at a page of the parked sagas.
    pub(super) async fn look(&mut self, engine: &Engine, session: &Arc<Session>) -> Result<()> {
        let room = engine.0.permits.available_permits().min(PAGE);
        if room == 0 {
            return Ok(());
        }
        let heads = self.page(engine).await?;
        let known: Vec<SagaId> = heads
            .iter()
            .filter(|it| engine.plan(&it.definition, &it.hash).is_some())
            .filter(|it| self.others.get(&it.id) != Some(&it.updated_at))
            .map(|it| it.id)
            .take(room)
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let mut taken = Vec::new();
        for stored in engine.0.store.load(&known).await? {
            let head = stored.head;
            let is_whole = stored.records.last().map(|it| it.kind) == Some(Kind::Parked);
            if !is_whole {
                self.remember(&head);
            } else if engine.0.store.take_parked(session.owner, head.id).await? {
                taken.push(head.id);
            }
        }
        if !taken.is_empty() {
            let sagas = taken.len();
            tracing::info!(
                sagas,
                "took sagas over that were parked without their definition"
            );
            engine.0.stats.adopted(sagas);
        }
        activate(engine, session, &taken).await
    }

    async fn page(&mut self, engine: &Engine) -> Result<Vec<Head>> {
        let filter = Filter {
            statuses: vec![Status::Parked],
            after: self.after,
            limit: PAGE,
            ..Filter::default()
        };
        let heads = engine.0.store.list(&filter).await?;
        let is_whole = heads.len() == PAGE;
        self.after = heads.last().map(|it| it.id).filter(|_| is_whole);
        Ok(heads)
    }

    fn remember(&mut self, head: &Head) {
        if self.others.len() >= LOOKED_MAX {
            self.others.clear();
        }
        self.others.insert(head.id, head.updated_at);
    }
}
