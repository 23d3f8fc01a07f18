//! One connection layer for Redis and Valkey.
