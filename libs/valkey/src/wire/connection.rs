//! A connection that one caller uses at a time: it sends requests and reads their replies.

use bytes::BytesMut;

use super::scan::Scan;
use super::socket::{Place, Socket};
use super::{Replies, Reply, Requests, Trust};
use crate::Error;
use crate::wire::reply::broken;

/// Free space that a read finds at least, so that small replies come with one call.
const READ_MIN: usize = 16 * 1024;

/// Space made ahead for what is known to come. What a reply promises beyond that is believed
/// when it comes.
const READ_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one exchange's replies. Far above what a consumer asks for at once.
const REPLIES_MAX: usize = 1024 * 1024 * 1024;

/// Who we are to the server.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a str>,
    pub(crate) database: i64,
}

/// A connection to one server.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    input: BytesMut,
    scan: Scan,
    /// Bytes that the last exchange brought: the next will bring about as many.
    expected: usize,
}

// === impl Connection ===

impl Connection {
    /// Dials, greets and logs in.
    pub(crate) async fn dial(
        place: &Place,
        trust: &Trust,
        identity: Identity<'_>,
    ) -> Result<Self, Error> {
        let mut connection = Self {
            socket: Socket::open(place, trust).await?,
            input: BytesMut::new(),
            scan: Scan::default(),
            expected: 0,
        };
        let greeting = greeting(identity);
        let replies = connection
            .exchange(greeting.bytes(), greeting.len())
            .await?;
        for reply in replies {
            reply?;
        }
        Ok(connection)
    }

    /// Whether nothing came that nobody asked for, and nobody hung up.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.input.is_empty() && self.socket.is_quiet()
    }

    /// Sends commands and reads the reply to each. After an error, or when it is dropped before
    /// its end, the connection is of no use any more.
    pub(crate) async fn exchange(
        &mut self,
        commands: &[u8],
        count: usize,
    ) -> Result<Replies, Error> {
        let sent = self.socket.write_all(commands).await;
        sent.map_err(|error| Error::from_io(&error))?;
        let mut places = Vec::with_capacity(count);
        self.input.reserve(self.expected.max(READ_MIN));
        while places.len() < count {
            match self.scan.next(&self.input).map_err(broken)? {
                Some(place) => places.push(place),
                None => self.fill().await?,
            }
        }
        let end = self.scan.cut();
        self.expected = end.min(READ_MAX);
        let bytes = self.input.split_to(end).freeze();
        let replies = places
            .into_iter()
            .map(|place| Reply::new(bytes.slice(place)));
        Ok(replies.map(Reply::answered).collect())
    }

    async fn fill(&mut self) -> Result<(), Error> {
        if self.input.len() > REPLIES_MAX {
            return Err(Error::answer("a reply of less than 1 GiB"));
        }
        if self.input.capacity() - self.input.len() < READ_MIN {
            let wanted = self
                .scan
                .missing()
                .clamp(self.input.len(), READ_MAX.max(self.input.len()));
            self.input.reserve(wanted.max(READ_MIN));
        }
        match self.socket.read(&mut self.input).await {
            Ok(0) => Err(Error::Connection {
                what: "the server hung up".to_owned(),
            }),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::from_io(&error)),
        }
    }
}

fn greeting(identity: Identity<'_>) -> Requests {
    let mut greeting = Requests::new();
    greeting.command("HELLO", |words| {
        words.word("3");
        if let Some(password) = identity.password {
            let user = identity.user.unwrap_or("default");
            words.word("AUTH").word(user).word(password);
        }
    });
    if identity.database != 0 {
        greeting.command("SELECT", |words| {
            words.word(identity.database.to_string());
        });
    }
    greeting
}
