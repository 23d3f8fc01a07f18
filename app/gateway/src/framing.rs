//! Follows the bytes of an HTTP/1 connection and refuses what two readers could cut differently.
//!
//! hyper decides what a request says; this decides beforehand where it begins and ends, by the
//! strict reading of RFC 9112: every line ends in CRLF, a length is given once and one way, a
//! request has one `Host`. hyper alone would accept a bare LF, would drop a `Content-Length`
//! beside a `Transfer-Encoding`, and would join two equal lengths; a proxy in front may see other
//! requests then (request smuggling). Pure: bytes in, a verdict out. It also tells the phase of
//! the connection, which the deadlines of `pulse.rs` need.

use std::io::BufRead;

/// A line of a chunk or a trailer may be this long.
const CHUNK_LINE_MAX: usize = 256;
/// Trailers after a chunked body, in bytes.
const TRAILERS_MAX: usize = 8 * 1024;
/// Empty lines before a request line that are passed over.
const BLANK_LINES_MAX: u32 = 2;

/// Where in the conversation the bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests.
    Idle,
    /// Inside a head.
    Head,
    /// Inside a body.
    Body,
}

/// A violation, and the byte of the last slice at which it was certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) at: usize,
    pub(crate) why: Violation,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    BareLf,
    FoldedLine,
    Length,
    Encoding,
    LengthAndEncoding,
    Host,
    ChunkSize,
    ChunkEnd,
    Trailers,
    BlankLines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Head,
    Sized {
        left: u64,
    },
    ChunkSize,
    ChunkData {
        left: u64,
    },
    ChunkEnd,
    Trailers {
        left: usize,
    },
    /// hyper refuses what comes, or has refused it; nothing to follow.
    Over,
}

/// Follows one connection.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    head: Head,
    /// The part of a line that earlier slices held.
    partial: Vec<u8>,
    line_max: usize,
}

impl Framing {
    /// A connection whose heads may have `head_max_bytes`; hyper answers 431 to more.
    pub(crate) fn new(head_max_bytes: usize) -> Self {
        Self {
            state: State::Idle,
            head: Head::default(),
            partial: Vec::new(),
            line_max: head_max_bytes,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Idle => Phase::Idle,
            State::Head => Phase::Head,
            State::Sized { .. }
            | State::ChunkSize
            | State::ChunkData { .. }
            | State::ChunkEnd
            | State::Trailers { .. }
            | State::Over => Phase::Body,
        }
    }

    /// Takes the next bytes. After a violation nothing more is followed.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.state {
                State::Over => rest.len(),
                State::Sized { left } => {
                    let taken = within(left, rest);
                    self.state = match left - taken {
                        0 => State::Idle,
                        left => State::Sized { left },
                    };
                    len(taken)
                }
                State::ChunkData { left } => {
                    let taken = within(left, rest);
                    self.state = match left - taken {
                        0 => State::ChunkEnd,
                        left => State::ChunkData { left },
                    };
                    len(taken)
                }
                State::Idle
                | State::Head
                | State::ChunkSize
                | State::ChunkEnd
                | State::Trailers { .. } => self.line_of(rest).map_err(|(offset, why)| {
                    self.state = State::Over;
                    Broken {
                        at: at + offset,
                        why,
                    }
                })?,
            };
        }
        Ok(())
    }

    /// Takes one line, or the beginning of one; returns the bytes taken.
    fn line_of(&mut self, rest: &[u8]) -> Result<usize, (usize, Violation)> {
        let Some(end) = line_feed(rest) else {
            return self.keep(rest).map_err(|why| (0, why));
        };
        let outcome = if self.partial.is_empty() {
            self.line(&rest[..end])
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(&rest[..end]);
            let outcome = self.line(&whole);
            whole.clear();
            self.partial = whole;
            outcome
        };
        outcome.map_err(|why| (end, why))?;
        Ok(end + 1)
    }

    fn keep(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        let length = self.partial.len() + rest.len();
        match self.state {
            State::ChunkSize if length > CHUNK_LINE_MAX => return Err(Violation::ChunkSize),
            State::ChunkEnd if length > 1 => return Err(Violation::ChunkEnd),
            State::Trailers { left } if length > left => return Err(Violation::Trailers),
            // hyper's own limit is the same or smaller, so it answers 431 to these bytes.
            State::Idle | State::Head if length > self.line_max => self.state = State::Over,
            State::Idle => self.state = State::Head,
            State::Head
            | State::Sized { .. }
            | State::ChunkSize
            | State::ChunkData { .. }
            | State::ChunkEnd
            | State::Trailers { .. }
            | State::Over => {}
        }
        self.partial.extend_from_slice(rest);
        Ok(rest.len())
    }

    /// Judges one whole line, without its LF.
    fn line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(Violation::BareLf);
        };
        match self.state {
            State::Idle | State::Head => self.head_line(line),
            State::ChunkSize => {
                self.state = match chunk_size(line).ok_or(Violation::ChunkSize)? {
                    0 => State::Trailers { left: TRAILERS_MAX },
                    left => State::ChunkData { left },
                };
                Ok(())
            }
            State::ChunkEnd if line.is_empty() => {
                self.state = State::ChunkSize;
                Ok(())
            }
            State::ChunkEnd => Err(Violation::ChunkEnd),
            State::Trailers { .. } if line.is_empty() => {
                self.state = State::Idle;
                Ok(())
            }
            State::Trailers { left } => {
                let left = left
                    .checked_sub(line.len() + 2)
                    .ok_or(Violation::Trailers)?;
                self.state = State::Trailers { left };
                Ok(())
            }
            State::Sized { .. } | State::ChunkData { .. } | State::Over => Ok(()),
        }
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        if self.head.lines == 0 {
            if line.is_empty() {
                self.state = State::Idle;
                self.head.blank_lines += 1;
                if self.head.blank_lines > BLANK_LINES_MAX {
                    return Err(Violation::BlankLines);
                }
                return Ok(());
            }
            self.state = State::Head;
            self.head.http_1_1 = line.ends_with(b" HTTP/1.1");
        } else if line.is_empty() {
            let head = std::mem::take(&mut self.head);
            self.state = head.body()?;
            return Ok(());
        } else {
            self.head.field(line)?;
        }
        self.head.lines += 1;
        Ok(())
    }
}

/// What a head says of the length of its body.
#[derive(Debug, Default)]
struct Head {
    lines: u32,
    blank_lines: u32,
    http_1_1: bool,
    length: Option<u64>,
    chunked: bool,
    hosts: u32,
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), Violation> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(Violation::FoldedLine);
        }
        // A line without a colon is refused by hyper.
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Ok(());
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match colon {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(value).ok_or(Violation::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(Violation::Length);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::Encoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The state after this head.
    fn body(&self) -> Result<State, Violation> {
        if self.http_1_1 && self.hosts != 1 || self.hosts > 1 {
            return Err(Violation::Host);
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Violation::LengthAndEncoding),
            (None, true) => Ok(State::ChunkSize),
            (None | Some(0), false) => Ok(State::Idle),
            (Some(left), false) => Ok(State::Sized { left }),
        }
    }
}

/// The place of the first LF. `std` searches fast for a byte, but shows it only behind `BufRead`.
fn line_feed(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let taken = rest
        .skip_until(b'\n')
        .expect("a slice is read without errors");
    taken.checked_sub(1).filter(|last| bytes[*last] == b'\n')
}

/// Digits only, and few enough for any file on earth.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        text.iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
    )
}

/// The size of a chunk: hexadecimal digits, then perhaps an extension, which nobody reads.
fn chunk_size(line: &[u8]) -> Option<u64> {
    if line.len() > CHUNK_LINE_MAX || line.contains(&b'\r') {
        return None;
    }
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok()
}

fn within(left: u64, rest: &[u8]) -> u64 {
    left.min(u64::try_from(rest.len()).unwrap_or(u64::MAX))
}

fn len(taken: u64) -> usize {
    usize::try_from(taken).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Follows the text whole, then byte by byte; both must agree.
    fn check(text: &[u8]) -> Result<Phase, Violation> {
        let mut whole = Framing::new(1024);
        let outcome = whole
            .follow(text)
            .map(|()| whole.phase())
            .map_err(|broken| broken.why);
        let mut slow = Framing::new(1024);
        let by_byte = text
            .iter()
            .try_for_each(|byte| slow.follow(&[*byte]))
            .map(|()| slow.phase())
            .map_err(|broken| broken.why);
        assert_eq!(outcome, by_byte, "{}", String::from_utf8_lossy(text));
        outcome
    }

    fn post(headers: &str, body: &str) -> Result<Phase, Violation> {
        check(format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}").as_bytes())
    }

    #[test]
    fn whole_requests_end_between_requests() {
        assert_eq!(check(GET), Ok(Phase::Idle));
        assert_eq!(check(&[GET, GET].concat()), Ok(Phase::Idle));
        assert_eq!(check(b"GET / HTTP/1.0\r\n\r\n"), Ok(Phase::Idle));
        assert_eq!(post("Content-Length: 5\r\n", "hello"), Ok(Phase::Idle));
        assert_eq!(post("Content-Length: 5\r\n", "hel"), Ok(Phase::Body));
        assert_eq!(check(b"GET / HT"), Ok(Phase::Head));
        let chunks = "5;name=value\r\nhello\r\n0\r\nDigest: x\r\n\r\n";
        assert_eq!(
            post("Transfer-Encoding: Chunked\r\n", chunks),
            Ok(Phase::Idle)
        );
        assert_eq!(
            post("Transfer-Encoding: chunked\r\n", "5\r\nhel"),
            Ok(Phase::Body)
        );
    }

    #[test]
    fn a_length_is_given_once_and_one_way() {
        for length in ["+5", "-1", "5,5", "5 5", "0x5", "", "99999999999999999999"] {
            let header = format!("Content-Length: {length}\r\n");
            assert_eq!(post(&header, "hello"), Err(Violation::Length), "{length}");
        }
        let twice = "Content-Length: 5\r\nContent-Length: 5\r\n";
        assert_eq!(post(twice, "hello"), Err(Violation::Length));
        for coding in [
            "gzip, chunked",
            "chunked, chunked",
            "identity",
            "xchunked",
            "\"chunked\"",
        ] {
            let header = format!("Transfer-Encoding: {coding}\r\n");
            assert_eq!(
                post(&header, "0\r\n\r\n"),
                Err(Violation::Encoding),
                "{coding}"
            );
        }
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(post(both, "0\r\n\r\n"), Err(Violation::LengthAndEncoding));
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
        assert_eq!(post(both, "0\r\n\r\n"), Err(Violation::LengthAndEncoding));
    }

    #[test]
    fn lines_end_in_crlf_and_are_not_folded() {
        assert_eq!(
            check(b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
            Err(Violation::BareLf)
        );
        assert_eq!(
            check(b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
            Err(Violation::BareLf)
        );
        assert_eq!(post("A: b\r\n c\r\n", ""), Err(Violation::FoldedLine));
        assert_eq!(check(b"\r\n\r\n\r\n"), Err(Violation::BlankLines));
    }

    #[test]
    fn a_request_has_one_host() {
        assert_eq!(check(b"GET / HTTP/1.1\r\n\r\n"), Err(Violation::Host));
        assert_eq!(post("Host: b\r\n", ""), Err(Violation::Host));
    }

    #[test]
    fn chunks_are_exact() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(300));
        for (body, why) in [
            ("5\nhello\r\n", Violation::BareLf),
            ("\r\nhello\r\n", Violation::ChunkSize),
            ("-5\r\nhello\r\n", Violation::ChunkSize),
            ("0x5\r\nhello\r\n", Violation::ChunkSize),
            ("fffffffff\r\nhello\r\n", Violation::ChunkSize),
            ("5 5\r\nhello\r\n", Violation::ChunkSize),
            ("5\r\nhelloworld\r\n", Violation::ChunkEnd),
            (long.as_str(), Violation::ChunkSize),
        ] {
            assert_eq!(
                post("Transfer-Encoding: chunked\r\n", body),
                Err(why),
                "{body}"
            );
        }
    }
}
