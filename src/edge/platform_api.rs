//! Requests of the gateway's own to the platform: a user's password, checked by the platform's token endpoint. They take connections of
//! their own, so that a platform that is slow with them keeps no client's request waiting.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, USER_AGENT};
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::errors::try_fault;
use super::upstream::{Retry, Tries, Upstream, is_verified};
use crate::auth::secret::Secret;
use crate::metrics::TryFault;
use crate::service::login::platform::{ApiAnswer, ApiRequest, PlatformApi};
use crate::service::login::source::Unavailable;

/// The platform's servers, asked by the gateway itself.
pub struct OwnRequests {
    upstream: Arc<Upstream>,
    connector: Connector,
    /// For all of one request.
    limit: Duration,
}

impl OwnRequests {
    /// Asks these servers, which have so long for each answer.
    pub fn new(upstream: Arc<Upstream>, limit: Duration) -> Self {
        Self { upstream, connector: Connector::new(None), limit }
    }

    async fn exchange(&self, request: &ApiRequest, tries: &mut Tries) -> Result<ApiAnswer, Unavailable> {
        let mut session = self.connect(tries).await?;
        let head = self.head(request, tries).ok_or(Unavailable::Invalid)?;
        match answer(&mut session, head).await {
            Ok(answer) => {
                self.upstream.answered(tries, answer.status, None);
                Ok(answer)
            }
            Err(fault) => {
                self.upstream.failed(tries, fault);
                Err(unavailable(fault))
            }
        }
    }

    /// A connection to a server that takes one.
    async fn connect(&self, tries: &mut Tries) -> Result<HttpSession, Unavailable> {
        loop {
            let peer = self.upstream.own_peer(tries).ok_or(Unavailable::Unreachable)?;
            let fault = match self.connector.get_http_session(&*peer).await {
                Ok((session, _)) if is_verified(&peer, session.digest().ssl_digest.as_deref()) => {
                    return Ok(session);
                }
                Ok(_) => TryFault::Tls,
                Err(error) => try_fault(&error.into_up(), false).unwrap_or(TryFault::ConnectFailed),
            };
            self.upstream.failed(tries, fault);
            // Nothing was sent.
            if self.upstream.may_retry(tries, true) != Retry::Granted {
                return Err(unavailable(fault));
            }
        }
    }

    fn head(&self, request: &ApiRequest, tries: &Tries) -> Option<RequestHeader> {
        let ApiRequest { method, target, authorization } = request;
        let mut head = RequestHeader::build(*method, target.expose_secret(), Some(5)).ok()?;
        let mut authorization = HeaderValue::from_bytes(authorization.expose_secret()).ok()?;
        authorization.set_sensitive(true);
        head.insert_header(HOST, self.upstream.host(tries)?.value.clone()).ok()?;
        head.insert_header(AUTHORIZATION, authorization).ok()?;
        head.insert_header(ACCEPT, "application/json").ok()?;
        head.insert_header(USER_AGENT, "ds-gateway").ok()?;
        if *method == "POST" {
            head.insert_header(CONTENT_LENGTH, "0").ok()?;
        }
        Some(head)
    }
}

#[async_trait]
impl PlatformApi for OwnRequests {
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, Unavailable> {
        let mut tries = Tries::default();
        match timeout(self.limit, self.exchange(&request, &mut tries)).await {
            Ok(answered) => answered,
            Err(_) => {
                self.upstream.failed(&mut tries, TryFault::ReadTimeout);
                Err(Unavailable::TimedOut)
            }
        }
    }
}

/// Sends a request and reads all of its answer. The connection is not used again.
async fn answer(session: &mut HttpSession, head: RequestHeader) -> Result<ApiAnswer, TryFault> {
    let fault =
        |error: Box<pingora::Error>| try_fault(&error.into_up(), false).unwrap_or(TryFault::Malformed);
    session.write_request_header(Box::new(head)).await.map_err(fault)?;
    session.finish_body().await.map_err(fault)?;
    let status = loop {
        session.read_response().await.map_err(fault)?;
        let status = session.get_status().ok_or(TryFault::Malformed)?.as_u16();
        // Nobody asked for an interim answer, which may come all the same (RFC 9110 §15.2).
        if status >= 200 {
            break status;
        }
    };
    // Reserved at once: what it grew out of would not be wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_ANSWER));
    while let Some(bytes) = session.read_body_ref().await.map_err(fault)? {
        if body.len() + bytes.len() > LONGEST_ANSWER {
            return Err(TryFault::Malformed);
        }
        body.extend_from_slice(bytes);
    }
    Ok(ApiAnswer { status, body: Secret::new(std::mem::take(&mut *body)) })
}

const fn unavailable(fault: TryFault) -> Unavailable {
    match fault {
        TryFault::ConnectTimeout | TryFault::ReadTimeout | TryFault::WriteTimeout => Unavailable::TimedOut,
        TryFault::Malformed | TryFault::EndlessInterim | TryFault::ServerError => Unavailable::Invalid,
        _ => Unavailable::Unreachable,
    }
}

/// An answer has at most so many bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
