//! What commands print. Whoever stops reading (`| head`) has seen enough: that ends a command
//! calmly. A disk that is full under a file does not.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

/// Prints a line, as `println!` does, which would panic where nobody reads.
macro_rules! say {
    ($($part:tt)*) => { $crate::out::print(format_args!("{}\n", format_args!($($part)*))) };
}

pub(crate) use say;

/// Tells people something beside the output, as `eprintln!` does, which would panic where it cannot
/// be written.
macro_rules! hint {
    ($($part:tt)*) => { $crate::out::aside(format_args!("{}\n", format_args!($($part)*))) };
}

pub(crate) use hint;

/// The standard output.
pub struct Out;

/// Nobody reads the standard output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct ReaderGone;

/// Why a text could not be printed: the first reason.
static FAILED: OnceLock<io::Error> = OnceLock::new();

// === impl Out ===

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(told)
    }
}

fn told(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::other(ReaderGone),
        _ => error,
    }
}

/// Prints a text. What fails is told by [`ended`].
pub fn print(text: fmt::Arguments<'_>) {
    if let Err(error) = Out.write_fmt(text)
        && !is_reader_gone(&error)
    {
        FAILED.get_or_init(|| error);
    }
}

/// Prints a text on the standard error; where nobody reads that, nothing is lost but the words.
pub fn aside(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Whether everything that was printed has been written, or nobody wanted it.
///
/// # Errors
/// Why not.
pub fn ended() -> Result<(), String> {
    match FAILED.get() {
        Some(error) => Err(format!("the output cannot be written: {error}")),
        None => Ok(()),
    }
}

/// Whether a command failed for nothing but that.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|it| it.downcast_ref());
    causes.any(is_reader_gone)
}

fn is_reader_gone(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<ReaderGone>())
}
