//! Async functions over a [`Batch`].

use std::collections::HashSet;
use std::sync::Arc;

use ratebox_db::Committed;
use ratebox_kit::MessageId;

use super::batch::Batch;
use super::{
    Decided, Delivery, FromDelivery, FromRef, Handled, Idempotent, IntoFailure, NoEffects,
    Proof as _, Settled, State, unsaved,
};
use crate::asyncapi::About;

/// What became of the messages of one call, by their place in it. A place that is missing was not
/// decided.
pub type Decisions = Vec<(usize, Handled)>;

/// The messages of a call while its arguments are made.
#[derive(Debug)]
pub struct Members {
    ids: Vec<MessageId>,
    done: HashSet<MessageId>,
}

// === impl Members ===

impl Members {
    /// The ids of all messages.
    pub fn ids(&self) -> &[MessageId] {
        &self.ids
    }

    /// Takes messages out whose effect was there before: they are acknowledged, and the handler
    /// does not see them.
    pub fn already_done(&mut self, ids: impl IntoIterator<Item = MessageId>) {
        self.done.extend(ids);
    }
}

/// An argument of a batch handler besides its [`Batch`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a batch handler whose state is `{S}`",
    label = "no argument of a batch handler",
    note = "a batch handler takes `State<T>`, `Tx`, or what implements `FromBatch<{S}>`, and \
            `Batch<T>` last"
)]
pub trait FromBatch<S>: Sized {
    /// Makes it, or says what becomes of all messages.
    fn from_batch(
        members: &mut Members,
        state: &S,
    ) -> impl Future<Output = Result<Self, Settled>> + Send;
}

impl<T: FromRef<S> + Send, S: Sync> FromBatch<S> for State<T> {
    async fn from_batch(_members: &mut Members, state: &S) -> Result<Self, Settled> {
        Ok(Self(T::from_ref(state)))
    }
}

/// What a batch handler may return.
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot return `{Self}`",
    label = "neither decisions nor a proof",
    note = "return `Vec<Decided>` (one for each item), a proof for all (`Committed`, `Idempotent`, \
            `NoEffects`), or a `Result` of either"
)]
pub trait IntoDecided {
    /// The decisions, or one for all.
    fn into_decided(self) -> Decision;
}

/// Decisions of a batch handler.
#[derive(Debug)]
pub enum Decision {
    /// One for each item.
    Each(Vec<Decided>),
    /// The same for all.
    All(Result<Committed, super::Failure>),
}

impl IntoDecided for Vec<Decided> {
    fn into_decided(self) -> Decision {
        Decision::Each(self)
    }
}

macro_rules! proofs {
    ($($proof:ty)*) => {
        $(impl IntoDecided for $proof {
            fn into_decided(self) -> Decision {
                Decision::All(Ok(self.into_committed()))
            }
        })*
    };
}

proofs!(Committed Idempotent NoEffects);

impl<T: IntoDecided, E: IntoFailure> IntoDecided for Result<T, E> {
    fn into_decided(self) -> Decision {
        match self {
            Ok(decided) => decided.into_decided(),
            Err(error) => Decision::All(Err(error.into_failure())),
        }
    }
}

/// An async function of up to three [`FromBatch`] arguments and a [`Batch`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle batches of a router with state `{S}`",
    label = "no batch handler",
    note = "a batch handler is an `async fn` of at most three arguments that implement \
            `FromBatch<{S}>`, then `Batch<T>` where `T` is an extractor; it returns `Vec<Decided>`, \
            a proof, or a `Result` of either"
)]
pub trait BatchFn<Args, S>: Clone + Send + Sync + 'static {
    /// Makes the arguments and calls the function.
    fn call(
        self,
        deliveries: Vec<Delivery>,
        state: Arc<S>,
    ) -> impl Future<Output = Decisions> + Send;

    /// What the items say of the message.
    fn describe(about: &mut About);
}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<F, Fut, R, S, T, $($arg,)*> BatchFn<($($arg,)* Batch<T>,), S> for F
        where
            F: FnOnce($($arg,)* Batch<T>) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send,
            R: IntoDecided,
            S: Send + Sync + 'static,
            T: FromDelivery<S> + Send,
            $($arg: FromBatch<S> + Send,)*
        {
            #[expect(
                clippy::allow_attributes,
                reason = "the function without arguments uses neither"
            )]
            #[allow(unused_mut, unused_variables, non_snake_case)]
            async fn call(self, deliveries: Vec<Delivery>, state: Arc<S>) -> Decisions {
                let places: Vec<usize> = (0..deliveries.len()).collect();
                let mut members = Members {
                    ids: deliveries.iter().map(|it| it.meta.message_id()).collect(),
                    done: HashSet::new(),
                };
                $(
                    let $arg = match $arg::from_batch(&mut members, &state).await {
                        Ok(argument) => argument,
                        Err(Settled(handled)) => return for_all(&places, &handled),
                    };
                )*
                let (items, mut decisions) = read::<T, S>(deliveries, &members, &state).await;
                let places: Vec<usize> = items.iter().map(|(place, ..)| *place).collect();
                let handler = async move {
                    self($($arg,)* Batch::new(items)).await.into_decided()
                };
                let (decided, is_unsaved) = unsaved::watch(handler).await;
                let mut decided: Decisions = match decided {
                    Decision::Each(decided) => {
                        decided.into_iter().map(|it| (it.place, it.handled)).collect()
                    }
                    Decision::All(handled) => {
                        for_all(&places, &handled)
                    }
                };
                if is_unsaved {
                    take_back(&mut decided);
                }
                decisions.extend(decided);
                decisions
            }

            fn describe(about: &mut About) {
                T::describe(about);
            }
        }
    };
}

functions!();
functions!(A1);
functions!(A1 A2);
functions!(A1 A2 A3);

/// Makes the items; what cannot be read, or was done before, is decided without the handler.
async fn read<T: FromDelivery<S>, S: Sync>(
    deliveries: Vec<Delivery>,
    members: &Members,
    state: &S,
) -> (Vec<(usize, super::Meta, T)>, Decisions) {
    let (mut items, mut decisions) = (Vec::with_capacity(deliveries.len()), Vec::new());
    for (place, mut delivery) in deliveries.into_iter().enumerate() {
        if members.done.contains(&members.ids[place]) {
            decisions.push((place, Ok(done_before())));
            continue;
        }
        match T::from_delivery(&mut delivery, state).await {
            Ok(value) => items.push((place, delivery.meta, value)),
            Err(Settled(handled)) => decisions.push((place, handled)),
        }
    }
    (items, decisions)
}

pub(crate) fn done_before() -> Committed {
    Committed::outside("its mark was committed with its effects before")
}

/// Nothing is done whose work was lost.
fn take_back(decisions: &mut Decisions) {
    for (_, handled) in decisions.iter_mut().filter(|(_, it)| it.is_ok()) {
        *handled = Err(unsaved::not_committed());
    }
}

/// The same for every place.
fn for_all(places: &[usize], handled: &Handled) -> Decisions {
    let same = |place: &usize| (*place, handled.clone());
    places.iter().map(same).collect()
}
