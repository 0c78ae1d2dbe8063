//! `ds-gateway demo`: the whole thing on loopback, with a platform that shows what it received.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use http::Response;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use super::context::{LOCK_WAIT, RETRY, run};
use super::output::Failure;
use crate::app::{self, Hooks, Listening};
use crate::auth::secret::Secret;
use crate::clock::Clock;
use crate::config::{Config, Materials};
use crate::edge::listener::Bound;
use crate::logging::Sink;
use crate::service::users::{self, AddError, NewPassword, Users};
use crate::state_dir::{Creation, Services, State};
use crate::store::Opening;
use crate::store::command::Actor;

/// `ds-gateway demo`
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// The port for HTTPS on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 8443)]
    port: u16,
}

impl Demo {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let folder =
            tempfile::Builder::new().prefix("ds-gateway-demo-").tempdir().map_err(Failure::cannot_start)?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let platform = Bound::bind("platform", any).map_err(Failure::cannot_start)?;
        let (config, materials) = configuration(folder.path(), self.port, platform.address())?;
        let sink = Sink::install(config.log.clone());
        add_user(&config)?;
        let hooks = Hooks {
            services: vec![Box::new(app::local_service("platform", Echo, config.limits, vec![platform])?)],
            announce: Some(explain),
            on_exit: Some(Box::new(move || drop(folder))),
        };
        let outcome = app::run((config, materials), Opening::Run, Creation::IfNew, &sink, hooks);
        sink.drain();
        Ok(outcome?)
    }
}

fn configuration(folder: &Path, port: u16, platform: SocketAddr) -> Result<(Config, Materials), Failure> {
    let text = format!(
        r#"
        [server]
        https = ["127.0.0.1:{port}"]
        state_dir = "state"
        [admin]
        listen = "127.0.0.1:0"
        [platform]
        servers = ["http://{platform}"]
        [routes]
        public = ["/ds-api/", "/ds-api/download/*"]
        [log]
        format = "text"
        "#
    );
    let (config, _) = Config::parse(&text, folder, std::iter::empty());
    config.map_err(|errors| Failure::configuration(folder, &errors))
}

fn add_user(config: &Config) -> Result<(), Failure> {
    let keys = crate::config::SigningKeys::Generated;
    let folder = &config.server.state_dir;
    let services = Services { clock: Clock::start(), metrics: Arc::default(), lock_wait: LOCK_WAIT };
    let state = State::open(folder, &config.store, keys, Opening::Run, Creation::IfNew, services)?;
    let users = Users::new(state.store, Actor::operator("demo", "demo"), RETRY);
    let identity = users::identity(USER, "my.user@example.com", "Main Org.")?;
    let password = NewPassword::parse(Secret::new(PASSWORD.into()))?;
    run(async {
        users.add(identity, password).await.map_err(|error| match error {
            AddError::Password(error) => error.into(),
            AddError::Conflict(conflict) => {
                Failure::cannot_start(format!("the demo's user cannot be added: {conflict:?}"))
            }
            AddError::Store(error) => error.into(),
        })
    })
}

fn explain(listening: &Listening) {
    let Some((https, admin)) = listening.https.first().zip(listening.admin.first()) else {
        return;
    };
    let url = format!("https://{https}");
    // A reader that went away is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "\
ds-gateway demo: a gateway on {url}, in front of a platform that shows what it received.
Everything it keeps is in a temporary folder that goes with it. Ctrl-C ends it.

# Obtain a token
curl -u {USER}:{PASSWORD} -k -X POST {url}/ds-api/user-token

# Keep one in a variable
TOKEN=$(curl -s -u {USER}:{PASSWORD} -k -X POST {url}/ds-api/user-token | cut -d '\"' -f 4)

# What does it say?
curl -u {USER}:{PASSWORD} -k -X GET {url}/ds-api/user-token?token=$TOKEN

# With it, a request reaches the platform; without it, 401
curl -k -H \"user-token: $TOKEN\" {url}/ds-api/servers
curl -k {url}/ds-api/servers

# Public in this demo
curl -k {url}/ds-api/

# What the gateway counted
curl -s http://{admin}/metrics
"
    );
}

/// Answers every request with what it received.
struct Echo;

#[async_trait]
impl ServeHttp for Echo {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let headers: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| {
                let shown = match name.as_str() {
                    "user-token" => "…".into(),
                    _ => String::from_utf8_lossy(value.as_bytes()),
                };
                format!("{name}: {shown}")
            })
            .collect();
        let body = serde_json::json!({
            "platform": "a stand-in that shows what it received",
            "method": request.method.as_str(),
            "target": String::from_utf8_lossy(request.raw_path()),
            "headers": headers,
        });
        let body = format!("{body:#}\n").into_bytes();
        // Every part is a constant or a number.
        Response::builder()
            .header("Content-Type", "application/json")
            .header("Content-Length", body.len())
            .body(body)
            .unwrap_or_default()
    }
}

const USER: &str = "myUser";
const PASSWORD: &str = "myPassword";
