//! Just enough of the wire protocol to ask whether a server is up and to send it a command.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::address;

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// Longer than any command that a test sends here.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Whether the server answers. One that wants a password answers too; one that still loads does not.
pub(super) fn is_up(port: u16) -> bool {
    match command(port, &["PING"]) {
        Ok(_) => true,
        Err(error) => error.to_string().contains("NOAUTH"),
    }
}

/// One command on a connection of its own.
pub(super) fn command(port: u16, words: &[&str]) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address(port), CONNECT_DEADLINE)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    read_reply(&mut BufReader::new(stream))
}

/// Reads one answer of the wire protocol, version 2, as JSON.
///
/// # Errors
/// With the server's words when it refuses, or when the link breaks.
pub fn read_reply(from: &mut BufReader<TcpStream>) -> Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line
        .split_at_checked(1)
        .context("the server closed the connection")?;
    match kind {
        "+" => Ok(Value::from(rest)),
        "-" => bail!("{rest}"),
        ":" => Ok(Value::from(rest.parse::<i64>()?)),
        "$" => read_text(from, rest.parse()?),
        "*" => match rest.parse::<i64>()? {
            -1 => Ok(Value::Null),
            count => (0..count)
                .map(|_| read_reply(from))
                .collect::<Result<_>>()
                .map(Value::Array),
        },
        _ => bail!("the server answered {line:?}, which is no RESP2"),
    }
}

fn read_text(from: &mut BufReader<TcpStream>, length: i64) -> Result<Value> {
    let Ok(length) = usize::try_from(length) else {
        return Ok(Value::Null);
    };
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}
