//! Transactional outbox, relay and inbox.
//!
//! A sender adds an event in the transaction of its business change ([`Outbox`]); after the
//! commit the event is published at once, or a moment later by the [`Relay`]. A receiver marks a
//! message in the transaction of its effect ([`Inbox`]), so that a second delivery has none.
//! Together: at-least-once delivery, effects applied once.
//!
//! The broker is behind the [`Broker`] port; the tables are in PostgreSQL or SQLite.

mod adopt;
mod archive;
mod broker;
mod bundle;
mod effects;
mod error;
mod event;
mod inbox;
mod operator;
mod outbox;
mod relay;
mod schema;
mod sql;
mod stats;
mod sweeper;
mod text;
mod transaction;

pub use adopt::Adopted;
pub use adopt::SagaOutbox;
pub use adopt::adopt;
pub use broker::Broker;
pub use broker::Outgoing;
pub use broker::PublishError;
#[cfg(feature = "kafka")]
pub use broker::kafka::Kafka;
#[cfg(feature = "kafka")]
pub use broker::kafka::KafkaSettings;
#[cfg(feature = "nats")]
pub use broker::nats::Nats;
#[cfg(feature = "nats")]
pub use broker::nats::NatsSettings;
#[cfg(feature = "rabbitmq")]
pub use broker::rabbitmq::Rabbitmq;
#[cfg(feature = "rabbitmq")]
pub use broker::rabbitmq::RabbitmqSettings;
pub use broker::router::Router;
pub use bundle::NewRow;
pub use error::Error;
pub use event::About;
pub use event::Event;
pub use inbox::Consumer;
pub use inbox::Effect;
pub use inbox::Failure;
pub use inbox::Handled;
pub use inbox::Inbox;
pub use inbox::Inboxes;
pub use inbox::Outcome;
pub use inbox::Parked;
pub use inbox::Received;
pub use operator::DeadEvent;
pub use operator::OutboxAdmin;
pub use operator::SentEvent;
pub use operator::Status;
pub use operator::Waiting;
pub use outbox::Outbox;
pub use outbox::Published;
pub use outbox::Settings;
pub use outbox::Staged;
pub use relay::Lack;
pub use relay::Relay;
pub use relay::RelayHealth;
pub use relay::RelaySettings;
pub use relay::Step;
pub use schema::MIGRATIONS;
pub use schema::OWNER;
pub use sql::INSERTS;
pub use sql::STATEMENTS;
pub use stats::describe_metrics;
pub use transaction::Transaction;

/// What every call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
