//! A small HTTP/1.1 client: keep-alive, fixed and chunked bodies, and raw bytes for bad input.
//!
//! It never repeats a request by itself: a test that counts effects must know what was sent.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Idle connections kept for the next request.
const IDLE_MAX: usize = 64;
/// Longest answer that is read.
const BODY_MAX: usize = 256 << 20;

type Connection = BufReader<TcpStream>;

/// What a server answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.headers
            .iter()
            .find(|(its_name, _)| *its_name == name)
            .map(|(_, value)| &**value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none; the message shows the status and the body.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {} with no JSON: {:?}", self.status, self.text()))
    }
}

/// A client of one server. Shared use is fine: each request takes a connection of its own.
#[derive(Debug)]
pub struct HttpClient {
    authority: String,
    headers: Vec<(String, String)>,
    deadline: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl HttpClient {
    /// A client of `http://host:port`.
    ///
    /// # Panics
    /// When the address is not of that form.
    pub fn new(base_url: &str) -> Self {
        let authority = base_url
            .strip_prefix("http://")
            .expect("the address starts with http://");
        Self {
            authority: authority.trim_end_matches('/').to_owned(),
            headers: Vec::new(),
            deadline: Duration::from_secs(30),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sends this bearer token with every request.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// Sends this header with every request.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives up on an answer after this long; 30 s unless told.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// GET of a path.
    ///
    /// # Errors
    /// When there is no whole answer in time; a status of any kind is an answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[], &[]).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Answer> {
        let body = serde_json::to_vec(body)?;
        self.request("POST", path, &[("content-type", "application/json")], &body)
            .await
    }

    /// Any request. `content-length` is added when there is a body.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.authority);
        let own = self.headers.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in own.chain(headers.iter().copied()) {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            bytes.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body);

        let connection = self.connection().await?;
        let (answer, connection) = self.exchange(connection, &bytes, method == "HEAD").await?;
        self.keep(connection, &answer).await;
        Ok(answer)
    }

    /// Sends bytes as they are on a connection of their own and reads one answer.
    ///
    /// # Errors
    /// When the server closes without a whole answer, or there is none in time.
    pub async fn raw(&self, bytes: &[u8]) -> Result<Answer> {
        let connection = BufReader::new(TcpStream::connect(&self.authority).await?);
        Ok(self.exchange(connection, bytes, false).await?.0)
    }

    /// A connection that is open and silent, or a new one.
    async fn connection(&self) -> Result<Connection> {
        while let Some(idle) = self.idle.lock().await.pop() {
            // Anything to read now means that the server closed it, or answers without a question.
            let closed = !matches!(idle.get_ref().try_read(&mut [0]), Err(error)
                if error.kind() == std::io::ErrorKind::WouldBlock);
            if !closed && idle.buffer().is_empty() {
                return Ok(idle);
            }
        }
        let stream = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("could not connect to {}", self.authority))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    async fn keep(&self, connection: Connection, answer: &Answer) {
        let closes = answer
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let mut idle = self.idle.lock().await;
        if !closes && idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        bytes: &[u8],
        bodyless: bool,
    ) -> Result<(Answer, Connection)> {
        let work = async {
            // A server may refuse a large body and close while we still write: its answer counts.
            let sent = connection.get_mut().write_all(bytes).await;
            match read_answer(&mut connection, bodyless).await {
                Ok(answer) => Ok(answer),
                Err(error) => sent.map_err(Into::into).and(Err(error)),
            }
        };
        let answer = tokio::time::timeout(self.deadline, work)
            .await
            .with_context(|| format!("no answer within {:?}", self.deadline))??;
        Ok((answer, connection))
    }
}

async fn read_answer(from: &mut Connection, bodyless: bool) -> Result<Answer> {
    let mut answer = read_head(from).await?;
    while answer.status < 200 {
        answer = read_head(from).await?; // 100 Continue precedes the real one.
    }
    if bodyless || matches!(answer.status, 204 | 304) {
        return Ok(answer);
    }
    if answer
        .header("transfer-encoding")
        .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    {
        answer.body = read_chunks(from).await?;
    } else if let Some(length) = answer.header("content-length") {
        answer.body = read_exactly(from, length.parse()?).await?;
    } else {
        from.read_to_end(&mut answer.body).await?;
        answer
            .headers
            .push(("connection".to_owned(), "close".to_owned()));
    }
    Ok(answer)
}

async fn read_head(from: &mut Connection) -> Result<Answer> {
    let status_line = read_line(from).await?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no status line: {status_line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(from).await?;
        if line.is_empty() {
            return Ok(Answer {
                status,
                headers,
                body: Vec::new(),
            });
        }
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("no header: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn read_chunks(from: &mut Connection) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).with_context(|| format!("no chunk: {line:?}"))?;
        if size == 0 {
            while !read_line(from).await?.is_empty() {} // Trailers.
            return Ok(body);
        }
        body.extend(read_exactly(from, size).await?);
        read_line(from).await?;
    }
}

async fn read_exactly(from: &mut Connection, length: usize) -> Result<Vec<u8>> {
    if length > BODY_MAX {
        bail!("a body of {length} bytes is more than a test should read");
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)
        .await
        .context("the server closed within the body")?;
    Ok(body)
}

async fn read_line(from: &mut Connection) -> Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        bail!("the server closed the connection");
    }
    Ok(String::from_utf8_lossy(&line)
        .trim_end_matches('\r')
        .to_owned())
}
