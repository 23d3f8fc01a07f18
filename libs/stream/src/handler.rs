//! Handlers that are plain async functions.
//!
//! ```no_run
//! # use ratebox_stream::handler::{Failure, Idempotent, Json, Meta, OrFail, Router, State};
//! # #[derive(Clone)] struct Mailer;
//! # impl Mailer { async fn greet(&self, _: &str, _: &str) -> std::io::Result<()> { Ok(()) } }
//! # #[derive(serde::Deserialize)] struct Signup { name: String }
//! async fn welcome(
//!     State(mailer): State<Mailer>,
//!     meta: Meta,
//!     Json(signup): Json<Signup>,
//! ) -> Result<Idempotent, Failure> {
//!     mailer.greet(&signup.name, meta.id()).await.or_retry("mail.away")?;
//!     Ok(Idempotent::because("the mailer drops a second greeting with the same id"))
//! }
//!
//! let router = Router::with_state(Mailer).on("user.signed_up", welcome);
//! ```
//!
//! Arguments are extractors ([`FromDelivery`]): [`Json`], [`bytes::Bytes`], [`Meta`], [`State`],
//! [`Tx`], or one of your own. The result says what became of the message: a [`Proof`] that
//! acknowledging it loses nothing, or a [`Failure`]. [`Router`] sends each message to the handler
//! of its type and is itself a [`crate::Handler`]; [`Worker`] runs it.

mod batch;
mod batch_function;
mod delivery;
mod extract;
mod failure;
mod function;
pub(crate) mod gather;
mod letters;
mod proof;
mod reply;
mod route;
mod router;
mod trace;
mod tx;
mod unsaved;
mod worker;

pub use batch::Batch;
pub use batch::Decided;
pub use batch::Item;
pub use batch_function::BatchFn;
pub use batch_function::Decision;
pub use batch_function::Decisions;
pub use batch_function::FromBatch;
pub use batch_function::IntoDecided;
pub use batch_function::Members;
pub use delivery::Delivery;
pub use delivery::Headers;
pub use delivery::Meta;
pub use delivery::TYPE_HEADER;
pub use extract::FromDelivery;
pub use extract::FromRef;
pub use extract::Json;
pub use extract::Settled;
pub use extract::State;
pub use failure::Failure;
pub use failure::FailureKind;
pub use failure::IntoFailure;
pub use failure::OrFail;
pub use function::HandlerFn;
pub use gather::Gather;
pub use letters::LetterStream;
pub use proof::Handled;
pub use proof::Idempotent;
pub use proof::IntoHandled;
pub use proof::NoEffects;
pub use proof::Proof;
pub use reply::Reply;
pub use reply::Results;
pub use route::Route;
pub use router::CONCURRENCY;
pub use router::Router;
pub use trace::TraceContext;
pub use tx::Effects;
pub use tx::Tx;
pub use worker::STOP_WITHIN;
pub use worker::Worker;
