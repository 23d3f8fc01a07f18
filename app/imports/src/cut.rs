//! The steps `open` and `submit`, and the undo of `submit`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use ratebox_intake::{Cut, ITEMS_MAX, Lane, Part, Profile, Request, Terms, parse_taken_bulk};
use ratebox_kit::FollowUp;
use ratebox_saga::{Ctx, StepError, StepResult};
use ratebox_store::{NewRequest, OpenImport, Tx};
use ratebox_stream::field;
use uuid::Uuid;

use crate::Desk;
use crate::desk::{failed, inbox_failed, unknown};

impl Desk {
    /// The import is there. What matters is the undo, [`Desk::close`]: it is the last of all.
    pub(crate) async fn open(self: Arc<Self>, _: Ctx, import: Uuid) -> StepResult {
        let pulse = self.store.import_pulse(import).await.map_err(failed)?;
        pulse.map(drop).ok_or_else(unknown)
    }

    /// Cuts the datasets into requests and keeps these, with their messages, in the transaction of
    /// the step's record. A small import came with its requests and has nothing left to cut.
    pub(crate) fn submit(
        self: Arc<Self>,
        tx: &mut Tx,
        ctx: Ctx,
        import: Uuid,
    ) -> BoxFuture<'_, StepResult> {
        async move {
            let held = self.store.hold_import(tx, import).await.map_err(failed)?;
            let mut held = held.ok_or_else(unknown)?;
            let Some(body) = held.body.take() else {
                return Ok(());
            };
            if held.cancel_asked {
                return Err(cancelled());
            }
            let parts = cut(import, &held, &body)?;
            let mut rows = Vec::with_capacity(parts.len());
            for part in parts {
                let envelope = Bytes::from(part.request.to_message());
                ctx.send(self.message(&part.request, envelope.clone()));
                rows.push(NewRequest::of(&part.request, envelope));
            }
            let insert = self.store.insert_requests(&rows).map_err(failed)?;
            // By `?` a statement that lacks its table would end the import for good.
            let inserted = tx.execute(insert).await;
            inserted.map_err(|error| failed(error.into()))?;
            let submitted = self.store.import_is_submitted(tx, import).await;
            submitted.map_err(failed)
        }
        .boxed()
    }

    /// Takes back the requests that have no verdict yet. Their mark in the workers' inbox and
    /// their state are one transaction: a worker that has a request under way commits first, and
    /// then it is judged, or it finds the mark, and then it never is.
    pub(crate) fn take_back(
        self: Arc<Self>,
        tx: &mut Tx,
        _: Ctx,
        import: Uuid,
    ) -> BoxFuture<'_, StepResult> {
        async move {
            let open = self.store.unjudged_requests(tx, import).await;
            let open = open.map_err(failed)?;
            if open.is_empty() {
                return Ok(());
            }
            let fresh = self.inbox.mark(tx, &open).await.map_err(inbox_failed)?;
            let fresh: Vec<Uuid> = open.into_iter().filter(|id| fresh.contains(id)).collect();
            let cancelled = self.store.cancel_requests(tx, fresh).await;
            let requests = cancelled.map_err(failed)?;
            tracing::info!(import.id = %import, "cancelled {requests} requests of an import");
            Ok(())
        }
        .boxed()
    }

    /// What a gateway would publish for this request.
    fn message(&self, request: &Request, envelope: Bytes) -> FollowUp {
        let lane = match request.lane {
            Lane::High => ratebox_stream::Lane::High,
            Lane::Normal => ratebox_stream::Lane::Normal,
            Lane::Low => ratebox_stream::Lane::Low,
        };
        let mut message = FollowUp::new(self.settings.lanes.stream(lane).as_str(), envelope);
        message.id = request.request_id;
        for (name, value) in [("key", &request.key), ("traceparent", &request.traceparent)] {
            if let Some(value) = value {
                message = message.with_header(name, value);
            }
        }
        if self.settings.tells_owner {
            message = message.with_header(field::OWNER, &request.owner);
        }
        match &request.key {
            Some(key) => message.ordered_by(format!("{}/{key}", request.owner)),
            None => message,
        }
    }
}

/// The same parts as the gateway told its client of.
fn cut(import: Uuid, held: &OpenImport, body: &[u8]) -> StepResult<Vec<Part>> {
    // It was read once before it was taken, within the limits of the gateway; that may have been one
    // of an earlier release, which refused less.
    let datasets = parse_taken_bulk(body).map_err(StepError::rejected)?;
    let profile = held.profile.as_deref().and_then(Profile::from_word);
    let cut = Cut {
        import,
        owner: &held.owner,
        defaults: &Terms::of_importer(profile),
        traceparent: held.traceparent.as_deref(),
        items_max: ITEMS_MAX,
    };
    Ok(cut.parts(datasets))
}

pub(crate) fn cancelled() -> StepError {
    StepError::rejected("cancelled by its owner")
}
