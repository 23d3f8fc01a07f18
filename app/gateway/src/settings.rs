//! What can be set, with the defaults.
//!
//! One struct a concern. Reading configuration files is the server's business; everything here is
//! a plain value with its unit in the type or in the name.

mod jwt;

use std::time::Duration;

use ratebox_kit::{Quota, Secret};

pub use jwt::{JwksSource, JwtAlgorithm, JwtSettings};

/// All settings of the gateway.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Connections and their deadlines.
    pub listen: ListenSettings,
    /// Request bodies.
    pub body: BodySettings,
    /// Tokens.
    pub auth: AuthSettings,
    /// Requests a minute.
    pub limits: LimitSettings,
    /// What a 202 promises, and the queue before it.
    pub accept: AcceptSettings,
    /// Bulk imports.
    pub imports: ImportSettings,
    /// Waiting for answers.
    pub answers: AnswerSettings,
    /// Stream names of the answers.
    pub streams: StreamSettings,
    /// What is known of phones, accounts and e-mails.
    pub lookups: LookupSettings,
}

/// Connections and their deadlines.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// Connections at once; the next one is answered 503 and closed. About 12 KiB each. Fewer where
    /// the process may not have so many files open.
    pub connections_max: usize,
    /// Request line and headers together; more is 431. At least 8 KiB.
    pub head_max_bytes: usize,
    /// From the connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// From the first byte of a body to its last; then 408.
    pub body_timeout: Duration,
    /// A connection without a request for this long is closed.
    pub idle_timeout: Duration,
    /// A client that takes no byte of its answer for this long is cut.
    pub write_timeout: Duration,
    /// How long new connections are still taken after the stop is asked for, while `ready`
    /// already says no, so that a balancer can look away.
    pub close_after: Duration,
    /// How long open requests may take after that.
    pub drain: Duration,
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_max_bytes: 32 * 1024,
            first_byte_timeout: Duration::from_secs(8),
            head_timeout: Duration::from_secs(8),
            body_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            close_after: Duration::ZERO,
            drain: Duration::from_secs(20),
        }
    }
}

/// Request bodies.
#[derive(Clone, Debug)]
pub struct BodySettings {
    /// More is 413, before anything is read where the length is announced.
    pub max_bytes: usize,
    /// Items of a request, and batches of a batch validation; more is 413. Workers take
    /// [`ITEMS_MAX`](ratebox_intake::ITEMS_MAX), so it is never more.
    pub items_max: usize,
    /// From the head to the last byte; then 408.
    pub timeout: Duration,
}

impl Default for BodySettings {
    fn default() -> Self {
        Self {
            max_bytes: 2 * 1024 * 1024,
            items_max: ratebox_intake::ITEMS_MAX,
            timeout: Duration::from_secs(20),
        }
    }
}

/// Tokens.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// What was learnt of a token, or of its absence, is used no longer than this: the delay of a
    /// revocation. At most 5 s.
    pub cache_max_age: Duration,
    /// Tokens and absent tokens remembered; 300 bytes each.
    pub cache_max: usize,
    /// Refused tokens of one address before it gets 429.
    pub failures: Quota,
    /// Tokens that others sign; `None` = they are refused.
    pub jwt: Option<JwtSettings>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            cache_max_age: Duration::from_secs(5),
            cache_max: 10_000,
            failures: Quota::per_minute(30),
            jwt: None,
        }
    }
}

/// Requests a minute, by class of route. Users are owners of tokens; a token with a limit of its
/// own is held to that one instead, on each class.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// `POST /api/validation/validate`, per user.
    pub validate: Quota,
    /// `GET /api/validation/status/{id}`, per user.
    pub status: Quota,
    /// `POST /api/validation/batch`, per user.
    pub batch: Quota,
    /// `POST /api/importer/import`, per token.
    pub import: Quota,
    /// `POST /api/importer/bulk`, per token.
    pub bulk: Quota,
    /// `GET /api/importer/status/{id}`, per token.
    pub import_status: Quota,
    /// `GET /api/lookup/{kind}/{value}` and `POST /api/lookup`, per user.
    pub lookup: Quota,
    /// `POST /api/importer/cancel/{id}`, per token.
    pub import_cancel: Quota,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            validate: Quota::per_minute(100),
            status: Quota::per_minute(300),
            batch: Quota::per_minute(10),
            import: Quota::per_minute(50),
            bulk: Quota::per_minute(10),
            import_status: Quota::per_minute(200),
            lookup: Quota::per_minute(600),
            import_cancel: Quota::per_minute(50),
        }
    }
}

/// What stands behind a 202.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptMode {
    /// The request is committed to the store.
    #[default]
    Durable,
    /// The bus has taken the request.
    Stream,
}

impl AcceptMode {
    /// The word in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Stream => "stream",
        }
    }
}

/// What a 202 promises, and the queue before it.
#[derive(Clone, Debug)]
pub struct AcceptSettings {
    /// What stands behind a 202.
    pub mode: AcceptMode,
    /// Accepted requests of this many seconds may be lost by a power cut; `None` where the
    /// backend does not say. Zero for a store that commits to disk.
    pub loss_window: Option<Duration>,
    /// How often the bus is asked for it again, whose settings can change while it runs; `None`
    /// where the bus has no say in it.
    pub loss_window_every: Option<Duration>,
    /// Commits or appends under way at once.
    pub in_flight_max: usize,
    /// Requests of one commit or append.
    pub batch_max: usize,
    /// Submissions that wait; the next one is answered 503.
    pub queue_max: usize,
    /// Bytes of the submissions that wait or are under way; beyond it 503.
    pub queue_max_bytes: usize,
    /// Commits whose events wait for publication; beyond it the relay publishes them.
    pub publish_queue_max: usize,
    /// How long an idempotency key keeps its answer in stream mode. (The store's own window is
    /// the store's setting.)
    pub keys_kept: Duration,
    /// A key whose submission has no outcome for this long may be submitted again, with the same
    /// ids; before that it is 409. Stream mode only.
    pub key_in_progress_max: Duration,
    /// Whether messages carry their owner as a header, for fairness on the bus. Durable mode only.
    pub tells_owner: bool,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self {
            mode: AcceptMode::Durable,
            loss_window: Some(Duration::ZERO),
            loss_window_every: None,
            in_flight_max: 2,
            batch_max: 500,
            queue_max: 4096,
            queue_max_bytes: 64 * 1024 * 1024,
            publish_queue_max: 64,
            keys_kept: Duration::from_secs(24 * 3600),
            key_in_progress_max: Duration::from_secs(30),
            tells_owner: false,
        }
    }
}

/// Bulk imports.
#[derive(Clone, Debug)]
pub struct ImportSettings {
    /// Items of all datasets together; more is 413.
    pub items_max: usize,
    /// An import of so many items at most is cut into requests while it is taken, and these are
    /// committed with it; a larger one is cut by its saga. Durable mode only.
    pub at_once_max: u32,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            items_max: 1_000_000,
            at_once_max: 1_000,
        }
    }
}

/// Waiting for answers.
#[derive(Clone, Debug)]
pub struct AnswerSettings {
    /// Longest wait that a client gets.
    pub wait_max: Duration,
    /// Clients that wait at once; the next one is answered without waiting.
    pub waiters_max: usize,
    /// How often a waiting client's request is looked up in the store, in case the stream of
    /// answers told nothing.
    pub look_again: Duration,
    /// Entries of one read of an answer stream.
    pub read_max: usize,
    /// How long one read of an answer stream waits for entries.
    pub read_wait: Duration,
    /// The streams of answers are left alone when nobody has waited for this long.
    pub rest_after: Duration,
    /// Bytes of answers that are kept for clients which ask for their status again.
    pub statuses_max_bytes: u64,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(30),
            waiters_max: 10_000,
            look_again: Duration::from_secs(1),
            read_max: 500,
            read_wait: Duration::from_secs(1),
            rest_after: Duration::from_secs(30),
            statuses_max_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Streams beside those of the requests.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// Answers to everybody but importers.
    pub responses: String,
    /// Answers to importers.
    pub importer_responses: String,
    /// Further ones that operators see.
    pub also_watched: Vec<String>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            responses: "extension_responses".to_owned(),
            importer_responses: "importer_responses".to_owned(),
            also_watched: Vec::new(),
        }
    }
}

/// Whose records a look-up counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhoseRecords {
    /// Those of whoever asks.
    #[default]
    Own,
    /// Everybody's, without names of owners.
    All,
}

/// What is known of phones, accounts and e-mails.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// Whose records are counted.
    pub whose: WhoseRecords,
    /// No answer is older, as long as the store answers.
    pub max_age: Duration,
    /// So long after that an answer stands in for a store that does not answer.
    pub stale_on_error: Duration,
    /// A store that has not answered for so long does not answer.
    pub store_patience: Duration,
    /// Records of one value that are looked at, at most, whosever they are.
    pub rows_max: u32,
    /// Values of one call.
    pub values_max: usize,
    /// Reads of the store at the same time; the rest of its connections is for other work.
    pub loads_max: usize,
    /// Bytes of answers in this process.
    pub memory_max_bytes: u64,
    /// Keys the digests that stand for values in the shared cache; all gateways have the same.
    /// Empty = plain digests, from which whoever may read the cache can tell a phone number by
    /// trying all of them.
    pub digest_key: Secret,
}

impl Default for LookupSettings {
    fn default() -> Self {
        Self {
            whose: WhoseRecords::Own,
            max_age: Duration::from_secs(1),
            stale_on_error: Duration::from_secs(30),
            store_patience: Duration::from_secs(2),
            rows_max: 100_000,
            values_max: 500,
            loads_max: 4,
            memory_max_bytes: 16 * 1024 * 1024,
            digest_key: Secret::default(),
        }
    }
}
