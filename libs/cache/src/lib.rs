//! A cache in two tiers that never fills with a value older than an invalidation, and the guards
//! that stand before a backend: locks with fencing, a rate limiter, a circuit breaker.

