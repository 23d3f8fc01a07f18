//! The binary ratebox: configuration, wiring, commands.
