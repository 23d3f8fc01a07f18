//! What a handler may ask for in its arguments.

use std::convert::Infallible;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{Delivery, Failure, Handled, Meta, Proof};
use crate::asyncapi::About;

/// An argument of a handler, made from the delivery and the router's state.
///
/// ```
/// use ratebox_stream::handler::{Delivery, Failure, FromDelivery, Settled};
///
/// /// The tenant that a message belongs to.
/// struct Tenant(String);
///
/// impl<S: Sync> FromDelivery<S> for Tenant {
///     async fn from_delivery(delivery: &mut Delivery, _state: &S) -> Result<Self, Settled> {
///         let tenant = delivery.meta.header("tenant");
///         let tenant = tenant.ok_or_else(|| Failure::malformed("tenant.missing", "no tenant"))?;
///         Ok(Self(tenant.to_owned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler whose state is `{S}`",
    label = "no extractor for this state",
    note = "extractors are `Json<T>`, `Bytes`, `Meta`, `State<T>` (where `T: FromRef<{S}>`), `Tx` \
            (where `Effects: FromRef<{S}>`) and whatever implements `FromDelivery<{S}>`"
)]
pub trait FromDelivery<S>: Sized {
    /// Makes it, or says what becomes of the message instead of calling the handler.
    fn from_delivery(
        delivery: &mut Delivery,
        state: &S,
    ) -> impl Future<Output = Result<Self, Settled>> + Send;

    /// Adds what it knows of the message to the router's description.
    fn describe(_about: &mut About) {}
}

/// What became of a message before its handler was called.
#[derive(Debug)]
pub struct Settled(pub(crate) Handled);

// === impl Settled ===

impl Settled {
    /// The message is done already: its handler is not called.
    pub fn done(proof: impl Proof) -> Self {
        Self(Ok(proof.into_committed()))
    }
}

impl From<Failure> for Settled {
    fn from(failure: Failure) -> Self {
        Self(Err(failure))
    }
}

/// The body, read as JSON. What cannot be read is a dead letter of class `malformed` with code
/// `payload.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromDelivery<S> for Json<T> {
    async fn from_delivery(delivery: &mut Delivery, _state: &S) -> Result<Self, Settled> {
        let read = serde_json::from_slice(&delivery.body);
        Ok(Self(read.map_err(|error| unreadable(&error))?))
    }

    fn describe(about: &mut About) {
        about.json_of(std::any::type_name::<T>());
    }
}

/// Where it went wrong and how, without the parser's words: they quote the payload.
fn unreadable(error: &serde_json::Error) -> Failure {
    let (line, column) = (error.line(), error.column());
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Syntax => "is no JSON",
        serde_json::error::Category::Data => "has another shape than the handler reads",
        serde_json::error::Category::Io => "could not be read",
    };
    Failure::malformed(
        "payload.json",
        format_args!("the body {what} (line {line}, column {column})"),
    )
}

/// The body as it is.
impl<S: Sync> FromDelivery<S> for Bytes {
    async fn from_delivery(delivery: &mut Delivery, _state: &S) -> Result<Self, Settled> {
        Ok(delivery.body.clone())
    }
}

impl<S: Sync> FromDelivery<S> for Meta {
    async fn from_delivery(delivery: &mut Delivery, _state: &S) -> Result<Self, Settled> {
        Ok(delivery.meta.clone())
    }
}

/// The whole delivery, for handlers that take the message apart themselves.
impl<S: Sync> FromDelivery<S> for Delivery {
    async fn from_delivery(delivery: &mut Delivery, _state: &S) -> Result<Self, Settled> {
        Ok(delivery.clone())
    }
}

/// `None` where the argument could not be made because of the message itself.
impl<T: FromDelivery<S> + Send, S: Sync> FromDelivery<S> for Option<T> {
    async fn from_delivery(delivery: &mut Delivery, state: &S) -> Result<Self, Settled> {
        match T::from_delivery(delivery, state).await {
            Ok(made) => Ok(Some(made)),
            Err(Settled(Err(failure))) if is_the_messages_fault(&failure) => Ok(None),
            Err(settled) => Err(settled),
        }
    }

    fn describe(about: &mut About) {
        T::describe(about);
    }
}

fn is_the_messages_fault(failure: &Failure) -> bool {
    matches!(failure.kind(), super::FailureKind::Dead(_))
}

/// What the router was given, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

impl<T: FromRef<S> + Send, S: Sync> FromDelivery<S> for State<T> {
    async fn from_delivery(_delivery: &mut Delivery, state: &S) -> Result<Self, Settled> {
        Ok(Self(T::from_ref(state)))
    }
}

/// A part of the router's state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no part of the state `{S}`",
    label = "not in the router's state",
    note = "implement `FromRef<{S}>` for `{Self}`: clone the field that holds it"
)]
pub trait FromRef<S> {
    /// Clones the part out.
    fn from_ref(state: &S) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}

impl From<Infallible> for Settled {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
