//! What a saga is: steps, and how they hang together.

pub(crate) mod after;
pub(crate) mod builder;
mod check;
mod erase;
mod hash;
pub(crate) mod inputs;
pub(crate) mod outline;
pub(crate) mod plan;
pub(crate) mod step;
pub(crate) mod transaction;
pub(crate) mod values;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Builder;
use outline::Outline;
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
    ///
    /// A step's function gets the results of the steps that it names, and nothing else:
    ///
    /// ```
    /// # use ratebox_saga::{Ctx, Saga, StepResult};
    /// # async fn hotel(_: Ctx, _: u32) -> StepResult<String> { Ok(String::new()) }
    /// # async fn flight(_: Ctx, _: u32) -> StepResult<u64> { Ok(1) }
    /// # async fn pay(_: Ctx, _: (String, u64)) -> StepResult<bool> { Ok(true) }
    /// let b = Saga::<u32>::builder("trip");
    /// let room = b.step("hotel", hotel).no_undo("an example");
    /// let seat = b.step("flight", flight).no_undo("an example");
    /// b.after((room, seat)).step("pay", pay).no_undo("an example");
    /// b.build().unwrap();
    /// ```
    ///
    /// A step that was not named before it is not there to be read:
    ///
    /// ```compile_fail,E0631
    /// # use ratebox_saga::{Ctx, Saga, StepResult};
    /// # async fn hotel(_: Ctx, _: u32) -> StepResult<String> { Ok(String::new()) }
    /// # async fn flight(_: Ctx, _: u32) -> StepResult<u64> { Ok(1) }
    /// # async fn pay(_: Ctx, _: (String, u64)) -> StepResult<bool> { Ok(true) }
    /// let b = Saga::<u32>::builder("trip");
    /// let room = b.step("hotel", hotel);
    /// let seat = b.step("flight", flight);
    /// b.after(room).step("pay", pay); // it reads the flight, too
    /// ```
    ///
    /// An undo gets what its own step gave:
    ///
    /// ```compile_fail,E0631
    /// # use ratebox_saga::{Ctx, Saga, StepResult};
    /// # async fn hotel(_: Ctx, _: u32) -> StepResult<String> { Ok(String::new()) }
    /// # async fn no_flight(_: Ctx, _: u32, _: Option<u64>) -> StepResult { Ok(()) }
    /// let b = Saga::<u32>::builder("trip");
    /// let room = b.step("hotel", hotel).undo(no_flight);
    /// ```
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

    /// The definition without its functions.
    pub fn outline(&self) -> Outline {
        Outline::of(&self.plan)
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
