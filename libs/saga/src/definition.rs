//! What a saga is: steps, and how they hang together.

pub(crate) mod after;
pub(crate) mod builder;
mod check;
mod erase;
mod hash;
pub(crate) mod inputs;
pub(crate) mod plan;
pub(crate) mod step;
pub(crate) mod transaction;
pub(crate) mod values;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Builder;
use plan::Plan;

/// A definition that was built and checked: takes `I`, gives `O`. Cheap to clone.
pub struct Saga<I, O = ()> {
    plan: Arc<Plan>,
    types: PhantomData<fn(I) -> O>,
}

impl<I> Saga<I>
where
    I: Serialize + DeserializeOwned + Send + 'static,
{
    /// Begins a definition. Names are letters, digits, `-`, `_` and `.`.
    pub fn builder(name: &str) -> Builder<I> {
        Builder::new(name)
    }
}

impl<I, O> Saga<I, O> {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            types: PhantomData,
        }
    }

    /// The definition's name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The definition's version.
    pub fn version(&self) -> u32 {
        self.plan.version
    }

    /// The definition's hash: a saga is only run by the definition that it was started with.
    pub fn hash(&self) -> &str {
        &self.plan.hash
    }

    /// The names of the steps, in the order of their declaration.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.plan.nodes.iter().map(|node| &*node.name)
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }
}

impl<I, O> Clone for Saga<I, O> {
    fn clone(&self) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            types: PhantomData,
        }
    }
}

impl<I, O> std::fmt::Debug for Saga<I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.plan.fmt(f)
    }
}
