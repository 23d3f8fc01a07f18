//! Starts attempts.

use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::super::attempt::{Done, Limits, attempt};
use super::gather::unreadable;
use super::{Finished, Runner};
use crate::Ctx;
use crate::ctx::{Cancel, Run};
use crate::definition::plan::{Node, Undo, WayOn, Work};
use crate::listener::About;
use crate::machine::{Attempt, UnitKey};
use crate::time::after;

impl Runner {
    /// Starts every attempt that can start, as long as the lease lasts for certain.
    pub(super) fn launch(&mut self) {
        // What could start a moment ago may have been given up since.
        self.transactions.clear();
        if !self.session.is_valid() || self.session.draining.is_cancelled() {
            return;
        }
        for key in self.machine.startable(self.engine.now()) {
            if self.is_in_transaction(key) {
                self.transactions.push(key);
            } else {
                self.launch_one(key);
            }
        }
    }

    /// Whether the unit's next attempt is one in a transaction.
    fn is_in_transaction(&self, key: UnitKey) -> bool {
        let Some(node) = self.plan.nodes.get(key.node) else {
            return false;
        };
        match self.machine.next_attempt(key) {
            Some(next) if next.undoing => matches!(node.undo, Some(Undo::InTx(_))),
            Some(next) => matches!(node.work, Work::InTx(_)) && !next.alternative,
            None => false,
        }
    }

    /// What an attempt is told, and its limits.
    pub(super) fn prepare(&mut self, key: UnitKey) -> Option<(Attempt, Ctx, Limits)> {
        let begun = self.machine.begin(key)?;
        let node = self.plan.nodes.get(key.node)?;
        let timeout = if begun.undoing {
            node.undo_timeout
        } else {
            node.timeout
        };
        let cancel = Cancel::default();
        let run = Run {
            saga: self.id,
            step: Arc::clone(&node.name),
            item: node
                .width
                .map(|_| u32::try_from(key.item).unwrap_or(u32::MAX)),
            undoing: begun.undoing,
            attempt: begun.number,
            deadline: after(self.engine.now(), timeout),
            epoch: self.session.owner.epoch,
        };
        let limits = Limits {
            timeout,
            heartbeat: node.heartbeat.filter(|_| !begun.undoing),
            cancel: cancel.clone(),
            faults: self.engine.0.faults.clone(),
            has_result: self.machine.result(key).is_some(),
        };
        let about = About {
            saga: self.id,
            name: &self.plan.name,
        };
        let listeners = &self.engine.0.listeners;
        listeners.tell(about, |it| {
            it.on_step_enter(about, &node.name, begun.number)
        });
        if !begun.undoing {
            self.cancels.insert(key, cancel.clone());
        }
        Some((begun, Ctx::new(run, cancel), limits))
    }

    fn launch_one(&mut self, key: UnitKey) {
        let Some((begun, ctx, limits)) = self.prepare(key) else {
            return;
        };
        let plan = Arc::clone(&self.plan);
        let Some(node) = plan.nodes.get(key.node) else {
            return;
        };
        let work = if begun.undoing {
            self.undo(key, node, ctx.clone(), limits)
        } else {
            self.step(key, node, begun, ctx.clone(), limits)
        };
        let kind = if begun.undoing { "undo" } else { "step" };
        let span = match self.engine.0.settings.spans {
            true => tracing::info_span!("saga.step", saga.id = %self.id, saga.name = &*plan.name,
                saga.step.name = &*node.name, saga.step.type = kind,
                saga.step.retry_count = begun.number.saturating_sub(1)),
            false => tracing::Span::none(),
        };
        let started = Instant::now();
        let finished = async move {
            let done = work.await;
            Finished {
                key,
                done,
                took: started.elapsed(),
                sends: ctx.take_sends(),
            }
        };
        self.running.push(finished.instrument(span).boxed());
    }

    fn step(
        &self,
        key: UnitKey,
        node: &Node,
        begun: Attempt,
        ctx: Ctx,
        limits: Limits,
    ) -> BoxFuture<'static, Done> {
        let args = self.machine.args(key);
        let run = match (&node.work, &node.way_on) {
            (_, WayOn::Alternative(run)) if begun.alternative => Arc::clone(run),
            (Work::Run(run), _) => Arc::clone(run),
            (Work::Child(child), _) => {
                let (engine, child) = (self.engine.clone(), child.clone());
                return async move {
                    let work = engine.run_child(&ctx, &child, args);
                    Done::Step(attempt(&ctx, &limits, work).await)
                }
                .boxed();
            }
            (Work::InTx(_) | Work::Sleep(_) | Work::Signal(_), _) => {
                return ready(Done::Step(Err(unreadable()))).boxed();
            }
        };
        async move {
            // The call itself is inside, so that its panic is the attempt's.
            let given = ctx.clone();
            let work = async move { run(given, args).await };
            Done::Step(attempt(&ctx, &limits, work).await)
        }
        .boxed()
    }

    fn undo(
        &self,
        key: UnitKey,
        node: &Node,
        ctx: Ctx,
        limits: Limits,
    ) -> BoxFuture<'static, Done> {
        let (args, result) = (self.machine.args(key), self.machine.result(key));
        match node.undo.clone() {
            Some(Undo::Run(undo)) => async move {
                let given = ctx.clone();
                let work = async move { undo(given, args, result).await };
                Done::Undo(attempt(&ctx, &limits, work).await)
            }
            .boxed(),
            Some(Undo::Child) => {
                let engine = self.engine.clone();
                async move {
                    let work = engine.undo_child(&ctx);
                    Done::Undo(attempt(&ctx, &limits, work).await)
                }
                .boxed()
            }
            Some(Undo::InTx(_)) | None => ready(Done::Undo(Err(unreadable()))).boxed(),
        }
    }
}
