//! Why a message may be acknowledged.
//!
//! There is no way to say "done" by returning nothing: a handler names one of three reasons.

use ratebox_db::Committed;

use super::{Failure, IntoFailure};

/// What a handler says in the end.
pub type Handled = Result<Committed, Failure>;

/// The effects may be applied twice without harm: after a crash the message comes again.
#[derive(Clone, Copy, Debug)]
pub struct Idempotent {
    _made_with_a_reason: (),
}

// === impl Idempotent ===

impl Idempotent {
    /// Says why a second run harms nobody. The reason is for the reader of the code.
    pub fn because(_reason: &'static str) -> Self {
        Self {
            _made_with_a_reason: (),
        }
    }
}

/// The handler changed nothing outside itself.
#[derive(Clone, Copy, Debug)]
pub struct NoEffects;

/// Why a message may be acknowledged. Sealed: there are three reasons.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not prove that the message may be acknowledged",
    label = "no proof",
    note = "return `Committed` (from `tx.commit().await?`), `Idempotent::because(\"…\")` or \
            `NoEffects`"
)]
pub trait Proof: sealed::Sealed {
    /// The message is done.
    fn into_committed(self) -> Committed;
}

impl Proof for Committed {
    fn into_committed(self) -> Committed {
        self
    }
}

impl Proof for Idempotent {
    fn into_committed(self) -> Committed {
        Committed::outside("its effects may be applied twice")
    }
}

impl Proof for NoEffects {
    fn into_committed(self) -> Committed {
        Committed::outside("it has no effects")
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for ratebox_db::Committed {}
    impl Sealed for super::Idempotent {}
    impl Sealed for super::NoEffects {}
}

/// What a handler may return: a [`Proof`], or a `Result` of one and an [`IntoFailure`].
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "neither a proof nor a `Result` of one",
    note = "return a `Proof` (`Committed`, `Idempotent`, `NoEffects`) or `Result<impl Proof, impl \
            IntoFailure>`",
    note = "an error type says by `IntoFailure` what becomes of the message; any other error says \
            it in place: `.or_retry(\"code\")?`, `.or_dead(\"code\")?`, `.or_pause(\"code\")?`"
)]
pub trait IntoHandled {
    /// What the handler said.
    ///
    /// # Errors
    /// The handler's own failure.
    fn into_handled(self) -> Handled;
}

impl<P: Proof> IntoHandled for P {
    fn into_handled(self) -> Handled {
        Ok(self.into_committed())
    }
}

impl<P: Proof, E: IntoFailure> IntoHandled for Result<P, E> {
    fn into_handled(self) -> Handled {
        self.map(Proof::into_committed)
            .map_err(IntoFailure::into_failure)
    }
}
