//! The platform: which server a request goes to, and what of the request goes there.
//!
//! No peer without a [`Pass`]: whoever asks for one shows that the check happened. Addresses are resolved
//! beside the requests, never in one.

use std::cell::Cell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::Result;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::CertKey;

use super::request::{OTHER_CREDENTIAL, managed_names};
use crate::auth::fields::ManagedFields;
use crate::auth::gate::Pass;
use crate::config::Platform;

/// The platform's servers and the rules for what they see.
pub struct Upstream {
    peers: ArcSwap<Vec<HttpPeer>>,
    names: Vec<String>,
    template: HttpPeer,
    identity_fields: [HeaderName; 3],
    managed: ManagedFields,
    forward_token: bool,
    forward_authorization: bool,
}

/// What of a request its forwarding depends on.
pub struct Forwarded<'r> {
    /// The proof that it may go on.
    pub pass: &'r Pass,
    /// Does it have fields that must be dropped?
    pub has_managed: bool,
    /// The id that the platform, the client and the log all see.
    pub request_id: &'r str,
    /// The client's address, without its port.
    pub client: Option<HeaderValue>,
    /// Did it come over TLS?
    pub is_tls: bool,
}

impl Upstream {
    /// Resolves every server once; a name that nobody knows is an error here and a log line later.
    pub fn new(platform: Platform) -> std::io::Result<Arc<Self>> {
        let managed = ManagedFields::new(platform.identity_fields.iter().map(String::as_str));
        // Three names for the life of the process: borrowed for ever, they are never counted per request.
        let forever = |name: String| HeaderName::from_static(name.to_ascii_lowercase().leak());
        let identity_fields = platform.identity_fields.clone().map(forever);
        let upstream = Self {
            peers: ArcSwap::default(),
            template: template(&platform),
            identity_fields,
            managed,
            forward_token: platform.forward_token,
            forward_authorization: platform.forward_authorization,
            names: platform.servers,
        };
        upstream.peers.store(upstream.resolve()?.into());
        let upstream = Arc::new(upstream);
        let literal = |name: &String| name.parse::<SocketAddr>().is_ok();
        if !upstream.names.iter().all(literal) {
            let weak = Arc::downgrade(&upstream);
            thread::Builder::new().name("resolver".into()).spawn(move || refresh(&weak))?;
        }
        Ok(upstream)
    }

    /// The names that belong to the gateway.
    pub const fn managed(&self) -> &ManagedFields {
        &self.managed
    }

    /// How many servers there are.
    pub fn servers(&self) -> usize {
        self.peers.load().len()
    }

    /// The server for the given try of a request that was let through; tries of one request go round.
    pub fn peer(&self, _pass: &Pass, first: usize, tries: usize) -> Option<Box<HttpPeer>> {
        let peers = self.peers.load();
        let at = first.wrapping_add(tries).checked_rem(peers.len())?;
        peers.get(at).cloned().map(Box::new)
    }

    /// Where this thread's next request goes first: round robin, without a counter that cores share.
    pub fn next(&self) -> usize {
        thread_local! {
            static NEXT: Cell<usize> = const { Cell::new(0) };
        }
        NEXT.with(|next| next.replace(next.get().wrapping_add(1)))
    }

    /// Takes from a request what must not go on, and adds what the platform is told. It works on the copy
    /// that is about to be sent, after the engine has dropped the hop-by-hop fields.
    pub fn rewrite(&self, headers: &mut HeaderMap, forwarded: &Forwarded<'_>) -> Result<()> {
        let permit = match forwarded.pass {
            Pass::Permit(permit) => Some(permit),
            Pass::Public(_) => None,
        };
        let keep_token = permit.is_some() && self.forward_token;
        if forwarded.has_managed || !keep_token {
            let keep_authorization = permit.is_some() && self.forward_authorization;
            let names = managed_names(headers, &self.managed, keep_token, keep_authorization);
            for name in &names {
                headers.remove(name);
            }
        }
        headers.reserve(FIELDS);
        if let Some(permit) = permit {
            for (name, value) in self.identity_fields.iter().zip(permit.fields()) {
                headers.insert(name, value.clone());
            }
        } else {
            headers.remove(OTHER_CREDENTIAL);
        }
        join_cookies(headers)?;
        headers.insert(&REQUEST_ID, value_of(forwarded.request_id)?);
        if let Some(client) = &forwarded.client {
            headers.insert(&FORWARDED_FOR, client.clone());
        }
        let scheme = if forwarded.is_tls { "https" } else { "http" };
        headers.insert(&FORWARDED_PROTO, HeaderValue::from_static(scheme));
        Ok(())
    }

    fn resolve(&self) -> std::io::Result<Vec<HttpPeer>> {
        let mut peers = Vec::new();
        for name in &self.names {
            let addresses = name.to_socket_addrs().map_err(|error| {
                std::io::Error::new(error.kind(), format!("the platform's server {name}: {error}"))
            })?;
            for address in addresses {
                let mut peer = self.template.clone();
                peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
                peers.push(peer);
            }
        }
        Ok(peers)
    }
}

/// HTTP/2 may send cookies in several fields, HTTP/1 in one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<()> {
    let mut cookies = headers.get_all(http::header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let rest = cookies.map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> = [first.as_bytes(), second.as_bytes()].into_iter().chain(rest).collect();
        let joined = HeaderValue::from_bytes(&all.join(b"; ".as_slice()))
            .map_err(|error| pingora::Error::because(pingora::ErrorType::InternalError, "cookies", error))?;
        headers.insert(http::header::COOKIE, joined);
    }
    Ok(())
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many fields are added at most.
const FIELDS: usize = 6;

fn value_of(text: &str) -> Result<HeaderValue> {
    // What comes here is percent-encoded, hexadecimal or an address: always a value.
    HeaderValue::from_str(text)
        .map_err(|error| pingora::Error::because(pingora::ErrorType::InternalError, "field value", error))
}

/// All that is the same for every server. pingora's own defaults are no time-outs at all.
fn template(platform: &Platform) -> HttpPeer {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let name = platform.tls.as_ref().map_or(String::new(), |tls| tls.server_name.clone());
    let mut peer = HttpPeer::new(unspecified, platform.tls.is_some(), name);
    let options = &mut peer.options;
    options.connection_timeout = Some(platform.connect_timeout);
    options.total_connection_timeout = Some(platform.connect_timeout * 2);
    options.read_timeout = Some(platform.read_timeout);
    options.write_timeout = Some(platform.write_timeout);
    options.idle_timeout = Some(platform.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    if let Some(tls) = &platform.tls {
        options.verify_cert = tls.verify;
        options.verify_hostname = tls.verify;
        options.ca = tls.ca.as_ref().map(|chain| Arc::new(chain.clone().into_boxed_slice()));
        peer.client_cert_key =
            tls.client.as_ref().map(|pair| Arc::new(CertKey::new(pair.chain.clone(), pair.key.clone())));
    }
    peer
}

/// Looks the names up again and again; a failure keeps what was known.
fn refresh(upstream: &Weak<Upstream>) {
    loop {
        thread::sleep(REFRESH);
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        match upstream.resolve() {
            Ok(peers) => upstream.peers.store(peers.into()),
            Err(error) => log::warn!("{error}; the last known addresses stay in use"),
        }
    }
}

/// How often names are looked up.
const REFRESH: Duration = Duration::from_secs(30);
