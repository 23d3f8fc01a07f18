//! Why an operator's wish was not done.

use uuid::Uuid;

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such letter.
    #[error("there is no dead letter {id}")]
    UnknownLetter {
        /// What was asked for.
        id: Uuid,
    },
    /// The letter was replayed; what is on its way cannot be changed.
    #[error("the letter is on its way; it can be changed once it has died again")]
    OnItsWay,
    /// The letter was replayed, and its request has a verdict.
    #[error("the letter's message has its verdict; there is nothing left to change or to send")]
    Resolved,
    /// A reason is missing or too long.
    #[error(
        "a reason is needed, of at most {} characters",
        crate::REASON_CHARS_MAX
    )]
    NoReason,
    /// The edited fields are no message.
    #[error("the edited payload is no message: {what}")]
    NotAMessage {
        /// What is wrong; never the data.
        what: String,
    },
    /// The edited fields would be another message than the one that died.
    #[error("the edited payload must keep {what} of the message that died")]
    NotTheSame {
        /// What must stay.
        what: &'static str,
    },
    /// The edit cannot be applied to a letter of this form.
    #[error("{what}")]
    WrongEdit {
        /// What to do instead.
        what: &'static str,
    },
    /// No group of the requests has such a consumer.
    #[error("the group has no such consumer")]
    UnknownConsumer,
    /// The consumer lives.
    #[error("the consumer was seen {idle_s} s ago; force it if you know that it is dead")]
    Alive {
        /// How long ago it was seen.
        idle_s: u64,
    },
    /// The name is taken.
    #[error("there is a group of that name already; a replay needs a new one")]
    GroupExists,
    /// A line of an import is no entry, or was masked.
    #[error("line {number} is no entry of an unmasked export")]
    NotALine {
        /// From 1.
        number: u64,
    },
    /// A number is out of its range.
    #[error("{what} must be between {min} and {max}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// Other letters match now than those that the dry run counted.
    #[error("{now} letters match now, not {expected}; look again before you purge")]
    CountChanged {
        /// What the dry run said.
        expected: u64,
        /// What is so now.
        now: u64,
    },
    /// The store could not serve the call.
    #[error("the store did not serve the call")]
    Store(#[from] ratebox_store::Error),
    /// The deed is done, and only the audit log knows nothing of it.
    #[error("it is done, but the audit log has no line of it")]
    Unwritten(#[source] ratebox_store::Error),
    /// The event could not be staged.
    #[error("the replay could not be put into the outbox")]
    Outbox(#[from] ratebox_outbox::Error),
    /// The bus could not serve the call.
    #[error("the bus did not serve the call")]
    Bus(#[from] ratebox_stream::Error),
    /// No process ever told the journal of such a definition.
    #[error("the journal knows no definition {name}")]
    UnknownDefinition {
        /// What was asked for.
        name: String,
    },
    /// An order that cannot be taken back was to go to whatever sagas there are.
    #[error("name a definition, a key or a parent: this order is not given to all sagas at once")]
    TooWide,
    /// The journal of sagas could not serve the call, or a saga does not take an order.
    #[error(transparent)]
    Saga(#[from] ratebox_saga::Error),
    /// What was read or was to be written elsewhere failed.
    #[error("could not read or write")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Bus(error) => error.is_retryable(),
            Self::Saga(error) => error.is_retryable(),
            // A second time would be a second deed.
            Self::Unwritten(_)
            | Self::Outbox(_)
            | Self::UnknownLetter { .. }
            | Self::OnItsWay
            | Self::Resolved
            | Self::NoReason
            | Self::NotAMessage { .. }
            | Self::NotTheSame { .. }
            | Self::WrongEdit { .. }
            | Self::UnknownConsumer
            | Self::UnknownDefinition { .. }
            | Self::TooWide
            | Self::Alive { .. }
            | Self::GroupExists
            | Self::NotALine { .. }
            | Self::OutOfRange { .. }
            | Self::CountChanged { .. }
            | Self::Io(_) => false,
        }
    }

    /// A stable code for answers and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownLetter { .. } => "dead_letter.unknown",
            Self::OnItsWay => "dead_letter.on_its_way",
            Self::Resolved => "dead_letter.resolved",
            Self::NoReason => "reason.missing",
            Self::NotAMessage { .. } => "dead_letter.not_a_message",
            Self::NotTheSame { .. } => "dead_letter.other_message",
            Self::WrongEdit { .. } => "dead_letter.wrong_edit",
            Self::UnknownConsumer => "consumer.unknown",
            Self::Alive { .. } => "consumer.alive",
            Self::GroupExists => "group.exists",
            Self::NotALine { .. } => "import.not_an_entry",
            Self::OutOfRange { .. } => "value.out_of_range",
            Self::CountChanged { .. } => "dead_letter.count_changed",
            Self::Store(error) => error.code(),
            Self::Unwritten(_) => "audit.unwritten",
            Self::Outbox(_) => "outbox",
            Self::Bus(_) => "bus",
            Self::UnknownDefinition { .. } => "saga.unknown_definition",
            Self::TooWide => "saga.too_wide",
            Self::Saga(error) => saga_code(error),
            Self::Io(_) => "io",
        }
    }
}

fn saga_code(error: &ratebox_saga::Error) -> &'static str {
    use ratebox_saga::Error;
    match error {
        Error::NoSuchSaga { .. } => "saga.unknown",
        Error::NoSuchStep { .. } => "saga.unknown_step",
        Error::NotRegistered { .. } => "saga.unknown_definition",
        Error::Refused { .. } => "saga.refused",
        _ => "saga",
    }
}
