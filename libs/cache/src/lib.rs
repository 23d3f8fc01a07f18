//! A cache in two tiers that never fills with a value older than an invalidation, and the guards
//! that stand before a backend: locks with fencing, a rate limiter, a circuit breaker.

mod breaker;
mod limiter;
mod lock;

pub use breaker::Breaker;
pub use breaker::BreakerSettings;
pub use breaker::BreakerState;
pub use breaker::Breakers;
pub use breaker::CallError;
pub use breaker::Permit;
pub use breaker::Refused;
pub use limiter::CountedBy;
pub use limiter::Limiter;
pub use limiter::Ruling;
pub use limiter::WhenAway;
pub use lock::Fences;
pub use lock::LockGuard;
pub use lock::LockSettings;
pub use lock::Locks;
pub use lock::Lost;
