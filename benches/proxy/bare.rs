//! Bare pingora-proxy: no filter, no check, no header of ours, which is the yardstick; and the same with the fields and
//! time-outs that any gateway has, which tells what of the difference is the engine's.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::listeners::tls::TlsSettings;
use pingora::modules::http::HttpModules;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

use crate::client;
use crate::gateway::Certificate;
use crate::process::{self, Running};
use crate::server::Server;

/// First arguments that turn this binary into the server.
const MODE: &str = "bare";
const MODE_WITH_FIELDS: &str = "bare-with-fields";

/// What the server does beyond forwarding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Duties {
    /// Nothing.
    None,
    /// The fields that a gateway must set and the time-outs that it must have, by pingora's own means and with no
    /// decision behind them: what is left for the gateway's own work is what it costs beyond this.
    Fields,
}

/// Starts this very binary as the bare server on the proxy's core and waits until it answers.
pub async fn start(platform: SocketAddr, duties: Duties) -> Result<Server> {
    start_with(&[], platform, duties, None).await
}

/// The server with no duties, with TLS too.
pub async fn start_tls(platform: SocketAddr, certificate: &Certificate) -> Result<Server> {
    start_with(&[], platform, Duties::None, Some(certificate)).await
}

/// The server with no duties, with a command before it.
pub async fn start_under(wrapper: &[String], platform: SocketAddr) -> Result<Server> {
    start_with(wrapper, platform, Duties::None, None).await
}

async fn start_with(
    wrapper: &[String],
    platform: SocketAddr,
    duties: Duties,
    certificate: Option<&Certificate>,
) -> Result<Server> {
    let address = process::free_address()?;
    let mut https = None;
    let mut command = process::on_proxy_core_under(wrapper, std::env::current_exe()?);
    let mode = if duties == Duties::None { MODE } else { MODE_WITH_FIELDS };
    command.args([mode, &address.to_string(), &platform.to_string()]);
    if let Some(Certificate { chain, key }) = certificate {
        let address = process::free_address()?;
        command.arg(address.to_string()).args([chain, key]);
        https = Some(address);
    }
    let process = Running::spawn(command)?;
    process::until("the bare server answers", async || client::get(address, "/").await.is_ok()).await?;
    Ok(Server { process, http: address, https, admin: None, access_log: None })
}

/// Serves until killed, if these are the arguments for it.
pub fn serve(arguments: &[String]) -> Option<Result<()>> {
    let [mode, listen, platform, tls @ ..] = arguments else { return None };
    let platform: SocketAddr = platform.parse().ok()?;
    match mode.as_str() {
        MODE => Some(run(listen, tls, Bare { peer: HttpPeer::new(platform, false, String::new()) })),
        MODE_WITH_FIELDS => {
            let mut peer = HttpPeer::new(platform, false, String::new());
            peer.options.connection_timeout = Some(Duration::from_secs(2));
            peer.options.total_connection_timeout = Some(Duration::from_secs(4));
            peer.options.read_timeout = Some(Duration::from_secs(60));
            peer.options.write_timeout = Some(Duration::from_secs(30));
            peer.options.idle_timeout = Some(Duration::from_secs(50));
            Some(run(listen, tls, WithFields { peer }))
        }
        _ => None,
    }
}

fn run<P: ProxyHttp + Send + Sync + 'static>(listen: &str, tls: &[String], proxy: P) -> Result<()>
where
    P::CTX: Send + Sync,
{
    // As the gateway's.
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = pingora::server::Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(listen);
    if let [listen, chain, key] = tls {
        let mut settings = TlsSettings::intermediate(chain, key)?;
        settings.enable_h2();
        service.add_tls_with_settings(listen, None, settings);
    }
    server.add_service(service);
    server.run_forever()
}

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    /// Without the compression module that pingora adds by default, as in the gateway.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

struct WithFields {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for WithFields {
    type CTX = String;

    fn new_ctx(&self) -> String {
        format!("{:032x}", fastrand::u128(..))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _id: &mut String) -> pingora::Result<()> {
        session.set_keepalive(Some(60));
        session.set_read_timeout(Some(Duration::from_secs(30)));
        session.set_write_timeout(Some(Duration::from_secs(30)));
        Ok(())
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _id: &mut String,
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        id: &mut String,
    ) -> pingora::Result<()> {
        request.insert_header("X-DS-User", "bench")?;
        request.insert_header("X-DS-Email", "bench@example.com")?;
        request.insert_header("X-DS-Organization", "Main Org.")?;
        request.insert_header("X-Request-Id", id.as_str())?;
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        request.insert_header("X-Forwarded-Proto", "http")
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        id: &mut String,
    ) -> pingora::Result<()> {
        response.insert_header("X-Request-Id", id.as_str())
    }
}
