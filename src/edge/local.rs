//! Applications that answer every request by themselves, within the limits of a connection.

use std::sync::Arc;

use async_trait::async_trait;
use http::Response;
use pingora::apps::http_app::ServeHttp;
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::connection_context as connection;
use crate::auth::reply::{Malformed, Reply};

/// `S`, telling the limits how far a request is.
pub struct Local<S>(Arc<Marked<S>>);

impl<S> Local<S> {
    /// Headers of more than `header_bytes` are refused.
    pub fn new(app: S, header_bytes: usize) -> Self {
        Self(Arc::new(Marked { app, header_bytes }))
    }
}

#[async_trait]
impl<S: ServeHttp + Send + Sync + 'static> HttpServerApp for Local<S> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let connection = connection::of(session.digest()).cloned();
        let reused = self.0.process_new_http(session, shutdown).await;
        if let Some(connection) = connection {
            connection.request_done();
        }
        reused
    }
}

struct Marked<S> {
    app: S,
    header_bytes: usize,
}

#[async_trait]
impl<S: ServeHttp + Send + Sync> ServeHttp for Marked<S> {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if let Some(connection) = connection::of(session.digest()) {
            connection.header_read();
        }
        // The engine keeps every connection, whatever its client said.
        if let ServerSession::H1(http1) = session
            && http1.will_keepalive()
        {
            http1.respect_keepalive();
        }
        let is_too_large = |raw: usize| raw > self.header_bytes;
        if session.as_http1().is_some_and(|http1| is_too_large(http1.get_headers_raw_bytes().len())) {
            session.set_keepalive(None);
            return respond(&Reply::malformed(Malformed::HeaderBytes));
        }
        self.app.response(session).await
    }
}

fn respond(reply: &Reply) -> Response<Vec<u8>> {
    let built = Response::builder().status(reply.status).header("Content-Length", reply.body.len());
    let fields = reply.fields(fastrand::u32(..));
    let built = fields.fold(built, |built, (name, value)| built.header(name, &*value));
    // Every part is a constant or a number.
    built.body(reply.body.as_bytes().to_vec()).unwrap_or_default()
}
