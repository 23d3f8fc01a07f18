//! Async functions as handlers.

use std::future::Future;
use std::sync::Arc;

use super::{Delivery, FromDelivery, Handled, IntoHandled, Settled, unsaved};
use crate::asyncapi::About;

/// An async function of up to eight extractors that returns what became of the message.
///
/// It is implemented by the functions themselves; `Args` tells them apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle messages of a router with state `{S}`",
    label = "no message handler",
    note = "a handler is an `async fn` of at most eight arguments that each implement \
            `FromDelivery<{S}>`; it returns a `Proof` (`Committed`, `Idempotent`, `NoEffects`) or \
            `Result<impl Proof, impl IntoFailure>`, and its future is `Send`",
    note = "`handler_check!` tells which argument or result is to blame"
)]
pub trait HandlerFn<Args, S>: Clone + Send + Sync + 'static {
    /// Makes the arguments and calls the function.
    fn call(self, delivery: Delivery, state: Arc<S>) -> impl Future<Output = Handled> + Send;

    /// What the arguments say of the message.
    fn describe(about: &mut About);
}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<F, Fut, R, S, $($arg,)*> HandlerFn<($($arg,)*), S> for F
        where
            F: FnOnce($($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send,
            R: IntoHandled,
            S: Send + Sync + 'static,
            $($arg: FromDelivery<S> + Send,)*
        {
            #[expect(
                clippy::allow_attributes,
                reason = "the function without arguments uses neither"
            )]
            #[allow(unused_mut, unused_variables, non_snake_case)]
            async fn call(self, mut delivery: Delivery, state: Arc<S>) -> Handled {
                $(
                    let $arg = match $arg::from_delivery(&mut delivery, &state).await {
                        Ok(argument) => argument,
                        Err(Settled(handled)) => return handled,
                    };
                )*
                // What the arguments did not take is given back before the function runs.
                drop(delivery);
                let handler = async move { self($($arg),*).await.into_handled() };
                match unsaved::watch(handler).await {
                    (Ok(_), true) => Err(unsaved::not_committed()),
                    (handled, _) => handled,
                }
            }

            #[expect(
                clippy::allow_attributes,
                reason = "the function without arguments describes nothing"
            )]
            #[allow(unused_variables)]
            fn describe(about: &mut About) {
                $($arg::describe(about);)*
            }
        }
    };
}

functions!();
functions!(A1);
functions!(A1 A2);
functions!(A1 A2 A3);
functions!(A1 A2 A3 A4);
functions!(A1 A2 A3 A4 A5);
functions!(A1 A2 A3 A4 A5 A6);
functions!(A1 A2 A3 A4 A5 A6 A7);
functions!(A1 A2 A3 A4 A5 A6 A7 A8);

/// Checks a handler against a state at compile time and names the argument that does not fit.
///
/// ```
/// # use ratebox_stream::handler::{Json, NoEffects, State};
/// async fn count(State(_total): State<u32>, Json(_number): Json<u32>) -> NoEffects { NoEffects }
/// ratebox_stream::handler_check!(count(State<u32>, Json<u32>) -> NoEffects, u32);
/// ```
#[macro_export]
macro_rules! handler_check {
    ($function:ident($($arg:ty),* $(,)?) -> $result:ty, $state:ty) => {
        const _: () = {
            const fn argument<T: $crate::handler::FromDelivery<$state>>() {}
            const fn result<T: $crate::handler::IntoHandled>() {}
            $(argument::<$arg>();)*
            result::<$result>();
            #[expect(dead_code, reason = "it is compiled, never called")]
            fn check() {
                fn function<Args, H: $crate::handler::HandlerFn<Args, $state>>(_: H) {}
                function::<($($arg,)*), _>($function);
            }
        };
    };
}
