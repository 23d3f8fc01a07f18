//! What a step gets: the results of the steps that it names. Naming them is what orders it.

use std::sync::Arc;

use super::step::Step;
use super::values::Output;
use crate::StepResult;

/// Outputs of the steps that are read, in order.
pub(crate) type Outputs<'a> = std::slice::Iter<'a, Output>;

/// Reads arguments from outputs.
pub(crate) type ReadArgs<A> = Arc<dyn Fn(&mut Outputs<'_>) -> StepResult<A> + Send + Sync>;

/// Which step of which builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepKey {
    pub(crate) builder: usize,
    pub(crate) index: usize,
}

/// Stands for the saga's own input among the steps.
pub(crate) const INPUT: usize = usize::MAX;

/// Steps to read, and how to read them.
pub struct Source<A> {
    pub(crate) steps: Vec<StepKey>,
    pub(crate) read: ReadArgs<A>,
}

/// Handles of steps whose results a step gets: one handle, a tuple of up to eight, or `()`.
pub trait Inputs {
    /// What the step's function gets.
    type Value: Send + 'static;

    /// Which steps, and how to read them.
    #[doc(hidden)]
    fn source(&self) -> Source<Self::Value>;
}

impl Inputs for () {
    type Value = ();

    fn source(&self) -> Source<()> {
        Source {
            steps: Vec::new(),
            read: Arc::new(|_| Ok(())),
        }
    }
}

impl<A: 'static, T: 'static, R: Send + 'static> Inputs for Step<'_, A, T, R> {
    type Value = R;

    fn source(&self) -> Source<R> {
        let read = self.read;
        Source {
            steps: vec![self.key()],
            read: Arc::new(move |outputs| read(outputs.next().unwrap_or(&Output::Skipped))),
        }
    }
}

macro_rules! tuples {
    ($($name:ident $at:tt),+) => {
        impl<$($name: Inputs),+> Inputs for ($($name,)+) {
            type Value = ($($name::Value,)+);

            fn source(&self) -> Source<Self::Value> {
                let sources = ($(self.$at.source(),)+);
                let mut steps = Vec::new();
                $(steps.extend_from_slice(&sources.$at.steps);)+
                let reads = ($(sources.$at.read,)+);
                Source {
                    steps,
                    read: Arc::new(move |outputs| Ok(($((reads.$at)(outputs)?,)+))),
                }
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
