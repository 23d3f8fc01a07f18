//! The doors in: HTTP.
