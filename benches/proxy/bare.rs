//! Bare pingora-proxy: no filter, no check, no header of ours. The yardstick.

use std::net::SocketAddr;

use anyhow::Result;
use async_trait::async_trait;
use pingora::modules::http::HttpModules;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

use crate::load;
use crate::process::{self, Running, Server};

/// The first argument that turns this binary into the bare server.
pub const MODE: &str = "bare";

/// Starts this very binary as the bare server on the proxy's core and waits until it answers.
pub async fn start(platform: SocketAddr) -> Result<Server> {
    let address = process::free_address()?;
    let mut command = process::on_proxy_core(std::env::current_exe()?);
    command.args([MODE, &address.to_string(), &platform.to_string()]);
    let process = Running::spawn(command)?;
    process::until("the bare server answers", async || load::get(address, "/").await.is_ok()).await?;
    Ok(Server { process, http: address })
}

/// Serves until killed.
pub fn serve(listen: &str, platform: SocketAddr) -> Result<()> {
    // As the gateway's.
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = pingora::server::Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(
        &server.configuration,
        Bare { peer: HttpPeer::new(platform, false, String::new()) },
    );
    service.add_tcp(listen);
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
