//! An HTTP/2 client that can do what no honest one does: ask for much and take nothing.

use crate::client::Client;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use openssl::ssl::{self, ConnectConfiguration, SslConnector, SslMethod, SslVerifyMode};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::runtime::Builder as Runtime;
use tokio_openssl::SslStream;

pub struct H2Client {
    sender: SendRequest<Bytes>,
    authority: String,
}

/// A TLS connection for HTTP/2 from an address of this machine's own, to speak over as one likes.
pub fn tls(source: IpAddr, address: SocketAddr) -> io::Result<ssl::SslStream<TcpStream>> {
    let mut client = Client::try_connect_from(source, address)?;
    let stream = client.sender();
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    configured().connect("localhost", stream).map_err(|error| io::Error::other(error.to_string()))
}

fn configured() -> ConnectConfiguration {
    let mut connector = SslConnector::builder(SslMethod::tls()).expect("TLS");
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_alpn_protos(b"\x02h2").expect("ALPN");
    connector.build().configure().expect("TLS").verify_hostname(false)
}

impl H2Client {
    /// Connects from an address of this machine's own; each stream may be sent `window` bytes that nobody has read.
    pub fn connect(source: IpAddr, address: SocketAddr, window: u32) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let runtime = Runtime::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.bind(SocketAddr::new(source, 0)).expect("an address");
                let stream = socket.connect(address).await.expect("the gateway listens");
                let ssl = configured().into_ssl("localhost").expect("TLS");
                let mut stream = SslStream::new(ssl, stream).expect("TLS");
                Pin::new(&mut stream).connect().await.expect("a handshake");
                let mut builder = Builder::new();
                builder.initial_window_size(window).initial_max_send_streams(1_000);
                let (client, connection) = builder.handshake::<_, Bytes>(stream).await.expect("HTTP/2");
                drop(sender.send(client));
                // An error is for the test to notice, by its streams.
                drop(connection.await);
            });
        });
        let sender = receiver.recv().expect("a connection");
        Self { sender, authority: address.to_string() }
    }

    /// Asks, and leaves the answer for later; for no more requests at once than the gateway's settings allow.
    pub fn get(&mut self, target: &str) -> ResponseFuture {
        self.try_get(target).expect("a stream")
    }

    /// As well, on a connection that may be ended or full.
    pub fn try_get(&mut self, target: &str) -> Option<ResponseFuture> {
        self.try_get_with(target, "")
    }

    /// As well, with a field of this value.
    pub fn try_get_with(&mut self, target: &str, value: &str) -> Option<ResponseFuture> {
        let uri = format!("https://{}{target}", self.authority);
        let request = Request::get(uri).header("x-field", value).body(()).expect("a request");
        Some(self.sender.send_request(request, true).ok()?.0)
    }
}

impl H2Client {
    /// Asks with a token.
    pub fn get_as(&mut self, target: &str, token: &str) -> ResponseFuture {
        self.try_get_as(target, token).expect("a stream")
    }

    /// As well, on a connection that may take no more streams.
    pub fn try_get_as(&mut self, target: &str, token: &str) -> Option<ResponseFuture> {
        let uri = format!("https://{}{target}", self.authority);
        let request = Request::get(uri).header("user-token", token).body(()).expect("a request");
        Some(self.sender.send_request(request, true).ok()?.0)
    }

    /// Asks with a body that is sent later.
    pub fn post(&mut self, target: &str, token: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("https://{}{target}", self.authority);
        let request = Request::post(uri).header("user-token", token).body(()).expect("a request");
        self.sender.send_request(request, false).expect("a stream")
    }

    /// Asks with a body that is sent once `100 Continue` has come.
    pub fn post_expecting(&mut self, target: &str, token: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("https://{}{target}", self.authority);
        let request = Request::post(uri).header("user-token", token).header("expect", "100-continue");
        self.sender.send_request(request.body(()).expect("a request"), false).expect("a stream")
    }
}

/// What became of a stream.
pub enum Outcome {
    Status(u16),
    /// It is certain that nobody has looked at it: it may be sent again (RFC 9113 §6.8).
    Refused,
    Failed(String),
}

/// What became of streams.
pub fn outcomes(answers: Vec<ResponseFuture>) -> Vec<Outcome> {
    let runtime = Runtime::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(match answer.await {
                Ok(answer) => Outcome::Status(answer.status().as_u16()),
                Err(error) if error.is_go_away() && error.reason() == Some(Reason::NO_ERROR) => {
                    Outcome::Refused
                }
                Err(error) => Outcome::Failed(format!("{error:?}")),
            });
        }
        outcomes
    })
}

/// The statuses of answers that come; 0 for a stream that was reset.
pub fn statuses(answers: Vec<ResponseFuture>) -> Vec<u16> {
    let runtime = Runtime::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut statuses = Vec::new();
        for answer in answers {
            statuses.push(answer.await.map_or(0, |answer| answer.status().as_u16()));
        }
        statuses
    })
}
