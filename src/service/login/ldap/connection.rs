//! One connection to a server of a directory, with one request at a time.
//!
//! Its type says as whom it is bound. A connection that was bound as a user never becomes one of the gateway's own account, so a search
//! can not run with somebody else's rights.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::answer::{Answer, Message, Outcome};
use super::ber::{Frame, Writer, frame};
use super::entry::Entry;
use super::failure::Failure;
use super::request::{MOST_ENTRIES, Search, SimpleBind, start_tls};
use super::stream::{Stream, connect};
use super::tls::Tls;
use crate::config::{LdapSecurity, LdapServer};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From nothing to a connection, TLS included.
    pub(super) connect: Duration,
    /// A request and all of its answer.
    pub(super) operation: Duration,
}

/// A connection that is protected as it should be, and bound as nobody.
pub(super) struct Unbound(Connection);

/// One that is bound, and can search.
pub(super) struct Bound(Connection);

/// One that is bound as the gateway's own account.
pub(super) struct Service(Bound);

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// At most two; the second says that there are several.
    pub(super) entries: Vec<Entry>,
    /// There may be more on another server.
    pub(super) is_referred: bool,
    /// There is no entry where the search was to begin.
    pub(super) is_without_base: bool,
}

impl Unbound {
    /// Connects to a server.
    pub(super) async fn dial(server: &LdapServer, tls: &Tls, times: Times) -> Result<Self, Failure> {
        let dialled = timeout(times.connect, Self::dial_in_any_time(server, tls, times)).await;
        dialled.unwrap_or_else(|_| Err(Failure::timed_out("no connection in time")))
    }

    async fn dial_in_any_time(server: &LdapServer, tls: &Tls, times: Times) -> Result<Self, Failure> {
        let mut connection = Connection::new(connect(&server.address).await?, times);
        if server.security == LdapSecurity::StartTls {
            connection.start_tls().await?;
        }
        if server.security != LdapSecurity::Plain {
            connection.stream = tls.connect(&server.tls_name, connection.stream).await?;
        }
        Ok(Self(connection))
    }

    /// Binds as the gateway's own account.
    pub(super) async fn bind_service(mut self, bind: SimpleBind<'_>) -> Result<Service, Failure> {
        let outcome = self.0.bind(bind).await?;
        match outcome.code {
            0 => Ok(Service(Bound(self.0))),
            _ => Err(Failure::own_account(format!("refuses the account of bind_dn: {}", outcome.describe()))),
        }
    }

    /// Tries a user's password. After anything but a success, nobody should search on what is left.
    pub(super) async fn bind_user(mut self, bind: SimpleBind<'_>) -> Result<(Outcome, Bound), Failure> {
        let outcome = self.0.bind(bind).await?;
        Ok((outcome, Bound(self.0)))
    }
}

impl Service {
    pub(super) const fn bound(&mut self) -> &mut Bound {
        &mut self.0
    }
}

impl Bound {
    pub(super) async fn search(&mut self, search: &Search<'_>) -> Result<Found, Failure> {
        let operation = self.0.times.operation;
        let searched = timeout(operation, self.0.search(search)).await;
        searched.unwrap_or_else(|_| Err(Failure::timed_out("no answer to a search in time")))
    }

    /// How long the server may search.
    pub(super) const fn operation_timeout(&self) -> Duration {
        self.0.times.operation
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    last_id: u32,
    times: Times,
}

impl Connection {
    fn new(stream: Box<dyn Stream>, times: Times) -> Self {
        Self { stream, received: Vec::new(), last_id: 0, times }
    }

    async fn start_tls(&mut self) -> Result<(), Failure> {
        let id = self.next_id();
        self.send(&start_tls(id)).await?;
        match self.answer(id).await? {
            // What came after it was not protected, and would be taken for what is.
            Answer::Extended(outcome) if outcome.code == 0 && self.received.is_empty() => Ok(()),
            Answer::Extended(outcome) if outcome.code != 0 => {
                Err(Failure::unreachable(format!("refuses StartTLS: {}", outcome.describe())))
            }
            _ => Err(Failure::invalid("answered StartTLS with something else")),
        }
    }

    async fn bind(&mut self, bind: SimpleBind<'_>) -> Result<Outcome, Failure> {
        let bound = timeout(self.times.operation, self.bind_in_any_time(bind)).await;
        bound.unwrap_or_else(|_| Err(Failure::timed_out("no answer to a bind in time")))
    }

    async fn bind_in_any_time(&mut self, bind: SimpleBind<'_>) -> Result<Outcome, Failure> {
        let id = self.next_id();
        self.send(&bind.encode(id)).await?;
        match self.answer(id).await? {
            Answer::Bind(outcome) => Ok(outcome),
            _ => Err(Failure::invalid("answered a bind with something else")),
        }
    }

    async fn search(&mut self, search: &Search<'_>) -> Result<Found, Failure> {
        let id = self.next_id();
        self.send(&search.encode(id)).await?;
        let mut found = Found::default();
        for _ in 0..MOST_ANSWERS {
            match self.answer(id).await? {
                Answer::Entry(entry) if found.entries.len() < MOST_ENTRIES as usize => {
                    found.entries.push(entry)
                }
                // The server counts otherwise than it was asked to.
                Answer::Entry(_) => {}
                Answer::Reference => found.is_referred = true,
                Answer::SearchDone(outcome) => return done(found, &outcome),
                _ => return Err(Failure::invalid("answered a search with something else")),
            }
        }
        Err(Failure::invalid("answered a search with more than a thousand messages"))
    }

    const fn next_id(&mut self) -> u32 {
        // A message id has 31 bits, and 0 is the server's own.
        self.last_id = if self.last_id >= 0x7fff_ffff { 1 } else { self.last_id + 1 };
        self.last_id
    }

    async fn send(&mut self, request: &Writer) -> Result<(), Failure> {
        self.stream.write_all(request.bytes()).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next message, which must be about this request.
    async fn answer(&mut self, id: u32) -> Result<Answer, Failure> {
        let message = self.message().await?;
        match message.answer {
            Answer::Extended(notice) if message.id == 0 => {
                Err(Failure::closed(format!("ends the connection: {}", notice.describe())))
            }
            answer if message.id == id => Ok(answer),
            _ => Err(Failure::invalid("answered another request than the last")),
        }
    }

    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            match frame(&self.received) {
                Frame::Whole(length) => {
                    let message = self.received.get(..length).and_then(Message::decode);
                    self.received.drain(..length.min(self.received.len()));
                    return message.ok_or_else(|| Failure::invalid("sent a message that cannot be read"));
                }
                Frame::Invalid => return Err(Failure::invalid("sent something that is not LDAP")),
                Frame::Partial => {}
            }
            self.received.reserve(READ);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Failure::closed("closed the connection"));
            }
        }
    }
}

fn done(found: Found, outcome: &Outcome) -> Result<Found, Failure> {
    match outcome.code {
        0 => Ok(found),
        // It stopped at the second, as it was asked to.
        SIZE_LIMIT if found.entries.len() > 1 => Ok(found),
        NO_SUCH_OBJECT => Ok(Found { is_without_base: true, ..Found::default() }),
        TIME_LIMIT => Err(Failure::timed_out("could not finish a search in time")),
        REFERRAL => Err(Failure::question("refers a search to another server, which is not asked")),
        BUSY | UNAVAILABLE => Err(Failure::invalid(format!("cannot search: {}", outcome.describe()))),
        _ => Err(Failure::question(format!("cannot search: {}", outcome.describe()))),
    }
}

const TIME_LIMIT: u32 = 3;
const SIZE_LIMIT: u32 = 4;
const REFERRAL: u32 = 10;
const NO_SUCH_OBJECT: u32 = 32;
const BUSY: u32 = 51;
const UNAVAILABLE: u32 = 52;

/// References and entries of one search.
const MOST_ANSWERS: u32 = 1000;

/// Bytes that a read has room for.
const READ: usize = 4096;
