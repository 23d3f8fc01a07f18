//! A log with consumer groups on Redis or Valkey Streams, SQLite or memory.
