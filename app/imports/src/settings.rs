//! What can be set.

use std::time::Duration;

use ratebox_stream::Lanes;

/// How imports are looked after.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The streams of requests.
    pub lanes: Lanes,
    /// The stream that is told of the end of an import.
    pub responses: String,
    /// Whether messages carry their owner as a header, for fairness on the bus.
    pub tells_owner: bool,
    /// How often imports without a saga are looked for. Imports that were taken by this very
    /// process are found at once.
    pub look_every: Duration,
    /// Longest time between two looks at the requests of one import: the delay with which its end,
    /// or its owner's wish to end it, is noticed.
    pub follow_every: Duration,
}
